// Tandem — Apache-2.0

internal import CTandemSystem

/// A part of a device's multiprocessors, which no other part has: work of its streams runs on these alone.
///
/// It has no memory and no kernels of its own: those of the device's primary context are used, which stays the current
/// one. Parts do not promise that work of two of them runs at the same time.
public final class GreenContext: Sendable {
    /// The oldest CUDA whose drivers make streams of such parts.
    public static let oldestVersion = CUDAVersion(major: 12, minor: 5)

    public let context: CUDAContext
    /// How many it has.
    public let multiprocessors: Int
    let handle: DriverHandle
    private let functions: GreenContextFunctions

    private init(
        _ context: CUDAContext, _ functions: GreenContextFunctions, resource: tandem_cuda_device_resource
    ) throws(CUDAError) {
        var resource = resource
        var description: DriverHandle = 0
        try context.check(
            functions.describe(&description, &resource, 1), "cuDevResourceGenerateDesc",
            "\(resource.multiprocessors) multiprocessors")
        var handle: DriverHandle = 0
        // 1: has a default stream, which the driver asks for.
        try context.check(
            functions.create(&handle, description, context.device.ordinal, 1), "cuGreenCtxCreate",
            "\(resource.multiprocessors) multiprocessors")
        self.context = context
        self.functions = functions
        self.handle = handle
        multiprocessors = Int(resource.multiprocessors)
    }

    deinit { context.release { functions.destroy(handle) } }

    /// Makes a stream whose work stays within the part.
    func stream(priority: Int32) throws(CUDAError) -> DriverHandle {
        var stream: DriverHandle = 0
        // 1: does not wait for the default stream.
        try context.check(functions.streamCreate(&stream, handle, 1, priority), "cuGreenCtxStreamCreate")
        return stream
    }

    /// Multiprocessors of each of so many equal parts.
    ///
    /// - Parameters:
    ///   - multiprocessors: of the device.
    ///   - step: what a part is a multiple of; the least part, too.
    /// - Returns: 0 if there are too few.
    public static func partSize(of multiprocessors: Int, count: Int, step: Int) -> Int {
        multiprocessors / max(1, count) / max(1, step) * max(1, step)
    }

    /// What parts are multiples of, by the generation of the device. CUDA driver API, "Green Contexts": 8 from compute
    /// capability 9.0 on. Below, 2 and at least 4: 4 is both.
    public static func step(of capability: ComputeCapability) -> Int { capability.major >= 9 ? 8 : 4 }

    /// Divides the device of a context into equal parts; what does not divide is left unused. The context must be
    /// current.
    ///
    /// - Throws: `unsupported` if the driver or the device cannot.
    public static func equalParts(of context: CUDAContext, count: Int) throws(CUDAError) -> [GreenContext] {
        let device = context.device
        guard let functions = context.functions.greenContexts, device.driver.version >= oldestVersion else {
            throw CUDAError(
                kind: .unsupported, call: "cuGreenCtxStreamCreate",
                detail: "the driver supports CUDA \(device.driver.version), and parts of a GPU need \(oldestVersion)",
                remedy: "install driver 555 or later, or take --gpu-partition none")
        }
        var whole = tandem_cuda_device_resource()
        // 1: multiprocessors.
        let status = functions.deviceResource(device.ordinal, &whole, 1)
        // 801: this device has none to divide, as a MIG instance of the least size.
        guard status != 801 else {
            throw CUDAError(
                kind: .unsupported, call: "cuDeviceGetDevResource", detail: "\(device.name) cannot be divided",
                remedy: "take --gpu-partition none")
        }
        try context.check(status, "cuDeviceGetDevResource")
        let total = Int(whole.multiprocessors)
        let step = step(of: device.computeCapability)
        let size = partSize(of: total, count: count, step: step)
        guard count > 0, size > 0 else {
            throw CUDAError(
                kind: .unsupported, call: "cuDevSmResourceSplitByCount",
                detail: "\(total) multiprocessors make no \(count) parts of \(step) at least",
                remedy: "host at most \(max(1, total / step)) in a process, or take --gpu-partition none")
        }
        var groups = [tandem_cuda_device_resource](repeating: tandem_cuda_device_resource(), count: count)
        var made = UInt32(count)
        var rest = tandem_cuda_device_resource()
        try context.check(
            functions.split(&groups, &made, &whole, &rest, 0, UInt32(size)), "cuDevSmResourceSplitByCount",
            "\(total) multiprocessors into parts of \(size)")
        guard made == count, groups.allSatisfy({ $0.multiprocessors == UInt32(size) }) else {
            throw CUDAError(
                kind: .unsupported, call: "cuDevSmResourceSplitByCount",
                detail: "\(count) parts of \(size) of \(total) multiprocessors became "
                    + groups.prefix(Int(made)).map { "\($0.multiprocessors)" }.joined(separator: " and "),
                remedy: "host fewer engines in a process, or take --gpu-partition none")
        }
        var parts: [GreenContext] = []
        for group in groups { parts.append(try GreenContext(context, functions, resource: group)) }
        return parts
    }
}

/// The driver's functions for parts of a device. Names and signatures: CUDA driver API reference, version 13.0; the last
/// of them exists since version 12.5.
struct GreenContextFunctions: Sendable {
    typealias Out<Value> = UnsafeMutablePointer<Value>

    let deviceResource: @convention(c) @Sendable (Int32, Out<tandem_cuda_device_resource>, Int32) -> Status
    let split:
        @convention(c) @Sendable (
            Out<tandem_cuda_device_resource>, Out<UInt32>, UnsafePointer<tandem_cuda_device_resource>,
            Out<tandem_cuda_device_resource>, UInt32, UInt32
        ) -> Status
    let describe: @convention(c) @Sendable (Out<DriverHandle>, Out<tandem_cuda_device_resource>, UInt32) -> Status
    let create: @convention(c) @Sendable (Out<DriverHandle>, DriverHandle, Int32, UInt32) -> Status
    let destroy: @convention(c) @Sendable (DriverHandle) -> Status
    let streamCreate: @convention(c) @Sendable (Out<DriverHandle>, DriverHandle, UInt32, Int32) -> Status

    /// Null if the driver is too old.
    init?(_ library: DynamicLibrary) {
        do throws(CUDAError) {
            deviceResource = try library.function("cuDeviceGetDevResource")
            split = try library.function("cuDevSmResourceSplitByCount")
            describe = try library.function("cuDevResourceGenerateDesc")
            create = try library.function("cuGreenCtxCreate")
            destroy = try library.function("cuGreenCtxDestroy")
            streamCreate = try library.function("cuGreenCtxStreamCreate")
        } catch {
            return nil
        }
    }
}
