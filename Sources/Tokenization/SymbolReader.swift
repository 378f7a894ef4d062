// Tandem — Apache-2.0

import Requests

/// Makes a word's first symbols, before any merge, and the tokens of those that stay without one.
struct SymbolReader: Sendable {
    enum Unit: Sendable {
        /// Every byte is a symbol; a byte without a token is `unknown`, or left out.
        case bytes
        /// Every character is a symbol; what it has no token for becomes bytes or `unknown` before merging.
        case characters
        /// The same, after merging.
        case characterTexts
    }

    let unit: Unit
    let table: TokenTable
    /// The token of each byte, or -1.
    let byteTokens: [TokenID]
    let fallsBackToBytes: Bool
    /// -1 if there is none: what has no token is then left out.
    let unknown: TokenID
    let fusesUnknown: Bool

    /// Appends the symbols of `text[word]`.
    func read(_ word: Range<Int>, of text: ArraySlice<UInt8>, into symbols: inout [Symbol]) {
        var index = word.lowerBound
        while index < word.upperBound {
            let start = Int32(truncatingIfNeeded: index)
            if unit == .bytes {
                let token = byteTokens[Int(text[index])]
                index += 1
                if token >= 0 || unknown >= 0 {
                    symbols.append(Symbol(token: token >= 0 ? token : unknown, start: start, end: start + 1))
                }
                continue
            }
            let end = min(index + ScalarClass.length(ofScalarStartingWith: text[index]), word.upperBound)
            let symbol = Symbol(
                token: table.find(text[index..<end]) ?? -1, start: start, end: Int32(truncatingIfNeeded: end))
            if symbol.token < 0, unit == .characters {
                appendSubstitute(index..<end, of: text, into: &symbols)
            } else {
                symbols.append(symbol)
            }
            index = end
        }
    }

    private func hasBytes(_ range: Range<Int>, of text: ArraySlice<UInt8>) -> Bool {
        fallsBackToBytes && text[range].allSatisfy { byteTokens[Int($0)] >= 0 }
    }

    private func appendSubstitute(_ range: Range<Int>, of text: ArraySlice<UInt8>, into symbols: inout [Symbol]) {
        if hasBytes(range, of: text) {
            for index in range {
                let start = Int32(truncatingIfNeeded: index)
                symbols.append(Symbol(token: byteTokens[Int(text[index])], start: start, end: start + 1))
            }
        } else if unknown >= 0 {
            symbols.append(
                Symbol(
                    token: unknown, start: Int32(truncatingIfNeeded: range.lowerBound),
                    end: Int32(truncatingIfNeeded: range.upperBound)))
        }
    }

    /// Appends the tokens of a symbol once all merges are done.
    @inline(__always)
    func append(
        _ symbol: Symbol, of text: ArraySlice<UInt8>, from textStart: Int, into result: inout [TokenID]
    ) {
        if symbol.token >= 0, symbol.token != unknown {
            result.append(symbol.token)
        } else {
            appendUnknown(symbol, of: text, from: textStart, into: &result)
        }
    }

    private func appendUnknown(
        _ symbol: Symbol, of text: ArraySlice<UInt8>, from textStart: Int, into result: inout [TokenID]
    ) {
        let range = Int(symbol.start)..<Int(symbol.end)
        if symbol.token < 0, hasBytes(range, of: text) {
            for byte in text[range] { result.append(byteTokens[Int(byte)]) }
        } else if unknown >= 0 {
            let isFused = fusesUnknown && result.count > textStart && result.last == unknown
            if !isFused { result.append(unknown) }
        }
    }
}
