// Tandem — Apache-2.0

import Glibc
import Requests
public import Weights

extension Tokenizer {
    /// Reads the tokenizer of a model: of a GGUF file, or of a directory of Hugging Face's layout, which may also be named
    /// by the `tokenizer.json` in it.
    ///
    /// - Throws: `TokenizationError` if there is none, one of an unknown kind, or one that contradicts itself.
    public convenience init(path: String) throws(TokenizationError) {
        var status = stat()
        guard stat(path, &status) == 0 else {
            throw TokenizationError(file: path, field: "", reason: "cannot be opened: \(Self.systemMessage(errno))")
        }
        if status.st_mode & S_IFMT == S_IFDIR {
            try self.init(directory: path)
            return
        }
        let name = "tokenizer.json"
        if path == name || path.hasSuffix("/" + name) {
            try self.init(directory: path == name ? "." : String(path.dropLast(name.count)))
            return
        }
        let gguf: GGUFFile
        do {
            gguf = try GGUFFile(path: path)
        } catch {
            throw TokenizationError(file: nil, field: "", reason: error.description)
        }
        try self.init(gguf: gguf)
    }

    /// Reads the tokenizer of a model file.
    ///
    /// - Throws: `TokenizationError` if the file has none, one of an unknown kind, or one that contradicts itself.
    public convenience init(gguf: GGUFFile) throws(TokenizationError) {
        var hash = StableHash()
        for bytes in gguf.rawMetadata(ofKeysWithPrefix: "tokenizer.ggml.") { hash.combine(buffer: bytes) }
        do {
            try self.init(TokenizerDefinition(metadata: gguf.metadata), fingerprint: hash.digest())
        } catch {
            throw error.inFile(gguf.path)
        }
    }

    /// Reads the tokenizer of a directory: `tokenizer.json`, and where they exist `tokenizer_config.json`,
    /// `generation_config.json` and `chat_template.jinja`.
    ///
    /// - Throws: `TokenizationError` naming file and field if a file is missing, malformed, or asks for something that is
    ///   not supported.
    public convenience init(directory: String) throws(TokenizationError) {
        let files = try TokenizerFiles(directory: directory)
        try self.init(files.definition(), fingerprint: files.fingerprint)
    }

    private static func systemMessage(_ code: Int32) -> String {
        // strerror's buffer is shared between threads; strerror_r's is ours.
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { buffer in
            guard let start = buffer.baseAddress, strerror_r(code, start, buffer.count) == 0 else {
                return "error \(code)"
            }
            return String(cString: start)
        }
    }
}
