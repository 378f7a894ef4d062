// Tandem — Apache-2.0

/// One setting's text and where it was given.
struct GivenSetting: Equatable {
    var text: String
    var source: String

    func error(_ reason: String) -> ConfigurationError {
        ConfigurationError(source: source, reason: reason)
    }
}

/// Settings by key (`max-model-len`): flags win over the environment (`TANDEM_MAX_MODEL_LEN`), which wins over the file.
/// What an entry of a list of models says holds for that model, whatever is given elsewhere.
struct SettingLayers {
    /// Texts of the flags that were given.
    var flags: [String: String]
    var environment: [String: String]
    var file: ConfigurationFile?
    /// The model whose settings these are, if a file lists several.
    var entry: ConfigurationFile.Entry?

    func given(_ key: String) -> GivenSetting? {
        if let entry, let text = entry.values[key] {
            return GivenSetting(text: text, source: "\(entry.place).\(key)")
        }
        if let text = flags[key] { return GivenSetting(text: text, source: "--\(key)") }
        let variable = Self.variable(for: key)
        if let text = environment[variable], !text.isEmpty {
            return GivenSetting(text: text, source: "environment variable \(variable)")
        }
        if let file, let text = file.values[key] { return GivenSetting(text: text, source: "\(file.name): \(key)") }
        return nil
    }

    /// Where a setting comes from, the place that wins first; null if it is not given.
    func rank(_ key: String) -> Int? {
        if entry?.values[key] != nil { return 0 }
        if flags[key] != nil { return 1 }
        if environment[Self.variable(for: key)]?.isEmpty == false { return 2 }
        return file?.values[key] == nil ? nil : 3
    }

    /// The environment variable of a key.
    static func variable(for key: String) -> String {
        "TANDEM_" + key.uppercased().map { $0 == "-" ? "_" : String($0) }.joined()
    }

    // MARK: - Kinds of values

    func text(_ key: String) throws(ConfigurationError) -> String? {
        guard let setting = given(key) else { return nil }
        guard !setting.text.isEmpty else { throw setting.error("it is empty") }
        return setting.text
    }

    func integer(_ key: String, in range: ClosedRange<Int>) throws(ConfigurationError) -> Int? {
        guard let setting = given(key) else { return nil }
        guard let value = Int(setting.text), range.contains(value) else {
            throw setting.error(
                "\"\(setting.text)\" is not a whole number from \(range.lowerBound) to \(range.upperBound)")
        }
        return value
    }

    func boolean(_ key: String) throws(ConfigurationError) -> Bool? {
        guard let setting = given(key) else { return nil }
        switch setting.text.lowercased() {
        case "true", "yes", "on", "1": return true
        case "false", "no", "off", "0": return false
        default: throw setting.error("\"\(setting.text)\" is neither true nor false")
        }
    }

    func choice<Value: RawRepresentable & CaseIterable>(_ key: String, of type: Value.Type)
        throws(ConfigurationError) -> Value? where Value.RawValue == String
    {
        guard let setting = given(key) else { return nil }
        let text = setting.text.lowercased()
        guard let value = Value.allCases.first(where: { $0.rawValue.lowercased() == text }) else {
            let names = Value.allCases.map(\.rawValue).joined(separator: ", ")
            throw setting.error("\"\(setting.text)\" is none of \(names)")
        }
        return value
    }

    func byteCount(_ key: String) throws(ConfigurationError) -> UInt64? {
        guard let setting = given(key) else { return nil }
        guard let value = ByteCount.parse(setting.text), value > 0 else {
            throw setting.error("\"\(setting.text)\" is not a size such as 512MiB, 2GiB or 1000000000")
        }
        return value
    }

    func duration(_ key: String) throws(ConfigurationError) -> Duration? {
        guard let setting = given(key) else { return nil }
        guard let value = TimeSpan.parse(setting.text) else {
            throw setting.error("\"\(setting.text)\" is not a time such as 30s, 500ms, 20us or 2m, at most a day")
        }
        return value
    }
}

/// Sizes as people write them.
enum ByteCount {
    private static let units: [String: Double] = [
        "": 1, "b": 1, "k": 0x1p10, "kib": 0x1p10, "m": 0x1p20, "mib": 0x1p20, "g": 0x1p30, "gib": 0x1p30,
        "t": 0x1p40, "tib": 0x1p40, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
    ]

    /// Null if `text` is no size below 2^53 bytes.
    static func parse(_ text: String) -> UInt64? {
        guard let (number, unit) = split(text), let factor = units[unit] else { return nil }
        let bytes = number * factor
        return bytes < 0x1p53 ? UInt64(bytes.rounded()) : nil
    }

    /// A number that is not negative and a unit in lower case.
    fileprivate static func split(_ text: String) -> (number: Double, unit: String)? {
        let digits = text.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
        guard let number = Double(digits), number.isFinite else { return nil }
        return (number, text.dropFirst(digits.count).drop { $0 == " " }.lowercased())
    }
}

/// Times as people write them.
public enum TimeSpan {
    /// Null if `text` is no time of at most a day; a number alone is seconds.
    public static func parse(_ text: String) -> Duration? {
        let units = ["": 1.0, "s": 1, "ms": 0.001, "us": 1e-6, "µs": 1e-6, "m": 60, "min": 60, "h": 3600]
        guard let (number, unit) = ByteCount.split(text), let factor = units[unit] else { return nil }
        let seconds = number * factor
        return seconds <= 86_400 ? .nanoseconds(Int64((seconds * 1e9).rounded())) : nil
    }
}
