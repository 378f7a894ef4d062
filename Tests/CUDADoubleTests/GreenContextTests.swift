// Tandem — Apache-2.0

import Testing

@testable import CUDADriver

@Suite struct GreenContextTests {
    @Test func partsAreEqualAndMultiplesOfWhatTheDeviceDivides() throws {
        let context = try DoubleLibrary().context()
        for (count, size) in [(1, 128), (2, 64), (3, 40), (4, 32), (16, 8)] {
            let parts = try GreenContext.equalParts(of: context, count: count)
            #expect(parts.map(\.multiprocessors) == Array(repeating: size, count: count))
        }
        let older = try DoubleLibrary(["CAPABILITY": "8.0", "MULTIPROCESSORS": "108"]).context()
        #expect(try GreenContext.equalParts(of: older, count: 2).map(\.multiprocessors) == [52, 52])
    }

    @Test func sizesArePure() {
        #expect(GreenContext.partSize(of: 132, count: 2, step: 8) == 64)
        #expect(GreenContext.partSize(of: 132, count: 17, step: 8) == 0)
        #expect(GreenContext.partSize(of: 10, count: 0, step: 0) == 10)
    }

    @Test(arguments: orders) func workOfAPartIsComputedLikeAny(_ order: String) throws {
        let library = try DoubleLibrary(["ORDER": order])
        let before = try library.counter("live_objects")
        do {
            let context = try library.context()
            let parts = try GreenContext.equalParts(of: context, count: 2)
            let memory = try DeviceMemory(context, byteCount: 8, purpose: "a test")
            for (index, part) in parts.enumerated() {
                let stream = try CUDAStream(context, priority: -1, part: part)
                let address = memory.address + UInt64(4 * index)
                try stream.fill(address, word: UInt32(7 + index), count: 1)
                let copied = try stream.capture { () throws(CUDAError) in
                    try stream.copy(from: address, to: address, byteCount: 0)
                    try stream.fill(address, word: UInt32(17 + index), count: 1)
                }
                #expect(try stream.download(address, count: 1, as: UInt32(0)) == [UInt32(7 + index)])
                try stream.launch(copied)
                #expect(try stream.download(address, count: 1, as: UInt32(0)) == [UInt32(17 + index)])
            }
        }
        #expect(try library.counter("live_objects") == before)
    }

    @Test func whatCannotBeDividedIsSaid() throws {
        func failure(_ settings: [String: String], parts: Int) throws -> CUDAError? {
            let context = try DoubleLibrary(settings).context()
            do throws(CUDAError) {
                _ = try GreenContext.equalParts(of: context, count: parts)
                return nil
            } catch {
                return error
            }
        }
        let many = try failure([:], parts: 17)
        #expect(many?.kind == .unsupported && many?.description.contains("at most 16") == true)
        let old = try failure(["DRIVER": "12040"], parts: 2)
        #expect(old?.kind == .unsupported && old?.description.contains("driver 555") == true)
        let none = try failure(["GREEN_CONTEXTS": "0"], parts: 2)
        #expect(none?.kind == .unsupported && none?.description.contains("--gpu-partition none") == true)
        #expect(try failure([:], parts: 0)?.kind == .unsupported)
    }
}
