// Tandem — Apache-2.0

import TestSupport

/// Changes to JSON that leave most of it well formed.
enum JSONMutation {
    private enum Kind { case string, word, punctuation }

    private struct Token {
        let kind: Kind
        let range: Range<Int>
    }

    private static let values: [[UInt8]] =
        [
            "0", "-0", "1", "-1", "2", "3", "0.5", "1.0", "1e1", "1e999", "-1e999", "1e-999", "1e308", "255", "256",
            "257",
            "319", "320", "1024", "65535", "65536", "131072", "2147483647", "2147483648", "4294967295", "4294967296",
            "9007199254740993", "9223372036854775807", "9223372036854775808", "-9223372036854775808",
            "-9223372036854775809", "18446744073709551615", "340282350000000000000000000000000000001", "NaN",
            "Infinity", "01", "1.", "null", "true", "false", "\"\"", "[]", "{}", "[[]]", "{\"\":{}}", "\" \"",
            #""\ud800""#, #""\udc00\ud800""#, #""\ud83d\ude00""#, #""\u0000""#, #""\u2581""#, #""a\u0301""#, #""é""#,
            #""\"""#, #""\\""#, #""Ġ""#, #""Ċ""#, #""<0x00>""#, #""<0xFF>""#, #""<0xZZ>""#, #""a b""#, #""../x""#,
            #""/dev/zero""#, #""model.safetensors""#, #""F64""#, #""F16""#, #""BF16""#, #""I4""#, #""F4""#,
            #""__metadata__""#, #""BPE""#, #""Sequence""#, #""ByteLevel""#, #""Metaspace""#, #""Unigram""#, #""NFC""#,
        ].map { Array($0.utf8) } + [[0x22, 0xFF, 0xFE, 0x22], [0x22, 0xC0, 0x80, 0x22], [0x22, 0x0A, 0x22]]

    static func mutate(_ input: inout [UInt8], _ other: [UInt8], _ generator: inout SeededGenerator) {
        let tokens = split(input)
        guard let index = tokens.indices.randomElement(using: &generator) else {
            input = other
            return
        }
        switch generator.next() % 16 {
        case 0, 1, 2, 3:
            let value = value(&generator)
            input.replaceSubrange(valueRange(from: scalar(near: index, tokens), tokens, input), with: value)
        case 4, 5:
            replaceBySame(&input, tokens, index, other, &generator)
        case 6: input.removeSubrange(tokens[index].range)
        case 7: input.insert(contentsOf: input[tokens[index].range], at: tokens[index].range.upperBound)
        case 8, 9: duplicateMember(&input, tokens, index, &generator)
        case 10: removeMember(&input, tokens, index)
        case 11: nest(&input, valueRange(from: index, tokens, input), &generator)
        case 12: changeNumber(&input, tokens, index, &generator)
        case 13: lengthen(&input, tokens, index, &generator)
        case 14:
            // A value of another place or file.
            let others = split(other)
            guard let place = others.indices.randomElement(using: &generator) else { return }
            let piece = other[valueRange(from: place, others, other)]
            input.replaceSubrange(valueRange(from: index, tokens, input), with: piece)
        default: swap(&input, tokens, index, &generator)
        }
    }

    private static func value(_ generator: inout SeededGenerator) -> [UInt8] {
        values.randomElement(using: &generator) ?? []
    }

    // MARK: - Tokens

    /// Strings, words (numbers among them) and single characters of punctuation; of what is not JSON, something.
    private static func split(_ input: [UInt8]) -> [Token] {
        var tokens: [Token] = []
        var position = 0
        while position < input.count {
            let start = position
            position += 1
            switch input[start] {
            case UInt8(ascii: " "), UInt8(ascii: "\n"), UInt8(ascii: "\t"), UInt8(ascii: "\r"):
                continue
            case UInt8(ascii: "\""):
                while position < input.count, input[position] != UInt8(ascii: "\"") {
                    position += input[position] == UInt8(ascii: "\\") ? 2 : 1
                }
                position = min(position + 1, input.count)
                tokens.append(Token(kind: .string, range: start..<position))
            case let byte where isWord(byte):
                while position < input.count, isWord(input[position]) { position += 1 }
                tokens.append(Token(kind: .word, range: start..<position))
            default:
                tokens.append(Token(kind: .punctuation, range: start..<position))
            }
        }
        return tokens
    }

