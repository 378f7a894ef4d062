// Tandem — Apache-2.0

import Grammar
import Requests

/// Grammars that were compiled not long ago, so that a client that sends the same one with every request waits for it
/// once.
struct RecentGrammars {
    private var known: Set<GrammarSource> = []
    /// In order of arrival.
    private var order: [GrammarSource] = []
    private let limit: Int
    private let maximumBytes: Int

    init(limit: Int = 64, maximumBytes: Int = 16 << 10) {
        self.limit = limit
        self.maximumBytes = maximumBytes
    }

    func contains(_ source: GrammarSource) -> Bool { known.contains(source) }

    mutating func insert(_ source: GrammarSource) {
        guard source.text.utf8.count <= maximumBytes, known.insert(source).inserted else { return }
        order.append(source)
        if order.count > limit { known.remove(order.removeFirst()) }
    }
}

extension StructuredOutput {
    /// Compiles the source as an engine will.
    ///
    /// - Throws: 400 naming the field, and the place inside it.
    func check() throws(APIError) {
        do throws(GrammarError) {
            _ = try CompiledGrammar(source)
        } catch {
            throw .invalid(field, "`\(field)` cannot be used: \(error)")
        }
    }
}
