// Tandem — Apache-2.0

import CUDADriver
import CUDAKernels

extension KernelLaunch {
    /// Puts the kernel into a stream.
    ///
    /// - Parameter startsEarly: see ``GPUSession/overlapsKernels``.
    func start(_ function: CUDAFunction, on stream: CUDAStream, startsEarly: Bool) throws(CUDAError) {
        var words = KernelArguments()
        withParameters { addresses in
            for index in 0..<argumentCount {
                // Each value stands at the beginning of a word of its own.
                words.append(addresses[index].map { $0.load(as: UInt64.self) } ?? 0)
            }
        }
        try stream.launch(
            function,
            LaunchShape(
                grid: LaunchShape.Extent(Int(grid.x), Int(grid.y), Int(grid.z)),
                block: LaunchShape.Extent(Int(block.x), Int(block.y), Int(block.z)), sharedBytes: Int(sharedBytes)),
            words, startsEarly: startsEarly)
    }
}
