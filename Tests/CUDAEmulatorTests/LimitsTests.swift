// Tandem — Apache-2.0

import CUDAEmulator
import CUDAKernels
import Glibc
import Testing

/// `limits.txt`, from which the table of resources is made, says of each kernel what its launches take.
@Suite struct LimitsTests {
    private static func lines() throws -> [[Substring]] {
        let path =
            #filePath.split(separator: "/").dropLast(3).reduce("") { $0 + "/" + $1 }
            + "/Sources/CUDAKernelText/Kernels/limits.txt"
        let file = try #require(fopen(path, "r"), "\(path) cannot be opened")
        defer { fclose(file) }
        var bytes = [UInt8](repeating: 0, count: 1 << 16)
        let count = fread(&bytes, 1, bytes.count, file)
        return String(decoding: bytes[..<count], as: UTF8.self).split(separator: "\n")
            .filter { !$0.hasPrefix("#") }.map { $0.split(separator: " ") }
    }

    @Test func blocksAreAsTheirLaunchesHaveThem() throws {
        let lines = try Self.lines()
        #expect(lines.map { String($0[0]) }.sorted() == Kernel.allCases.map(\.rawValue).sorted())
        for line in lines {
            let kernel = try #require(Kernel(rawValue: String(line[0])))
            #expect(line.count == 7)
            #expect(UInt32(line[1]) == tandem_emulator_thread_limit(kernel.rawValue), "\(kernel.rawValue)")
            #expect(Int(line[2]) == kernel.dynamicSharedBytes, "\(kernel.rawValue)")
            // A dash where the architecture has not got it.
            for (column, major) in [(3, 8), (4, 9), (5, 10)] {
                #expect((line[column] != "-") == kernel.exists(onComputeCapability: major), "\(kernel.rawValue)")
            }
        }
    }
}
