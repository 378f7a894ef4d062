// Tandem — Apache-2.0
import CPUKernels

/// The instruction sets as test arguments.
enum InstructionSet: String, CaseIterable, Sendable {
    case portable, avx2, avx512

    /// Those of this machine.
    static let available = allCases.filter { tandem_kernels_for($0.isa) != nil }

    private var isa: tandem_isa {
        switch self {
        case .portable: tandem_isa_portable
        case .avx2: tandem_isa_avx2
        case .avx512: tandem_isa_avx512
        }
    }

    var kernels: tandem_kernels {
        guard let kernels = tandem_kernels_for(isa) else { fatalError("\(rawValue) is not available here") }
        return kernels.pointee
    }

    /// acc + a * b as the instruction set rounds it: once, or twice in plain C.
    func multiplyAdd(_ a: Float, _ b: Float, _ accumulator: Float) -> Float {
        self == .portable ? a * b + accumulator : accumulator.addingProduct(a, b)
    }
}

/// Zeroed memory aligned to 64 bytes. It is never freed, so that no pointer into it can outlive it; tests are small.
struct Memory {
    let raw: UnsafeMutableRawBufferPointer

    init(bytes: Int) {
        raw = .allocate(byteCount: max(bytes, 64), alignment: 64)
        raw.initializeMemory(as: UInt8.self, repeating: 0)
    }

    init(_ floats: [Float]) {
        self.init(bytes: floats.count * 4)
        floats.withUnsafeBytes { raw.copyMemory(from: $0) }
    }

    var base: UnsafeMutableRawPointer { raw.baseAddress! }

    /// The memory as floats, from `offset` (in floats) on.
    func floats(_ offset: Int = 0) -> UnsafeMutablePointer<Float> {
        base.assumingMemoryBound(to: Float.self) + offset
    }

    func array(_ count: Int, from offset: Int = 0) -> [Float] {
        Array(UnsafeBufferPointer(start: floats(offset), count: count))
    }
}

/// A small repeatable generator.
struct Numbers {
    private var state: UInt64

    init(_ seed: UInt64) { state = seed &* 0x9E37_79B9_7F4A_7C15 &+ 1 }

    mutating func bits() -> UInt32 {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return UInt32(truncatingIfNeeded: state >> 33)
    }

    /// Uniform in -scale ..< scale.
    mutating func float(_ scale: Float = 1) -> Float { (Float(bits() % 65536) / 32768 - 1) * scale }

    mutating func floats(_ count: Int, _ scale: Float = 1) -> [Float] { (0..<count).map { _ in float(scale) } }

    mutating func bytes(_ count: Int) -> [UInt8] { (0..<count).map { _ in UInt8(truncatingIfNeeded: bits()) } }
}

/// IEEE half precision by its definition.
func halfValue(_ bits: UInt16) -> Float {
    let sign: Float = bits & 0x8000 == 0 ? 1 : -1
    let mantissa = Float(bits & 0x3ff)
    switch Int(bits >> 10) & 31 {
    case 0: return sign * mantissa * 0x1p-24
    case 31: return mantissa == 0 ? sign * .infinity : .nan
    case let exponent: return sign * (1 + mantissa / 1024) * Float(sign: .plus, exponent: exponent - 15, significand: 1)
    }
}

/// The nearest half, ties to even, for values in the normal range.
func halfBits(_ value: Float) -> UInt16 {
    let bits = value.bitPattern
    let rounded = (bits & 0x7fff_ffff) + 0xfff + ((bits >> 13) & 1)
    guard value != 0 else { return UInt16(bits >> 16) }
    return UInt16(truncatingIfNeeded: (bits >> 16) & 0x8000) | UInt16((rounded - 0x3800_0000) >> 13)
}

/// The nearest bf16, ties to even, widened again.
func roundedToBFloat16(_ value: Float) -> Float {
    let bits = value.bitPattern
    return Float(bitPattern: (bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff_0000)
}

func bits(_ values: [Float]) -> [UInt32] { values.map(\.bitPattern) }

/// The largest |a - b| over the largest |b|.
func relativeError(_ a: [Float], _ b: [Double]) -> Double {
    let largest = b.reduce(0) { max($0, abs($1)) }
    return zip(a, b).reduce(0) { max($0, abs(Double($1.0) - $1.1)) } / max(largest, 1e-30)
}
