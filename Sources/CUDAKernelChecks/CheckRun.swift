// Tandem — Apache-2.0

import CUDAKernels
import Glibc

/// Memory on the device that one check uses: arrays between guards, so that a kernel that writes beside one is found.
final class CheckRun {
    private let machine: any KernelMachine
    private var arrays: [(address: UInt64, byteCount: Int)] = []
    private(set) var result = CheckResult()

    /// Bytes of poison before and behind each array; a multiple of 16, and not of 32, so that arrays are aligned no
    /// better than kernels may ask.
    private static let guardBytes = 272

    init(machine: any KernelMachine) { self.machine = machine }

    // MARK: - Arrays

    /// An array on the device.
    struct Array<Element> {
        let pointer: DevicePointer<Element>
        let count: Int
    }

    /// An array whose bytes are all 0xFF: not a number, and no valid id.
    func poisoned<Element: BitwiseCopyable>(_: Element.Type, count: Int) throws -> Array<Element> {
        let byteCount = (count * MemoryLayout<Element>.stride + 15) / 16 * 16
        let address = try machine.allocate(byteCount: byteCount + 2 * Self.guardBytes)
        arrays.append((address, byteCount))
        return Array(pointer: DevicePointer(address: address + UInt64(Self.guardBytes)), count: count)
    }

    func array<Element: BitwiseCopyable>(_ values: [Element]) throws -> Array<Element> {
        let array = try poisoned(Element.self, count: values.count)
        try values.withUnsafeBytes { bytes in
            if !bytes.isEmpty { try machine.upload(bytes, to: array.pointer.address) }
        }
        return array
    }

    /// Copies an array back. Its bits become part of the result.
    func read<Element: BitwiseCopyable>(_ array: Array<Element>, filler: Element) throws -> [Element] {
        var values = Swift.Array(repeating: filler, count: array.count)
        try values.withUnsafeMutableBytes { bytes in
            if !bytes.isEmpty { try machine.download(array.pointer.address, into: bytes) }
        }
        values.withUnsafeBytes { bytes in
            for byte in bytes { result.digest = (result.digest ^ UInt64(byte)) &* 0x0000_0100_0000_01B3 }
        }
        return values
    }

    func read(_ array: Array<BFloat16>) throws -> [Float] {
        try read(array, filler: BFloat16(bits: 0)).map(\.float)
    }
    func read(_ array: Array<Float>) throws -> [Float] { try read(array, filler: 0) }
    func read(_ array: Array<Int32>) throws -> [Int32] { try read(array, filler: 0) }

    func launch(_ launch: KernelLaunch) throws { try machine.launch(launch) }

    // MARK: - Judgement

    func require(_ condition: Bool, _ message: @autoclosure () -> String) throws {
        guard condition else { throw CheckFailure(message()) }
    }

    /// Values that must be the same bit for bit.
    func expectEqual<Element: Equatable>(_ found: [Element], _ expected: [Element], _ what: String) throws {
        try require(found.count == expected.count, "\(what): \(found.count) values, not \(expected.count)")
        for index in found.indices where found[index] != expected[index] {
            throw CheckFailure("\(what)[\(index)] is \(found[index]), not \(expected[index])")
        }
    }

    /// Values that must be near a reference.
    ///
    /// - Parameters:
    ///   - relative: largest root of mean squares of the differences, relative to that of the reference.
    ///   - each: largest difference of one value, relative to the largest of the reference.
    func expectNear(_ found: [Float], _ expected: [Double], _ what: String, relative: Double, each: Double) throws {
        try require(found.count == expected.count, "\(what): \(found.count) values, not \(expected.count)")
        let largest = expected.reduce(0) { max($0, abs($1)) }
        var differences = 0.0
        var squares = 0.0
        for index in found.indices {
            let difference = abs(Double(found[index]) - expected[index])
            // A poisoned value is not a number, so it is not within any distance.
            guard difference <= each * largest else {
                throw CheckFailure("\(what)[\(index)] is \(found[index]), not about \(expected[index])")
            }
            differences += difference * difference
            squares += expected[index] * expected[index]
        }
        let error = squares > 0 ? (differences / squares).squareRoot() : differences.squareRoot()
        try require(error <= relative, "\(what) is off by \(error), more than \(relative)")
        result.error = max(result.error, error)
        result.share = max(result.share, error / relative)
    }

    /// Whether bytes around the arrays are as they were.
    func checkGuards() throws {
        var bytes = Swift.Array(repeating: UInt8(0), count: Self.guardBytes)
        for array in arrays {
            for address in [array.address, array.address + UInt64(Self.guardBytes + array.byteCount)] {
                try bytes.withUnsafeMutableBytes { try machine.download(address, into: $0) }
                try require(bytes.allSatisfy { $0 == 0xFF }, "a kernel wrote beside an array")
            }
        }
    }

    func release() {
        for array in arrays { machine.release(array.address) }
        arrays.removeAll()
    }
}

/// Numbers for inputs: SplitMix64 (Steele, Lea and Flood, 2014).
struct CheckRandom {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func word() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        return Self.mix(state)
    }

    static func mix(_ word: UInt64) -> UInt64 {
        var z = (word ^ (word >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    mutating func below(_ bound: Int) -> Int { Int(word() % UInt64(max(1, bound))) }
    mutating func uniform() -> Double { Double(word() >> 11) * 0x1p-53 }

    mutating func normal() -> Float {
        Float((-2 * log(uniform() + 0x1p-60)).squareRoot() * cos(2 * Double.pi * uniform()))
    }

    mutating func normals(_ count: Int, scale: Float = 1) -> [Float] { (0..<count).map { _ in scale * normal() } }
    mutating func bfloats(_ count: Int, scale: Float = 1) -> [BFloat16] {
        (0..<count).map { _ in BFloat16(scale * normal()) }
    }

    mutating func shuffled(_ count: Int) -> [Int32] {
        var values = (0..<Int32(count)).map { $0 }
        for index in stride(from: count - 1, to: 0, by: -1) { values.swapAt(index, below(index + 1)) }
        return values
    }
}
