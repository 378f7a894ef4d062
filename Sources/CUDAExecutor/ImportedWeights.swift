// Tandem — Apache-2.0

import CUDADriver
import InferenceEngine

/// Another process's weights, mapped into this one; given back with the object.
final class ImportedWeights: Sendable {
    let address: DeviceAddress
    let byteCount: Int
    /// Keeps the mapping.
    private let memory: any Sendable

    /// Maps what was offered, if it is what is expected.
    ///
    /// - Parameter descriptor: stays open, and may be closed after this.
    /// - Throws: ``ExecutorError`` of kind `unsupported` for an offer of other weights, or that the driver does not take.
    init(
        _ context: CUDAContext, _ offer: WeightOffer, descriptor: Int32, expecting identity: WeightIdentity
    ) throws(ExecutorError) {
        if let difference = Self.difference(offer, identity) {
            throw ExecutorError(kind: .unsupported, message: difference)
        }
        do throws(CUDAError) {
            switch offer.sharing {
            case .descriptor:
                let physical = try PhysicalMemory(context, descriptor: descriptor, byteCount: offer.mappedBytes)
                let memory = try VirtualMemory(context, capacity: offer.mappedBytes)
                try memory.append(physical, isWritable: false)
                (address, self.memory) = (memory.address, memory)
            case .handle:
                guard let handle = ForeignMemory.Handle(bytes: offer.handle) else {
                    throw CUDAError(
                        kind: .invalid, call: "cuIpcOpenMemHandle", detail: "\(offer.handle.count) bytes are no handle")
                }
                let memory = try ForeignMemory(context, handle)
                (address, self.memory) = (memory.address, memory)
            }
        } catch {
            throw ExecutorError(error, sharesContext: context.device.usesMPS)
        }
        byteCount = identity.byteCount
    }

    /// Why an offer is not what is expected; null if it is.
    private static func difference(_ offer: WeightOffer, _ expected: WeightIdentity) -> String? {
        let identity = offer.identity
        if identity.device != expected.device { return "they are on GPU \(identity.device)" }
        if identity.model != expected.model || identity.layout != expected.layout {
            return "they are another model's"
        }
        if identity.byteCount != expected.byteCount || offer.mappedBytes < expected.byteCount {
            return "they have \(identity.byteCount) bytes in \(offer.mappedBytes), not \(expected.byteCount)"
        }
        return nil
    }
}
