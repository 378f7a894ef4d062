// Tandem — Apache-2.0

public import CUDADriver
import Glibc
public import InferenceEngine
public import LanguageModel
public import Requests
public import Weights

/// A model's weights in device memory for the engines of other processes. It computes nothing and loads no kernel, so
/// that no fault of a kernel can take it along.
public final class WeightStore {
    /// Where the weights come from.
    public enum Source {
        case file
        /// Memory that a store of an earlier process exported, with what that one offered.
        case exported(WeightOffer, descriptor: Int32)
    }

    public let offer: WeightOffer
    /// For people.
    public let deviceName: String
    private let context: CUDAContext
    private let stream: CUDAStream
    private let memory: any Sendable
    /// A descriptor of the memory, which stays the store's; -1 if it is shared in another way.
    public let descriptor: Int32

    /// Opens the GPU, and loads the weights or maps what was exported before.
    ///
    /// - Parameters:
    ///   - fingerprint: of the model with its ablation.
    ///   - source: what was exported before is loaded anew if it is not this model's.
    ///   - ways: how the memory may be shared, best first.
    ///   - report: takes one line for people.
    /// - Throws: ``ExecutorError`` as `CUDAExecutor` does; `unsupported` if the memory cannot be shared.
    public init(
        model: DecoderDescription, file: any TensorSource, fingerprint: Digest128, device selector: CUDADeviceSelector,
        environment: [String: String], source: Source = .file, ways: [WeightSharing] = WeightSharing.allCases,
        report: (String) -> Void = { _ in }, progress: (@Sendable (Double) -> Void)? = nil
    ) throws(ExecutorError) {
        let shape = try DeviceShape(model)
        let layout = WeightLayout(model, shape: shape)
        let context: CUDAContext
        do throws(CUDAError) {
            let device = try CUDADriver(environment: environment).device(selector)
            try device.requireSupport()
            context = try CUDAContext(device, waiting: .block)
            stream = try CUDAStream(context)
        } catch {
            throw ExecutorError(error, sharesContext: false)
        }
        self.context = context
        deviceName = context.device.name
        let identity = WeightIdentity(
            model: fingerprint, layout: layout.digest, byteCount: layout.byteCount, device: context.device.uuid)
        if case .exported(let offer, let descriptor) = source {
            do throws(ExecutorError) {
                memory = try ImportedWeights(context, offer, descriptor: descriptor, expecting: identity)
                self.offer = offer
                self.descriptor = descriptor
                return
            } catch {
                // It would keep the memory of those weights beside the new ones.
                close(descriptor)
                report("the weights of the process before cannot be taken over and are loaded anew: \(error.message)")
            }
        }
        try Self.requireRoom(context, layout.byteCount, model)
        let made = try Self.allocate(context, identity, ways, report)
        (offer, memory, descriptor) = (made.offer, made.memory, made.descriptor)
        try DeviceModel.load(context, stream, layout, made.address, model: model, file: file, progress)
    }

    deinit {
        if descriptor >= 0 { close(descriptor) }
    }

    private typealias Allocation = (
        offer: WeightOffer, memory: any Sendable, address: DeviceAddress, descriptor: Int32
    )

    /// Memory that is shared in the first way that works.
    private static func allocate(
        _ context: CUDAContext, _ identity: WeightIdentity, _ ways: [WeightSharing], _ report: (String) -> Void
    ) throws(ExecutorError) -> Allocation {
        var refusals: [String] = []
        for way in ways {
            do throws(CUDAError) {
                let made = try allocate(context, identity, way)
                if let refusal = refusals.first { report("weights are shared by CUDA IPC: \(refusal)") }
                return made
            } catch {
                guard !error.losesContext, error.kind != .outOfMemory else {
                    throw ExecutorError(error, sharesContext: context.device.usesMPS)
                }
                refusals.append("\(error)")
            }
        }
        throw ExecutorError(
            kind: .unsupported, message: "device memory cannot be shared: \(refusals.joined(separator: "; "))")
    }

    private static func allocate(
        _ context: CUDAContext, _ identity: WeightIdentity, _ way: WeightSharing
    ) throws(CUDAError) -> Allocation {
        switch way {
        case .descriptor:
            let memory = try VirtualMemory(context, capacity: identity.byteCount)
            let physical = try PhysicalMemory(
                context, byteCount: identity.byteCount, isShared: true, purpose: "shared weights")
            try memory.append(physical, isWritable: true)
            let offer = WeightOffer(identity: identity, sharing: way, mappedBytes: physical.byteCount)
            return (offer, memory, memory.address, try physical.descriptor())
        case .handle:
            let memory = try DeviceMemory(context, byteCount: identity.byteCount, purpose: "shared weights")
            let offer = WeightOffer(
                identity: identity, sharing: way, mappedBytes: identity.byteCount,
                handle: try memory.exported().bytes)
            return (offer, memory, memory.address, -1)
        }
    }

    private static func requireRoom(
        _ context: CUDAContext, _ bytes: Int, _ model: DecoderDescription
    ) throws(ExecutorError) {
        let memory: (free: Int, total: Int)
        do throws(CUDAError) {
            memory = try context.memory()
        } catch {
            throw ExecutorError(error, sharesContext: context.device.usesMPS)
        }
        try DeviceMemoryPlan.checkWeights(bytes, of: model, free: memory.free, total: memory.total, context.device.name)
    }
}
