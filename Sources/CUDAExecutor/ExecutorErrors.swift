// Tandem — Apache-2.0

import CUDADriver
import InferenceEngine

extension ExecutorError {
    /// What an error of the GPU means for the engine.
    ///
    /// - Parameter sharesContext: whether the engine goes through MPS, where a fatal fault takes all clients along.
    init(_ error: CUDAError, sharesContext: Bool) {
        let message = error.description
        switch error.kind {
        case .outOfMemory: self.init(kind: .outOfMemory, message: message)
        case .retry: self.init(kind: .retry, message: message)
        case .missing, .unsupported: self.init(kind: .unsupported, message: message)
        case .mps where !error.losesContext: self.init(kind: .retry, message: message)
        case .mps:
            // 806: the server is gone, for everybody. 810: only this client was ended.
            self.init(kind: .fatal, message: message, concernsAll: error.code == 806)
        case .fatal: self.init(kind: .fatal, message: message, concernsAll: sharesContext)
        // A wrong call is an error of this program: a new process begins with a clean context.
        case .invalid: self.init(kind: .fatal, message: message)
        }
    }
}
