// Tandem — Apache-2.0

public import Requests
internal import Synchronization

/// A grammar together with a vocabulary. It keeps the states that texts have led to and their masks; shared by all
/// sequences that use it, from several threads.
public final class TokenGrammar: Sendable {
    private let filler: Mutex<MaskFiller>
    fileprivate let vocabulary: TokenVocabulary

    public convenience init(_ grammar: CompiledGrammar, vocabulary: TokenVocabulary) {
        self.init(grammar, vocabulary: vocabulary, tableBytes: StateTable.usualBytes)
    }

    init(_ grammar: CompiledGrammar, vocabulary: TokenVocabulary, tableBytes: Int) {
        filler = Mutex(MaskFiller(grammar.network, vocabulary: vocabulary, tableBytes: tableBytes))
        self.vocabulary = vocabulary
    }

    /// Calls a function with the filler and with a place's state, translated to the filler's table if need be.
    fileprivate func with<Result: Sendable>(
        _ place: inout GrammarMatcher.Place?, _ body: (inout MaskFiller, inout GrammarMatcher.Place) -> Result
    ) -> Result {
        filler.withLock { filler in
            filler.renewIfFull()
            var current: GrammarMatcher.Place
            if let place {
                let state =
                    place.table === filler.table
                    ? place.state : filler.table.state(equalTo: place.state, of: place.table)
                current = GrammarMatcher.Place(table: filler.table, state: state)
            } else {
                current = GrammarMatcher.Place(table: filler.table, state: filler.table.start())
            }
            let result = body(&filler, &current)
            place = current
            return result
        }
    }
}

/// Where one sequence stands in a grammar. A value: copies are cheap and independent.
public struct GrammarMatcher: Sendable {
    fileprivate struct Place: Sendable {
        /// The table whose number the state is; touched under the grammar's lock only.
        var table: StateTable
        var state: Int32
    }

    private let grammar: TokenGrammar
    private var place: Place?
    /// Whether the text so far is complete (an end token may follow).
    public private(set) var isAccepting = false
    /// Whether the text so far is complete and nothing can follow.
    public private(set) var isExhausted = false

    /// Stands before the first byte.
    public init(_ grammar: TokenGrammar) {
        self.grammar = grammar
        grammar.with(&place) { _, _ in }
        look()
    }

    /// Advances by a token's bytes. False, and nothing changed, if they cannot follow.
    public mutating func accept(_ token: TokenID) -> Bool {
        let bytes = grammar.vocabulary.bytes(of: token)
        guard !bytes.isEmpty else { return false }
        var next = place
        let isPossible = grammar.with(&next) { filler, place in filler.advance(&place.table, &place.state, bytes) }
        guard isPossible else { return false }
        place = next
        look()
        return true
    }

    /// Overwrites all `maskWords` words; bit t % 32 of word t / 32 permits token t. End tokens are the caller's business.
    ///
    /// - Returns: how many tokens are permitted; nil, and none is, if the grammar is so ambiguous that finding them would
    ///   hold everybody up.
    @discardableResult
    public func fillMask(_ words: UnsafeMutableBufferPointer<UInt32>) -> Int? {
        var copy = place
        return grammar.with(&copy) { filler, place in filler.fill(place.state, words) }
    }

    private mutating func look() {
        (isAccepting, isExhausted) = grammar.with(&place) { filler, place in
            let state = filler.table.states[Int(place.state)]
            return (state.isAccepting, state.isAccepting && !state.canContinue)
        }
    }
}
