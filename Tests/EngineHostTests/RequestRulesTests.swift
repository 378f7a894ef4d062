// Tandem — Apache-2.0

import EngineLink
import Requests
import Testing

@testable import EngineHost

@Suite struct RequestRulesTests {
    private let rules = RequestRules(vocabularySize: 100, contextLength: 8)
    private let good = EngineRequest(
        id: 1,
        tokens: [0, 99],
        resumeOffset: 1,
        sampling: SamplingParameters(temperature: 0.7, topK: 40, topP: 1, minP: 1),
        maximumNewTokens: 5,
        stopTokens: [99],
        logProbabilities: 0,
        promptLogProbabilities: 20
    )

    @Test func goodRequestsPass() {
        #expect(rules.refusal(of: good) == nil)
        #expect(rules.refusal(of: EngineRequest(id: 1, tokens: [1], maximumNewTokens: .max)) == nil)
        #expect(rules.refusal(of: EngineRequest(id: 1, tokens: [1], maximumNewTokens: 0)) == nil)
    }

    /// Each change alone makes the good request bad; the message has the word that helps to find it.
    static let spoilers: [(word: String, spoil: @Sendable (inout EngineRequest) -> Void)] = [
        ("no tokens", { $0.tokens = [] }),
        ("token id 100", { $0.tokens = [1, 100] }),
        ("token id -1", { $0.tokens = [-1] }),
        ("resume offset", { $0.resumeOffset = -1 }),
        ("resume offset", { $0.resumeOffset = 2 }),
        ("resume offset", { $0.resumeOffset = .max }),
        ("new tokens", { $0.maximumNewTokens = -1 }),
        ("stop token id", { $0.stopTokens = [100] }),
        ("stop tokens", { $0.stopTokens = Array(repeating: 1, count: 1025) }),
        ("log-probabilities", { $0.logProbabilities = 21 }),
        ("log-probabilities", { $0.promptLogProbabilities = -1 }),
        ("cache salt", { $0.cacheSalt = String(repeating: "x", count: 4097) }),
        ("temperature", { $0.sampling.temperature = -0.1 }),
        ("temperature", { $0.sampling.temperature = .nan }),
        ("temperature", { $0.sampling.temperature = .infinity }),
        ("top-k", { $0.sampling.topK = -1 }),
        ("top-p", { $0.sampling.topP = 0 }),
        ("top-p", { $0.sampling.topP = .nan }),
        ("top-p", { $0.sampling.topP = 1.01 }),
        ("min-p", { $0.sampling.minP = -0.01 }),
        ("min-p", { $0.sampling.minP = .nan }),
    ]

    @Test(arguments: spoilers.indices)
    func badRequestsAreRefused(_ index: Int) {
        let (word, spoil) = Self.spoilers[index]
        var request = good
        spoil(&request)
        let refusal = rules.refusal(of: request)
        #expect(refusal?.kind == .invalid)
        #expect(refusal?.message.contains(word) == true)
    }

    @Test func longRequestsDoNotFit() {
        let request = EngineRequest(id: 1, tokens: Array(repeating: 1, count: 9), maximumNewTokens: 1)
        #expect(rules.refusal(of: request)?.kind == .doesNotFit)
    }
}

@Suite struct RequestTableTests {
    private let one = LinkConnectionID(rawValue: 1)
    private let two = LinkConnectionID(rawValue: 2)

    @Test func connectionsMayUseTheSameIds() throws {
        var table = RequestTable()
        let added = [table.add(7, of: one), table.add(7, of: two), table.add(7, of: one)]
        #expect(added[2] == nil)
        let first = try #require(added[0])
        let second = try #require(added[1])
        #expect(first != second)
        let routes = [
            table.route(first, isLast: false), table.route(second, isLast: true), table.route(second, isLast: false),
        ]
        #expect(routes == [.init(connection: one, request: 7), .init(connection: two, request: 7), nil])
        #expect(table.sequence(of: 7, of: two) == nil)
        #expect(table.sequence(of: 7, of: one) == first)
        // The id is free again, its old number is not.
        let third = table.add(7, of: two)
        #expect(third != nil && third != second)
    }

    @Test func lostConnectionLeavesNothing() {
        var table = RequestTable()
        let sequences = (1...5).compactMap { table.add($0, of: one) }
        let other = table.add(1, of: two)
        let lost = table.remove(one)
        #expect(sequences.count == 5)
        #expect(lost == sequences)
        let routes = sequences.compactMap { table.route($0, isLast: false) }
        #expect(routes.isEmpty)
        #expect(!table.isEmpty)
        let rest = [table.remove(two), table.remove(two)]
        #expect(rest == [[other].compactMap { $0 }, []])
        #expect(table.isEmpty)
    }
}
