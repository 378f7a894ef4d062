// Tandem — Apache-2.0

public import LanguageModel
public import Requests
import Weights

/// The digest by which a gateway and an engine see that they number tokens alike: over the file's `tokenizer.ggml.*`
/// metadata as it is stored. `Tokenizer.fingerprint` is the same; the engine has it without reading a vocabulary.
public enum TokenizerFingerprint {
    public static func of(_ checkpoint: Checkpoint) -> Digest128 {
        var hash = StableHash()
        for bytes in checkpoint.gguf?.rawMetadata(ofKeysWithPrefix: "tokenizer.ggml.") ?? [] {
            hash.combine(buffer: bytes)
        }
        return hash.digest()
    }
}
