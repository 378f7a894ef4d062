// Tandem — Apache-2.0

import JSON

/// Reads one call, `{"name": …, "arguments": {…}}`, from bytes as they come. The arguments may be called `parameters`,
/// may come first, and may be missing; other members are passed over.
struct ToolCallReader {
    enum Outcome: Equatable {
        case more
        /// The byte was the last of a call.
        case ended
        /// The byte cannot stand here, or what ends with it is no call.
        case malformed
    }

    /// What of a call is new since it was last asked for.
    struct Part: Equatable {
        /// The name, with the first part of a call.
        var name: String?
        var arguments: String
    }

    private static let argumentNames = ["arguments", "parameters"]

    private var scanner = ToolCallScanner()
    /// Every byte taken that was not malformed.
    private(set) var raw: [UInt8] = []
    private let accepts: @Sendable (String) -> Bool
    private var keyStart = 0
    private var key = ""
    private var valueStart = 0
    private var name: String?
    private var argumentsStart: Int?
    private var argumentsEnd: Int?
    private var hasEnded = false
    /// Whether a part was given out.
    private(set) var isCommitted = false
    private var sent = 0

    /// - Parameter accepts: whether a call of this name is one.
    init(accepts: @escaping @Sendable (String) -> Bool) { self.accepts = accepts }

    /// Whether the arguments have ended.
    var hasWholeArguments: Bool { argumentsEnd != nil }

    mutating func take(_ byte: UInt8) -> Outcome {
        let event = scanner.take(byte)
        guard event != .malformed else { return .malformed }
        raw.append(byte)
        let outcome = handle(event)
        if outcome == .malformed { raw.removeLast() }
        return outcome
    }

    private mutating func handle(_ event: ToolCallScanner.Event) -> Outcome {
        switch event {
        case .more: return .more
        case .keyBegins: keyStart = raw.count - 1
        case .keyEnds:
            guard let text = text(from: keyStart) else { return .malformed }
            key = text
        case .valueBegins:
            valueStart = raw.count - 1
            return valueBegins() ? .more : .malformed
        case .valueEnds: return valueEnds() ? .more : .malformed
        case .valueEnded: return .more
        case .objectEnds, .valueEndedAndObject:
            guard name != nil else { return .malformed }
            hasEnded = true
            return .ended
        case .malformed: return .malformed
        }
        return .more
    }

    private func valueBegins() -> Bool {
        // Null stands for no arguments; any other value than an object is no arguments at all.
        guard Self.argumentNames.contains(key), argumentsStart == nil else { return true }
        return raw[valueStart] == UInt8(ascii: "{") || raw[valueStart] == UInt8(ascii: "n")
    }

    private mutating func valueEnds() -> Bool {
        if Self.argumentNames.contains(key), argumentsStart == nil {
            if raw[valueStart] == UInt8(ascii: "{") {
                argumentsStart = valueStart
                argumentsEnd = raw.count
            }
            return true
        }
        guard key == "name", name == nil else { return true }
        guard let text = text(from: valueStart), !text.isEmpty, accepts(text) else { return false }
        name = text
        return true
    }

    /// The string from there to here.
    private func text(from start: Int) -> String? {
        guard raw[start] == UInt8(ascii: "\"") else { return nil }
        return (try? JSONParser.parse(Array(raw[start...])))?.string
    }

    /// What is known of a call and was not given out: nil before it is sure that there is one.
    mutating func takePart() -> Part? {
        guard let name else { return nil }
        var start = argumentsStart
        if start == nil, scanner.isInMemberValue, valueStart < raw.count, Self.argumentNames.contains(key),
            raw[valueStart] == UInt8(ascii: "{")
        {
            start = valueStart
        }
        var part = Part(name: isCommitted ? nil : name, arguments: "")
        if let start {
            let first = max(sent, start)
            let end = argumentsEnd ?? raw.count
            if first < end { part.arguments = String(decoding: raw[first..<end], as: UTF8.self) }
            sent = end
        } else if hasEnded {
            part.arguments = "{}"
        } else {
            return nil
        }
        isCommitted = true
        return part.name == nil && part.arguments.isEmpty ? nil : part
    }
}
