// Tandem — Apache-2.0

/// A call, or more of the arguments of one, as streams carry it.
struct ToolCallDelta: Equatable, Sendable {
    /// The number of the call within its choice, from 0.
    var index: Int
    /// With the first delta of a call.
    var id: String?
    /// With the first delta of a call.
    var name: String?
    /// JSON as the model wrote it; the deltas of a call make up the whole text.
    var arguments: String
}

/// What a piece of a model's text is to the client.
struct ToolCallOutput: Equatable, Sendable {
    var content = ""
    var calls: [ToolCallDelta] = []

    var isEmpty: Bool { content.isEmpty && calls.isEmpty }
}

/// Separates calls of tools from other text, as the text comes.
///
/// What it gives out does not depend on how the text was cut into pieces. A call counts from when its name and the
/// beginning of its arguments are known, or it is whole without any; what turns out before that not to be one is
/// content as it was written, and what cannot belong to one after that is content from there on. White space around
/// calls is dropped, and so are the marks between them.
struct ToolCallParser: Sendable {
    private enum State {
        case text
        /// Behind an opening mark: a call or a list of them is to come.
        case opened
        /// In a call, which `reader` reads.
        case call
        /// In the name of a call that stands before its arguments, which are to come.
        case name
        /// Behind that name, in the arguments, which `reader` reads.
        case arguments
        /// Behind a call.
        case between
    }

    private let format: ToolCallFormat
    private let allowsSeveral: Bool
    private let makeID: @Sendable () -> String
    private let accepts: @Sendable (String) -> Bool
    /// Whether a call without marks around it is one.
    private let acceptsBare: @Sendable (String) -> Bool
    private let opening: [UInt8]
    private let closing: [UInt8]?
    private var state = State.text
    private var reader: ToolCallReader
    /// Text that is content unless what it began turns out to be a call: white space, a mark or its beginning.
    private var held: [UInt8] = []
    /// The part of `held`, at its end, that may be the beginning of a mark.
    private var partial: [UInt8] = []
    private var isList = false
    /// Whether the call under way has no mark before it.
    private var isBare = false
    /// What came behind the opening mark, where the name of a call stands before its arguments.
    private var nameBytes: [UInt8] = []
    private var hasContent = false
    /// Calls given out.
    private(set) var count = 0
    /// Whether the text ended within a call.
    private(set) var isCut = false
    /// Whether the call under way is one that the client does not want.
    private var isSuppressed = false
    private var content: [UInt8] = []
    private var calls: [ToolCallDelta] = []

    /// - Parameters:
    ///   - tools: the names of the tools on offer: text without marks around it is a call only if it calls one of them.
    ///   - allowsSeveral: whether calls after the first count; otherwise they are dropped.
    ///   - makeID: gives a call its id.
    init(
        format: ToolCallFormat, tools: Set<String>, allowsSeveral: Bool = true,
        makeID: @escaping @Sendable () -> String
    ) {
        self.format = format
        self.allowsSeveral = allowsSeveral
        self.makeID = makeID
        opening = Array(format.opening.utf8)
        closing = format.closing.map { Array($0.utf8) }
        let accepts: @Sendable (String) -> Bool = { name in format != .llama || tools.contains(name) }
        self.accepts = accepts
        acceptsBare = { tools.contains($0) }
        reader = ToolCallReader(accepts: accepts)
    }

    /// Takes the next piece of the text.
    mutating func append(_ text: String) -> ToolCallOutput {
        for byte in text.utf8 { take(byte) }
        if state == .call || state == .arguments { give(reader.takePart()) }
        return takeOutput()
    }

    /// Takes the end of the text.
    mutating func finish() -> ToolCallOutput {
        isCut =
            (state == .call || state == .arguments) && reader.isCommitted && !reader.hasWholeArguments && !isSuppressed
        switch state {
        case .text, .opened, .name: release()
        case .arguments:
            if !reader.isCommitted { release() }
        case .call:
            // A call that was begun stays one, with as much of its arguments as there is.
            if !reader.isCommitted { release(reader.raw) }
        case .between:
            if !partial.isEmpty { release() }
        }
        held = []
        partial = []
        state = .text
        return takeOutput()
    }

    private mutating func takeOutput() -> ToolCallOutput {
        let output = ToolCallOutput(content: String(decoding: content, as: UTF8.self), calls: calls)
        content.removeAll(keepingCapacity: true)
        calls.removeAll(keepingCapacity: true)
        return output
    }

    // MARK: Bytes

    private mutating func take(_ byte: UInt8) {
        switch state {
        case .text: takeText(byte)
        case .opened: takeOpened(byte)
        case .call: takeCall(byte)
        case .name: takeName(byte)
        case .arguments: takeArguments(byte)
        case .between: takeBetween(byte)
        }
    }

    private mutating func takeText(_ byte: UInt8) {
        if advance(byte, opening) {
            if partial.count == opening.count { open() }
        } else if !partial.isEmpty {
            // No mark has its first byte again later on, so that a new one can begin only with this byte.
            release()
            takeText(byte)
        } else if ToolCallScanner.isSpace(byte) {
            held.append(byte)
        } else if format != .mistral, byte == UInt8(ascii: "{"), !hasContent {
            // Small models of Hermes' format leave its marks out at times; then only a call with arguments is one.
            begin(byte, isBare: true)
        } else {
            release([byte])
        }
    }

