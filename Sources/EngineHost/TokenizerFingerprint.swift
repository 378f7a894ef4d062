// Tandem — Apache-2.0

import Glibc
public import LanguageModel
public import Requests
public import Weights

/// The digest by which a gateway and an engine see that they number tokens alike: over a GGUF file's `tokenizer.ggml.*`
/// metadata as it is stored, or over the whole of a `tokenizer.json`. `Tokenizer.fingerprint` is the same; the engine has
/// it without reading a vocabulary.
public enum TokenizerFingerprint {
    /// The fingerprint of a model's own tokenizer, or of another one.
    ///
    /// - Parameter tokenizerPath: a GGUF file, a directory with a `tokenizer.json`, or that file.
    /// - Throws: `WeightsError` if there is no such file.
    public static func of(_ checkpoint: Checkpoint, tokenizerPath: String? = nil) throws(WeightsError) -> Digest128 {
        if tokenizerPath == nil, let gguf = checkpoint.gguf { return of(gguf) }
        let path = tokenizerPath ?? checkpoint.path
        if isDirectory(path) { return try of(tokenizerJSON: path + "/tokenizer.json") }
        if path.hasSuffix("tokenizer.json") { return try of(tokenizerJSON: path) }
        return of(try GGUFFile(path: path))
    }

    private static func of(_ gguf: GGUFFile) -> Digest128 {
        var hash = StableHash()
        for bytes in gguf.rawMetadata(ofKeysWithPrefix: "tokenizer.ggml.") { hash.combine(buffer: bytes) }
        return hash.digest()
    }

    private static func of(tokenizerJSON path: String) throws(WeightsError) -> Digest128 {
        let file = try MappedFile(path: path)
        var hash = StableHash()
        hash.combine(buffer: file.bytes)
        return hash.digest()
    }

    private static func isDirectory(_ path: String) -> Bool {
        var status = stat()
        return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }
}
