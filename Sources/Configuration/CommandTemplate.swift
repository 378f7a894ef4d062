// Tandem — Apache-2.0

/// A command line with placeholders, such as `server --port {port}`.
///
/// It is split into words by the rules of a shell for blanks, quotes and backslashes; nothing is expanded, and no shell
/// runs. Words before the program of the form `NAME=value` are variables of its environment. Placeholders stand in
/// braces, also within quotes; `{{` is a brace.
public struct CommandTemplate: Sendable, Equatable {
    /// What is filled in.
    public enum Placeholder: String, Sendable, CaseIterable {
        case port
        case host
        case gpu
        case memoryFraction = "memory-fraction"
        case freeMemoryFraction = "free-memory-fraction"
        case index
        case engines
        case threads
        case model
        case name
    }

    private enum Piece: Sendable, Equatable {
        case text(String)
        case placeholder(Placeholder)
    }

    private typealias Word = [Piece]

    /// A command as it is run.
    public struct Command: Sendable, Equatable {
        /// Besides what the environment has.
        public var variables: [String: String]
        /// The first is the program.
        public var words: [String]
    }

    private var assignments: [(name: String, value: Word)] = []
    private var words: [Word] = []

    /// - Throws: ``CommandTemplateError`` with the place of what cannot be used.
    public init(_ text: String) throws(CommandTemplateError) {
        var reader = Reader(text)
        for word in try reader.words() {
            if words.isEmpty, let assignment = Self.assignment(word) {
                assignments.append(assignment)
            } else {
                words.append(word)
            }
        }
        guard let program = words.first else {
            throw CommandTemplateError(position: nil, reason: "it has no program to run")
        }
        guard case .text(let name)? = program.first, program.count == 1, !name.isEmpty else {
            throw CommandTemplateError(
                position: nil, reason: "its program is a placeholder; name the program that is to be run")
        }
    }

    /// Appends words, for which the same rules hold.
    ///
    /// - Throws: ``CommandTemplateError`` with the place of what cannot be used.
    public mutating func append(_ text: String) throws(CommandTemplateError) {
        var reader = Reader(text)
        words += try reader.words()
    }

    /// The program as it was written.
    public var program: String {
        guard case .text(let name)?? = words.first?.first else { return "" }
        return name
    }

    /// What has to be filled in.
    public var placeholders: Set<Placeholder> {
        let pieces = words.flatMap { $0 } + assignments.flatMap(\.value)
        return Set(pieces.compactMap { if case .placeholder(let placeholder) = $0 { placeholder } else { nil } })
    }

    /// Fills the placeholders in; a value never becomes several words.
    public func command(_ value: (Placeholder) -> String) -> Command {
        func text(_ word: Word) -> String {
            word.map { piece in
                switch piece {
                case .text(let text): text
                case .placeholder(let placeholder): value(placeholder)
                }
            }.joined()
        }
        return Command(
            variables: Dictionary(assignments.map { ($0.name, text($0.value)) }) { $1 }, words: words.map(text))
    }

    private static func assignment(_ word: Word) -> (name: String, value: Word)? {
        guard case .text(let text)? = word.first, let sign = text.firstIndex(of: "=") else { return nil }
        let name = text[..<sign]
        func isLetter(_ scalar: Unicode.Scalar) -> Bool {
            scalar == "_" || ("a"..."z").contains(scalar) || ("A"..."Z").contains(scalar)
        }
        guard let first = name.unicodeScalars.first, isLetter(first),
            name.unicodeScalars.allSatisfy({ isLetter($0) || ("0"..."9").contains($0) })
        else { return nil }
        return (String(name), [.text(String(text[text.index(after: sign)...]))] + word.dropFirst())
    }

    public static func == (first: CommandTemplate, second: CommandTemplate) -> Bool {
        first.words == second.words && first.assignments.elementsEqual(second.assignments) { $0 == $1 }
    }

    // MARK: - Reading

    private struct Reader {
        private let scalars: [Unicode.Scalar]
        private var position = 0

