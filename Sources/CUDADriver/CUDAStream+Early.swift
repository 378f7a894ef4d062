// Tandem — Apache-2.0

internal import CTandemSystem

extension CUDADevice {
    /// Whether a kernel may start before the one before it has ended ("Programmatic Dependent Launch", CUDA programming
    /// guide): compute capability 9.0, and a driver that keeps such launches in graphs (12.3).
    public var startsKernelsEarly: Bool {
        computeCapability >= ComputeCapability(major: 9, minor: 0)
            && driver.version >= CUDAVersion(major: 12, minor: 3)
    }
}

extension CUDAStream {
    /// `CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION`.
    private static let programmaticSerialization: Int32 = 6

    func launchEarly(
        _ function: CUDAFunction, _ shape: LaunchShape,
        _ parameters: UnsafeMutablePointer<UnsafeMutableRawPointer?>?
    ) -> Status {
        var attribute = tandem_cuda_launch_attribute()
        attribute.id = Self.programmaticSerialization
        attribute.value.0 = 1
        return withUnsafeMutablePointer(to: &attribute) { attribute in
            var config = tandem_cuda_launch_config(
                grid: (shape.grid.x, shape.grid.y, shape.grid.z), block: (shape.block.x, shape.block.y, shape.block.z),
                shared_bytes: shape.sharedBytes, stream: UInt64(handle), attributes: attribute, attribute_count: 1)
            return context.functions.launchWithAttributes(&config, function.handle, parameters, nil)
        }
    }
}
