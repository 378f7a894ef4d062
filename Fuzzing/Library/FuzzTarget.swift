// Tandem — Apache-2.0

/// What became of one input.
public enum FuzzOutcome: Sendable, Equatable {
    /// Everything that reads it took it.
    case accepted
    /// It was refused, by an error that names what is at fault.
    case refused
    /// Something that must not be, such as a refusal without a place; the text says what.
    case fault(String)
}

/// One kind of file, and all the code that reads it.
public struct FuzzTarget: Sendable {
    /// Its name on the command line.
    public let name: String
    /// Files that are valid, all of them small.
    public let seeds: [[UInt8]]
    /// How inputs are made out of them.
    let dialect: Dialect
    private let consume: @Sendable ([UInt8]) -> FuzzOutcome

    /// What mutations of a kind of file know about it.
    enum Dialect: Sendable {
        /// Numbers, lengths and bytes.
        case binary
        /// JSON after its length in 8 bytes, then bytes.
        case safetensors
        case json
        case template
    }

    init(
        name: String, dialect: Dialect, seeds: [[UInt8]], consume: @escaping @Sendable ([UInt8]) -> FuzzOutcome
    ) {
        self.name = name
        self.dialect = dialect
        self.seeds = seeds
        self.consume = consume
    }

    /// Reads an input as if it were a file that somebody has sent.
    public func execute(_ input: [UInt8]) -> FuzzOutcome { consume(input) }

    /// All names, in the order in which they are worth running.
    public static let names = [
        "gguf", "safetensors", "tokenizer", "template", "index", "config", "generation-config", "tokenizer-config",
    ]

    /// The target with a name; nil if there is none.
    ///
    /// - Parameter directory: an empty directory that this target alone uses, for files that are read with others.
    public static func named(_ name: String, directory: String) -> FuzzTarget? {
        switch name {
        case "gguf": gguf()
        case "safetensors": safetensors()
        case "tokenizer": tokenizer(directory: directory)
        case "template": template()
        case "index": index(directory: directory)
        case "config": config(directory: directory)
        case "generation-config": generationConfig(directory: directory)
        case "tokenizer-config": tokenizerConfig(directory: directory)
        default: nil
        }
    }
}

/// The refusal `error` as an outcome: it must name the file and what in it is at fault.
func refusal(_ error: some Error & CustomStringConvertible, names parts: [String?]) -> FuzzOutcome {
    let text = error.description
    for part in parts {
        guard let part, !part.isEmpty, text.contains(part) else {
            return .fault("a refusal that does not name what is at fault: \(text)")
        }
    }
    return .refused
}
