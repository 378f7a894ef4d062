// Tandem — Apache-2.0

import Grammar
import NIOCore
import NIOPosix
import Requests

/// Compiles grammars on a thread of its own, and keeps the last ones: requests of one application tend to have the same.
///
/// Lives on one event loop. The vocabulary is made when the first grammar comes: it takes memory and some tenths of a
/// second, and most engines never need one.
final class GrammarCompiler {
    /// Makes the vocabulary of a model with so many tokens.
    typealias MakeVocabulary = @Sendable (Int) throws -> TokenVocabulary
    typealias Outcome = Result<TokenGrammar, RequestFailure>

    private let eventLoop: any EventLoop
    private let thread = NIOThreadPool(numberOfThreads: 1)
    private let makeVocabulary: MakeVocabulary?
    private let vocabularySize: Int
    private var vocabulary: EventLoopFuture<TokenVocabulary>?
    /// Compiled grammars, the one used last at the end.
    private var compiled: [(source: GrammarSource, grammar: TokenGrammar)] = []
    private var compiling: [GrammarSource: [(Outcome) -> Void]] = [:]
    private var isRunning = false

    /// Grammars that are kept. Each caches masks for the states that sequences have been in, some 40 MiB at most, and is
    /// made again in milliseconds.
    private static let capacity = 8

    init(eventLoop: any EventLoop, vocabularySize: Int, makeVocabulary: MakeVocabulary?) {
        self.eventLoop = eventLoop
        self.vocabularySize = vocabularySize
        self.makeVocabulary = makeVocabulary
    }

    /// Calls `completion` on the event loop: at once if the grammar is known, else when it is compiled.
    func compile(_ source: GrammarSource, _ completion: @escaping (Outcome) -> Void) {
        if let index = compiled.firstIndex(where: { $0.source == source }) {
            let entry = compiled.remove(at: index)
            compiled.append(entry)
            return completion(.success(entry.grammar))
        }
        guard let makeVocabulary else {
            return completion(
                .failure(
                    RequestFailure(kind: .invalid, message: "this engine has no tokenizer to follow a grammar with")))
        }
        if compiling[source] != nil {
            compiling[source]?.append(completion)
            return
        }
        compiling[source] = [completion]
        let size = vocabularySize
        let vocabulary = vocabulary ?? onThread { try makeVocabulary(size) }
        self.vocabulary = vocabulary
        let box = NIOLoopBound(self, eventLoop: eventLoop)
        vocabulary.flatMapErrorThrowing { error in
            throw NoVocabulary(reason: "\(error)")
        }.flatMap { vocabulary in
            box.value.onThread { TokenGrammar(try CompiledGrammar(source), vocabulary: vocabulary) }
        }.whenComplete { result in
            box.value.finished(source, result)
        }
    }

    private struct NoVocabulary: Error {
        var reason: String
    }

    private func onThread<Value: Sendable>(
        _ work: @escaping @Sendable () throws -> Value
    ) -> EventLoopFuture<Value> {
        if !isRunning {
            thread.start()
            isRunning = true
        }
        return thread.runIfActive(eventLoop: eventLoop, work)
    }

    private func finished(_ source: GrammarSource, _ result: Result<TokenGrammar, any Error>) {
        let outcome: Outcome
        switch result {
        case .success(let grammar):
            compiled.append((source, grammar))
            if compiled.count > Self.capacity { compiled.removeFirst() }
            outcome = .success(grammar)
        case .failure(let error as NoVocabulary):
            // The file may be there again for the next one. It is no fault of the engine, which serves all others.
            vocabulary = nil
            outcome = .failure(
                RequestFailure(kind: .invalid, message: "the tokenizer for grammars cannot be read: \(error.reason)"))
        case .failure(let error):
            outcome = .failure(RequestFailure(kind: .invalid, message: "the grammar cannot be used: \(error)"))
        }
        for completion in compiling.removeValue(forKey: source) ?? [] { completion(outcome) }
    }

    /// Ends the thread; what is being compiled is not reported any more.
    func shutdown() {
        compiling = [:]
        if isRunning { thread.shutdownGracefully { _ in } }
        isRunning = false
    }
}
