// Tandem — Apache-2.0

import HTTPCore
import NIOCore
import NIOPosix

/// Keeps the certificate that clients are shown as its files have it. What fails leaves everything as it was, and is said
/// once.
///
/// Lives on one event loop; files are read on other threads.
final class CertificateWatch {
    /// A renewal comes days before it is needed.
    static let interval = TimeAmount.seconds(10)

    private let eventLoop: any EventLoop
    private let tls: ServerTLS
    private let workers: NIOThreadPool
    private let secondsSince1970: @Sendable () -> Int
    private let log: @Sendable (String) -> Void
    private let renewed: @Sendable (ServerTLS) -> Void
    private var isReading = false
    /// What was last said of the files; empty if nothing is wrong with them.
    private var trouble = ""
    private var timer: RepeatedTask?

    /// - Parameter renewed: called with the certificate at the start and whenever it is another one.
    init(
        eventLoop: any EventLoop, tls: ServerTLS, workers: NIOThreadPool,
        secondsSince1970: @escaping @Sendable () -> Int, log: @escaping @Sendable (String) -> Void,
        renewed: @escaping @Sendable (ServerTLS) -> Void
    ) {
        self.eventLoop = eventLoop
        self.tls = tls
        self.workers = workers
        self.secondsSince1970 = secondsSince1970
        self.log = log
        self.renewed = renewed
    }

    /// Begins to watch; called once, on the event loop.
    func start() {
        tell()
        let watch = NIOLoopBound(self, eventLoop: eventLoop)
        timer = eventLoop.scheduleRepeatedTask(initialDelay: Self.interval, delay: Self.interval) { _ in
            watch.value.look()
        }
    }

    func shutdown() {
        timer?.cancel()
        timer = nil
    }

    func look() {
        guard !isReading else { return }
        isReading = true
        let (tls, now) = (tls, secondsSince1970())
        workers.runIfActive(eventLoop: eventLoop) { () -> Result<Bool, TLSError> in
            do throws(TLSError) {
                return .success(try tls.refresh(now: now))
            } catch {
                return .failure(error)
            }
        }.assumeIsolated().whenComplete { [self] outcome in
            isReading = false
            switch outcome {
            case .success(.success(let isNew)):
                trouble = ""
                guard isNew else { return }
                log("\(tls.files.certificate): new connections get the certificate that is there now")
                tell()
            case .success(.failure(let error)):
                // A certificate and its key are seldom replaced in the same moment.
                guard trouble != "\(error)" else { return }
                trouble = "\(error)"
                log("\(error); the certificate stays as it was")
            case .failure: break
            }
        }
    }

    private func tell() {
        for warning in tls.warnings { log("warning: \(warning)") }
        renewed(tls)
    }
}
