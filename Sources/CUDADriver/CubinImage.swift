// Tandem — Apache-2.0

/// What can be said of a cubin without a driver: it is an ELF file (64 bits, little-endian, machine 190: CUDA).
enum CubinImage {
    /// Whether header, section table and program table lie within the bytes. Catches empty, cut and foreign files; the
    /// driver judges the rest.
    static func isComplete(_ image: [UInt8]) -> Bool {
        guard image.count >= 64, image[0] == 0x7F, image[1] == 0x45, image[2] == 0x4C, image[3] == 0x46,
            image[4] == 2, image[5] == 1
        else { return false }
        func number(_ offset: Int, _ size: Int) -> UInt64 {
            (0..<size).reduce(0) { $0 | UInt64(image[offset + $1]) << UInt64(8 * $1) }
        }
        guard number(18, 2) == 190 else { return false }
        func fits(offset: UInt64, size: UInt64, count: UInt64) -> Bool {
            guard count > 0 else { return true }
            let (end, overflow) = offset.addingReportingOverflow(size * count)
            return !overflow && end <= UInt64(image.count)
        }
        guard fits(offset: number(32, 8), size: number(54, 2), count: number(56, 2)),
            fits(offset: number(40, 8), size: number(58, 2), count: number(60, 2))
        else { return false }
        // Contents of the sections: offset at 24, size at 32; type 8 (no bits) takes no room.
        let (table, size, count) = (number(40, 8), number(58, 2), number(60, 2))
        guard count == 0 || size >= 64 else { return false }
        for index in 0..<count {
            let entry = Int(table + index * size)
            let type = number(entry + 4, 4)
            guard type == 8 || type == 0 || fits(offset: number(entry + 24, 8), size: number(entry + 32, 8), count: 1)
            else { return false }
        }
        return true
    }
}