    private mutating func takeOpened(_ byte: UInt8) {
        if ToolCallScanner.isSpace(byte) {
            held.append(byte)
        } else if byte == UInt8(ascii: "{") {
            begin(byte)
        } else if byte == UInt8(ascii: "["), !isList, format != .llama {
            isList = true
            held.append(byte)
        } else if format == .mistral, !isList, Self.isNameByte(byte) {
            nameBytes = [byte]
            held.append(byte)
            state = .name
        } else {
            release()
            state = .text
            takeText(byte)
        }
    }

    // MARK: A name before its arguments

    /// `[TOOL_CALLS]name[ARGS]{…}`, with `[CALL_ID]` and an id before `[ARGS]` or not: Mistral's later models.
    private mutating func takeName(_ byte: UInt8) {
        guard nameBytes.count < Self.longestName, Self.isNameByte(byte) || Self.brackets.contains(byte) else {
            release()
            state = .text
            takeText(byte)
            return
        }
        nameBytes.append(byte)
        held.append(byte)
        guard nameBytes.suffix(Self.argumentsMark.count).elementsEqual(Self.argumentsMark) else { return }
        let name = nameBytes.prefix { $0 != UInt8(ascii: "[") }
        reader = ToolCallReader(accepts: accepts)
        // The reader reads a call in one piece; the arguments are the rest of it.
        for byte in Array("{\"name\": \"".utf8) + name + Array("\", \"arguments\": ".utf8) { _ = reader.take(byte) }
        isSuppressed = !allowsSeveral && count > 0
        state = .arguments
    }

    private mutating func takeArguments(_ byte: UInt8) {
        guard reader.take(byte) == .more else {
            give(reader.takePart())
            if reader.isCommitted { held = [] } else { release() }
            state = .text
            takeText(byte)
            return
        }
        held.append(byte)
        guard reader.hasWholeArguments else { return }
        _ = reader.take(UInt8(ascii: "}"))
        give(reader.takePart())
        held = []
        partial = []
        state = .between
    }

    private static let argumentsMark = Array("[ARGS]".utf8)
    private static let brackets = Array("[]".utf8)
    private static let longestName = 256

    private static func isNameByte(_ byte: UInt8) -> Bool {
        ToolCallRequest.isName(String(decoding: [byte], as: UTF8.self))
    }

    private mutating func takeCall(_ byte: UInt8) {
        switch reader.take(byte) {
        case .more: break
        case .ended where isBare && format == .hermes && !reader.hasWholeArguments:
            release(reader.raw)
            state = .text
        case .ended:
            give(reader.takePart())
            held = []
            partial = []
            state = .between
        case .malformed:
            give(reader.takePart())
            if reader.isCommitted {
                held = []
            } else {
                release(reader.raw)
            }
            state = .text
            takeText(byte)
        }
    }

    private mutating func takeBetween(_ byte: UInt8) {
        if !isList, advance(byte, opening) || (closing.map { advance(byte, $0) } ?? false) {
            if partial == opening {
                open()
            } else if partial == closing {
                held = []
                partial = []
            }
        } else if !partial.isEmpty {
            release()
            state = .text
            takeText(byte)
        } else if ToolCallScanner.isSpace(byte) {
            held.append(byte)
        } else if isList, byte == UInt8(ascii: ",") {
            held = [byte]
            state = .opened
        } else if isList, byte == UInt8(ascii: "]") {
            isList = false
            held = []
        } else if format == .llama, byte == UInt8(ascii: ";") {
            held = [byte]
        } else if format == .llama, byte == UInt8(ascii: "{") {
            begin(byte)
        } else {
            state = .text
            takeText(byte)
        }
    }

    /// Whether the byte continues, or begins, `mark`.
    private mutating func advance(_ byte: UInt8, _ mark: [UInt8]) -> Bool {
        guard partial.count < mark.count, mark[partial.count] == byte, mark.starts(with: partial) else { return false }
        partial.append(byte)
        held.append(byte)
        return true
    }

    private mutating func open() {
        partial = []
        isList = false
        state = .opened
    }

    private mutating func begin(_ byte: UInt8, isBare: Bool = false) {
        self.isBare = isBare
        reader = ToolCallReader(accepts: isBare ? acceptsBare : accepts)
        _ = reader.take(byte)
        isSuppressed = !allowsSeveral && count > 0
        state = .call
    }

    /// What was held back is content after all, and `more` with it.
    private mutating func release(_ more: [UInt8] = []) {
        hasContent = hasContent || !held.isEmpty || !more.isEmpty
        content += held
        content += more
        held = []
        partial = []
        isList = false
    }

    private mutating func give(_ part: ToolCallReader.Part?) {
        guard let part, !isSuppressed else { return }
        if let name = part.name {
            calls.append(ToolCallDelta(index: count, id: makeID(), name: name, arguments: part.arguments))
            count += 1
        } else if let last = calls.indices.last {
            // The beginning of the call is in the same output.
            calls[last].arguments += part.arguments
        } else {
            calls.append(ToolCallDelta(index: count - 1, id: nil, name: nil, arguments: part.arguments))
        }
    }
}
