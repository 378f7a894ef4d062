// Tandem — Apache-2.0

public import Requests
public import Weights

/// The digest by which a gateway and an engine see that they number tokens alike.
public enum TokenizerFingerprint {
    /// Covers every key that starts with `tokenizer.`, in order of the keys.
    public static func of(_ metadata: GGUFMetadata) -> Digest128 {
        var hash = StableHash(seed: 0x746F_6B65_6E73)
        for key in metadata.keys.filter({ $0.hasPrefix("tokenizer.") }).sorted() {
            hash.combine(bytes: key.utf8)
            guard let value = metadata[key] else { continue }
            combine(value, into: &hash)
        }
        return hash.digest()
    }

    private static func combine(_ value: GGUFValue, into hash: inout StableHash) {
        if let string = value.string {
            hash.combine(bytes: string.utf8)
        } else if let bool = value.bool {
            hash.combine(bool ? 1 : 0)
        } else if let integer = value.integer {
            hash.combine(UInt64(bitPattern: integer))
        } else if let double = value.double {
            hash.combine(double.bitPattern)
        } else if let array = value.array {
            hash.combine(UInt64(array.count))
            if let strings = array.strings {
                for string in strings { hash.combine(bytes: string.utf8) }
            } else if let integers = array.integers {
                for integer in integers { hash.combine(UInt64(bitPattern: integer)) }
            } else if let floats = array.floats {
                for float in floats { hash.combine(UInt64(float.bitPattern)) }
            }
        }
    }
}