    private static func isWord(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "z"),
            UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: "."):
            true
        default: false
        }
    }

    /// The next token that is no punctuation, or the one asked for.
    private static func scalar(near index: Int, _ tokens: [Token]) -> Int {
        tokens[index...].firstIndex { $0.kind != .punctuation } ?? index
    }

    /// The bytes of a token, or of everything up to its closing bracket.
    private static func valueRange(from index: Int, _ tokens: [Token], _ input: [UInt8]) -> Range<Int> {
        var depth = 0
        for token in tokens[index...] {
            if token.kind == .punctuation {
                switch input[token.range.lowerBound] {
                case UInt8(ascii: "{"), UInt8(ascii: "["): depth += 1
                case UInt8(ascii: "}"), UInt8(ascii: "]"): depth -= 1
                default: break
                }
            }
            if depth <= 0 { return tokens[index].range.lowerBound..<token.range.upperBound }
        }
        return tokens[index].range
    }

    /// The nearest member of an object: key, colon and value.
    private static func member(_ tokens: [Token], _ index: Int, _ input: [UInt8]) -> Range<Int>? {
        var key = index
        while key + 2 < tokens.count {
            if tokens[key].kind == .string, input[tokens[key + 1].range.lowerBound] == UInt8(ascii: ":") {
                return tokens[key].range.lowerBound..<valueRange(from: key + 2, tokens, input).upperBound
            }
            key += 1
        }
        return nil
    }

    // MARK: - Changes

    private static func replaceBySame(
        _ input: inout [UInt8], _ tokens: [Token], _ index: Int, _ other: [UInt8], _ generator: inout SeededGenerator
    ) {
        let source = generator.next() % 2 == 0 ? input : other
        let kind = tokens[index].kind
        let candidates = (source == input ? tokens : split(source)).filter { $0.kind == kind }
        guard let chosen = candidates.randomElement(using: &generator) else { return }
        input.replaceSubrange(tokens[index].range, with: source[chosen.range])
    }

    private static func duplicateMember(
        _ input: inout [UInt8], _ tokens: [Token], _ index: Int, _ generator: inout SeededGenerator
    ) {
        guard let member = member(tokens, index, input) else { return }
        var copy = Array(input[member])
        // Under another name half the time.
        if generator.next() % 2 == 0, copy.count > 2 { copy.insert(UInt8(ascii: "x"), at: 1) }
        input.insert(contentsOf: [UInt8(ascii: ",")] + copy, at: member.upperBound)
    }

    private static func removeMember(_ input: inout [UInt8], _ tokens: [Token], _ index: Int) {
        guard let member = member(tokens, index, input) else { return }
        var range = member
        if range.upperBound < input.count, input[range.upperBound] == UInt8(ascii: ",") {
            range = range.lowerBound..<range.upperBound + 1
        } else if range.lowerBound > 0, input[range.lowerBound - 1] == UInt8(ascii: ",") {
            range = range.lowerBound - 1..<range.upperBound
        }
        input.removeSubrange(range)
    }

    private static func nest(_ input: inout [UInt8], _ range: Range<Int>, _ generator: inout SeededGenerator) {
        let depth = [1, 1, 2, 7, 8, 31, 32, 64, 100, 511, 512, 513, 3000].randomElement(using: &generator) ?? 1
        let isObject = generator.next() % 2 == 0
        let (opening, closing) =
            isObject ? (Array(#"{"type":"#.utf8), Array("}".utf8)) : (Array("[".utf8), Array("]".utf8))
        let value = Array(input[range])
        let opened = [[UInt8]](repeating: opening, count: depth).flatMap(\.self)
        let closed = [[UInt8]](repeating: closing, count: depth).flatMap(\.self)
        input.replaceSubrange(range, with: opened + value + closed)
    }

    private static func changeNumber(
        _ input: inout [UInt8], _ tokens: [Token], _ index: Int, _ generator: inout SeededGenerator
    ) {
        guard let token = tokens[index...].first(where: { $0.kind == .word }),
            let number = Int64(String(decoding: input[token.range], as: UTF8.self))
        else { return }
        let changes = [number &+ 1, number &- 1, 0 &- number, number &* 2, number &* 65536, number / 2]
        input.replaceSubrange(token.range, with: Array("\(changes.randomElement(using: &generator) ?? 0)".utf8))
    }

    /// Makes a string or a number long.
    private static func lengthen(
        _ input: inout [UInt8], _ tokens: [Token], _ index: Int, _ generator: inout SeededGenerator
    ) {
        let token = tokens[scalar(near: index, tokens)]
        guard token.range.count > 1 || token.kind == .word else { return }
        let count = [16, 100, 1023, 1024, 1025, 5000].randomElement(using: &generator) ?? 1
        let byte = input[token.range.upperBound - (token.kind == .string ? 2 : 1)]
        let filling = byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") ? UInt8(ascii: "a") : byte
        input.insert(contentsOf: repeatElement(filling, count: count), at: token.range.lowerBound + 1)
    }

    private static func swap(
        _ input: inout [UInt8], _ tokens: [Token], _ index: Int, _ generator: inout SeededGenerator
    ) {
        let second = Int.random(in: tokens.indices, using: &generator)
        let (low, high) = (tokens[min(index, second)].range, tokens[max(index, second)].range)
        guard low.upperBound <= high.lowerBound else { return }
        let (left, right) = (Array(input[low]), Array(input[high]))
        input.replaceSubrange(high, with: left)
        input.replaceSubrange(low, with: right)
    }
}