        init(_ text: String) { scalars = Array(text.unicodeScalars) }

        private var next: Unicode.Scalar? { position < scalars.count ? scalars[position] : nil }

        private func wrong(at position: Int, _ reason: String) -> CommandTemplateError {
            CommandTemplateError(position: position + 1, reason: reason)
        }

        mutating func words() throws(CommandTemplateError) -> [Word] {
            var words: [Word] = []
            while true {
                while let scalar = next, Self.isBlank(scalar) { position += 1 }
                guard next != nil else { return words }
                if let word = try word() { words.append(word) }
            }
        }

        private static func isBlank(_ scalar: Unicode.Scalar) -> Bool { " \t\n\r".unicodeScalars.contains(scalar) }

        /// Null if there was nothing but a line that goes on.
        private mutating func word() throws(CommandTemplateError) -> Word? {
            var word: Word = []
            var text = ""
            // An empty pair of quotes is a word, too.
            var isQuoted = false
            func whole() -> Word? {
                guard text.isEmpty else { return word + [.text(text)] }
                return word.isEmpty ? (isQuoted ? [.text("")] : nil) : word
            }
            var quote: (mark: Unicode.Scalar, position: Int)?
            while let scalar = next {
                let start = position
                position += 1
                switch scalar {
                case "\0": throw wrong(at: start, "a null byte cannot stand in a command")
                case "{":
                    if next == "{" {
                        position += 1
                        text.unicodeScalars.append("{")
                    } else {
                        let placeholder = try placeholder(from: start)
                        if !text.isEmpty { word.append(.text(text)) }
                        text = ""
                        word.append(.placeholder(placeholder))
                    }
                case "'", "\"":
                    if let open = quote, open.mark == scalar {
                        quote = nil
                    } else if quote == nil {
                        quote = (scalar, start)
                        isQuoted = true
                    } else {
                        text.unicodeScalars.append(scalar)
                    }
                case "\\" where quote?.mark != "'":
                    guard let escaped = next else { throw wrong(at: start, "nothing follows the backslash") }
                    if quote != nil, !"\"\\$`\n{".unicodeScalars.contains(escaped) {
                        text.unicodeScalars.append("\\")
                    } else {
                        position += 1
                        // A line that goes on.
                        if escaped != "\n" { text.unicodeScalars.append(escaped) }
                    }
                case _ where quote == nil && Self.isBlank(scalar):
                    return whole()
                case _ where quote == nil && "|&;<>$`".unicodeScalars.contains(scalar):
                    throw wrong(
                        at: start,
                        "\"\(scalar)\" means something to a shell, and none runs: put it in quotes if it is meant as it "
                            + "is, or run a script")
                default:
                    text.unicodeScalars.append(scalar)
                }
            }
            if let quote { throw wrong(at: quote.position, "the quote \(quote.mark) is not closed") }
            return whole()
        }

        /// Called behind the brace.
        private mutating func placeholder(from start: Int) throws(CommandTemplateError) -> Placeholder {
            var name = ""
            while let scalar = next, scalar != "}" {
                guard scalar.isASCII, scalar.properties.isAlphabetic || scalar == "-" || scalar == "_", name.count < 40
                else { throw wrong(at: start, "this brace begins no placeholder; write {{ for a brace") }
                name.unicodeScalars.append(scalar)
                position += 1
            }
            guard next != nil else { throw wrong(at: start, "this brace is not closed; write {{ for a brace") }
            position += 1
            guard let placeholder = Placeholder(rawValue: name) else {
                let known = Placeholder.allCases.map { "{\($0.rawValue)}" }.joined(separator: ", ")
                throw wrong(at: start, "{\(name)} is unknown; there are \(known), and {{ is a brace")
            }
            return placeholder
        }
    }
}

/// What is wrong with a command, and where.
public struct CommandTemplateError: Error, Sendable, Equatable, CustomStringConvertible {
    /// Of the character at fault, counted from 1; null if no single one is.
    public var position: Int?
    public var reason: String

    public var description: String { position.map { "at character \($0): \(reason)" } ?? reason }
}
