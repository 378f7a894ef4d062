// Tandem — Apache-2.0

/// Sizes and times for people.
public enum ByteText {
    /// `640 B`, `12 kB`, `98.4 MB`, `1.24 GB`: decimal units, as hubs show them.
    public static func size(_ bytes: UInt64) -> String {
        switch bytes {
        case ..<1000: "\(bytes) B"
        case ..<1_000_000: "\((bytes + 500) / 1000) kB"
        case ..<1_000_000_000: decimal(bytes, unit: 1_000_000, digits: 1) + " MB"
        default: decimal(bytes, unit: 1_000_000_000, digits: 2) + " GB"
        }
    }

    /// `48 s`, `3 min 20 s`, `2 h 5 min`.
    public static func time(seconds: UInt64) -> String {
        switch seconds {
        case ..<60: "\(seconds) s"
        case ..<3600: "\(seconds / 60) min \(seconds % 60) s"
        default: "\(seconds / 3600) h \(seconds % 3600 / 60) min"
        }
    }

    private static func decimal(_ value: UInt64, unit: UInt64, digits: Int) -> String {
        let scale: UInt64 = digits == 1 ? 10 : 100
        let scaled = value / (unit / scale)
        let fraction = String(scaled % scale)
        return "\(scaled / scale)." + String(repeating: "0", count: digits - fraction.count) + fraction
    }
}
