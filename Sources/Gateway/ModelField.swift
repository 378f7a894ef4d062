// Tandem — Apache-2.0

import JSON
import NIOCore

/// Finds out which model a request asks for without reading all of it: who then reads it says what is wrong with it.
enum ModelField {
    /// The string under `model` in the object that a body is; `nil` if there is none.
    static func value(in body: ByteBuffer) -> String? {
        body.withUnsafeReadableBytes { bytes in
            var scanner = Scanner(bytes: bytes)
            return scanner.model()
        }
    }

    /// The value of `model` in a URL's query; `nil` if there is none.
    static func value(inQuery query: String?) -> String? {
        for field in (query ?? "").split(separator: "&") where field.hasPrefix("model=") {
            return GatewayFront.percentDecoded(
                String(field.dropFirst("model=".count).map { $0 == "+" ? " " : $0 }))
        }
        return nil
    }

    private struct Scanner {
        let bytes: UnsafeRawBufferPointer
        var position = 0

        mutating func model() -> String? {
            skipSpace()
            guard next() == UInt8(ascii: "{") else { return nil }
            var depth = 1
            while let byte = next() {
                switch byte {
                case UInt8(ascii: "{"), UInt8(ascii: "["):
                    depth += 1
                case UInt8(ascii: "}"), UInt8(ascii: "]"):
                    depth -= 1
                    if depth == 0 { return nil }
                case UInt8(ascii: "\""):
                    guard let string = string() else { return nil }
                    // A value is followed by something else than a colon.
                    guard depth == 1 else { continue }
                    skipSpace()
                    guard position < bytes.count, bytes[position] == UInt8(ascii: ":"), isModel(string) else {
                        continue
                    }
                    position += 1
                    skipSpace()
                    guard next() == UInt8(ascii: "\""), let value = self.string() else { return nil }
                    return text(value)
                default:
                    continue
                }
            }
            return nil
        }

        private mutating func next() -> UInt8? {
            guard position < bytes.count else { return nil }
            defer { position += 1 }
            return bytes[position]
        }

        private mutating func skipSpace() {
            while position < bytes.count {
                switch bytes[position] {
                case 0x20, 0x09, 0x0A, 0x0D: position += 1
                default: return
                }
            }
        }

        /// The place of a string with its quotes, of which the first was read.
        private mutating func string() -> Range<Int>? {
            let start = position - 1
            while let byte = next() {
                if byte == UInt8(ascii: "\\") {
                    position += 1
                } else if byte == UInt8(ascii: "\"") {
                    return start..<position
                }
            }
            return nil
        }

        private func isModel(_ string: Range<Int>) -> Bool {
            let raw = bytes[string].dropFirst().dropLast()
            if raw.contains(UInt8(ascii: "\\")) { return text(string) == "model" }
            return raw.elementsEqual("model".utf8)
        }

        private func text(_ string: Range<Int>) -> String? {
            guard let value = try? JSONParser.parse(bytes[string]) else { return nil }
            return value.string
        }
    }
}
