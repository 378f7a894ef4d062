// Tandem — Apache-2.0

import Requests

/// Turns text into tokens: special tokens first, then normalization, words, and merges within words.
struct TextEncoder: Sendable {
    private enum Model: Sendable {
        case ranked(RankedPairs)
        case scored(ScoredPairs)
    }

    private enum Words: Sendable {
        case pattern(PreTokenizer)
        case cuts(TextCuts, beforeSpaces: Bool)
    }

    private let model: Model
    private let words: Words
    private let atoms: SymbolReader
    private let specials: SpecialTokenMatcher
    private let normalizedSpecials: SpecialTokenMatcher
    private let normalization: TextNormalization
    private let spacePrefix: TokenizerDefinition.SpacePrefix

    init(_ definition: TokenizerDefinition, _ builder: VocabularyBuilder) throws(TokenizationError) {
        let table = builder.table
        switch definition.merging {
        case .lines(let lines): model = .ranked(RankedPairs(merges: try builder.merges(lines)))
        case .pairs(let pairs): model = .ranked(RankedPairs(merges: try builder.merges(pairs)))
        case .scores(let scores): model = .scored(ScoredPairs(table: table, ranks: try builder.scores(scores)))
        }
        if let preTokenizer = definition.preTokenizer {
            words = .pattern(preTokenizer)
        } else {
            var cuts = TextCuts()
            for (index, kind) in builder.kinds.enumerated() where kind != .control && kind != .byte {
                cuts.insert(table.bytes[table.range(of: index)])
            }
            words = .cuts(cuts, beforeSpaces: definition.splitsBeforeSpaces)
        }
        let unknown = try builder.token(definition.unknownToken, field: definition.fields.unknown) ?? -1
        let unit: SymbolReader.Unit =
            switch (definition.alphabet, definition.merging) {
            case (.bytes, _): .bytes
            case (.text, .scores): .characterTexts
            case (.text, _): .characters
            }
        atoms = SymbolReader(
            unit: unit, table: table, byteTokens: builder.byteTokens, fallsBackToBytes: definition.fallsBackToBytes,
            unknown: unknown, fusesUnknown: definition.fusesUnknown)
        specials = builder.specials
        normalizedSpecials = builder.normalizedSpecials
        normalization = definition.normalization
        spacePrefix = definition.spacePrefix
    }

    /// Appends the tokens of `text`, which is valid UTF-8.
    func encode(_ text: [UInt8], parseSpecialTokens: Bool, into result: inout [TokenID]) {
        switch model {
        case .ranked(let ranking):
            var pairs = BytePairEncoder(ranking: ranking, atoms: atoms)
            encode(text, parseSpecialTokens, &pairs, into: &result)
        case .scored(let ranking):
            var pairs = BytePairEncoder(ranking: ranking, atoms: atoms)
            encode(text, parseSpecialTokens, &pairs, into: &result)
        }
    }

    private func encode<Ranking>(
        _ text: [UInt8], _ parseSpecialTokens: Bool, _ pairs: inout BytePairEncoder<Ranking>,
        into result: inout [TokenID]
    ) {
        forEachPart(of: text[...], specials, parseSpecialTokens, into: &result) { part, result in
            let isStart = part.startIndex == 0
            let normalized = normalization.apply(to: part)
            forEachPart(of: normalized, normalizedSpecials, parseSpecialTokens, into: &result) { part, result in
                encodeOrdinary(
                    part, isStart: isStart && part.startIndex == normalized.startIndex, &pairs, into: &result)
            }
        }
    }

    /// Appends the special tokens of `text` and calls `body` with what lies between.
    private func forEachPart(
        of text: ArraySlice<UInt8>, _ specials: SpecialTokenMatcher, _ parseSpecialTokens: Bool,
        into result: inout [TokenID], _ body: (ArraySlice<UInt8>, inout [TokenID]) -> Void
    ) {
        var start = text.startIndex
        while start < text.endIndex {
            let special = specials.next(in: text, from: start, includingControl: parseSpecialTokens)
            let end = special?.range.lowerBound ?? text.endIndex
            if end > start { body(text[start..<end], &result) }
            if let special { result.append(special.token) }
            start = special?.range.upperBound ?? text.endIndex
        }
    }

    private func encodeOrdinary<Ranking>(
        _ part: ArraySlice<UInt8>, isStart: Bool, _ pairs: inout BytePairEncoder<Ranking>,
        into result: inout [TokenID]
    ) {
        var text = part
        let wantsSpace =
            switch spacePrefix {
            case .never: false
            case .atStart: isStart
            case .everyPart: true
            }
        if wantsSpace, part.first != SpaceMark.space { text = ([SpaceMark.space] + part)[...] }
        let textStart = result.count
        switch words {
        case .pattern(let preTokenizer):
            preTokenizer.forEachWord(in: text) { word in
                let range = (text.startIndex + word.lowerBound)..<(text.startIndex + word.upperBound)
                if preTokenizer.ignoresMerges, let token = atoms.table.find(text[range]) {
                    result.append(token)
                } else {
                    pairs.encode(range, of: text, from: textStart, into: &result)
                }
            }
        case .cuts(let cuts, let beforeSpaces):
            cuts.forEachPart(of: text, cuttingBeforeSpaces: beforeSpaces) { range in
                pairs.encode(range, of: text, from: textStart, into: &result)
            }
        }
    }
}
