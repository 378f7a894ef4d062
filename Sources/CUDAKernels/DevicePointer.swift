// Tandem — Apache-2.0

/// An address in a device's memory, with the type of what is there. It is never followed on the host.
public struct DevicePointer<Element>: Sendable, Hashable {
    /// As the driver gives it.
    public var address: UInt64

    public init(address: UInt64) { self.address = address }

    /// The address so many elements further on.
    public func advanced(by count: Int) -> DevicePointer {
        DevicePointer(address: address &+ UInt64(bitPattern: Int64(count * MemoryLayout<Element>.stride)))
    }

    /// The same address as one of other elements.
    public func retyped<Other>(as _: Other.Type) -> DevicePointer<Other> { DevicePointer<Other>(address: address) }
}

/// The upper half of a float: 8 bits of exponent, 7 of mantissa.
public struct BFloat16: Sendable, Equatable, BitwiseCopyable {
    public var bits: UInt16

    public init(bits: UInt16) { self.bits = bits }

    /// Rounds to the nearest, ties to even.
    public init(_ value: Float) {
        guard !value.isNaN else {
            bits = 0x7FFF
            return
        }
        let pattern = value.bitPattern
        bits = UInt16(truncatingIfNeeded: (UInt64(pattern) + 0x7FFF + UInt64((pattern >> 16) & 1)) >> 16)
    }

    public var float: Float { Float(bitPattern: UInt32(bits) << 16) }
}
