// Tandem — Apache-2.0

import InferenceEngine
import Requests
import TestSupport
import Testing

/// Random workloads on small machines: whatever the scheduler does, each request must get what it gets alone.
@Suite struct RandomWorkloadTests {
    /// What happens to a request beside being added.
    struct Event {
        enum Kind {
            case add(EngineRequest)
            case cancel(RequestID)
            case pause(RequestID)
            case resume(RequestID, UInt32)
        }

        var round: Int
        var kind: Kind
    }

    struct Workload {
        var configuration: SchedulerConfiguration
        var blocks: [Int]
        var events: [Event] = []
        var requests: [EngineRequest] = []
        var cancelled: Set<RequestID> = []

        init(seed: UInt64, requests count: Int) {
            var random = SplitMix(state: seed)
            let block = [1, 4, 16].randomElement(using: &random) ?? 16
            configuration = SchedulerConfiguration(
                slots: Int.random(in: 1...9, using: &random),
                tokensPerStep: Int.random(in: 1...48, using: &random),
                contextLength: Int.random(in: 40...120, using: &random),
                blockSize: block,
                maximumWaiting: 10_000,
                vocabularySize: 97,
                asynchronous: false,
                prefixCaching: Int.random(in: 0..<5, using: &random) > 0,
                hashSeed: seed
            )
            // Between one sequence of full length and a few.
            let blocks = Int.random(in: 90...260, using: &random) / block
            self.blocks = Bool.random(using: &random) ? [blocks] : [blocks, blocks + 3]
            let bases = (0..<4).map { prompt(90, seed: seed &+ UInt64($0)) }
            var round = 0
            for id in 1...RequestID(count) {
                round += Int.random(in: 0...3, using: &random)
                addRequest(id, bases, round, &random)
            }
            events.sort { $0.round < $1.round }
        }

        private mutating func addRequest(
            _ id: RequestID, _ bases: [[TokenID]], _ round: Int, _ random: inout SplitMix
        ) {
            let limit = min(configuration.contextLength, (blocks.min() ?? 0) * configuration.blockSize)
            let length = Int.random(in: 1..<limit, using: &random)
            var tokens = Array((bases.randomElement(using: &random) ?? []).prefix(length))
            if Bool.random(using: &random), let last = tokens.indices.last {
                tokens[Int.random(in: 0...last, using: &random)] = TokenID.random(in: 0..<97, using: &random)
            }
            var request = EngineRequest(
                id: id, tokens: tokens, maximumNewTokens: Int.random(in: 0...40, using: &random))
            if Int.random(in: 0..<4, using: &random) == 0 {
                request.resumeOffset = Int.random(in: 0..<tokens.count, using: &random)
            }
            request.sampling.temperature = Bool.random(using: &random) ? 0 : 0.5
            request.sampling.seed = random.next()
            request.stopTokens = (0..<Int.random(in: 0...3, using: &random)).map { _ in
                TokenID.random(in: 0..<97, using: &random)
            }
            if Int.random(in: 0..<3, using: &random) == 0 {
                request.logProbabilities = Int.random(in: 0...3, using: &random)
            }
            if Int.random(in: 0..<4, using: &random) == 0 {
                request.promptLogProbabilities = Int.random(in: 0...2, using: &random)
            }
            request.priority = Int32.random(in: -1...1, using: &random)
            request.cacheSalt = Int.random(in: 0..<5, using: &random) == 0 ? "other" : ""
            requests.append(request)
            events.append(Event(round: round, kind: .add(request)))
            if Int.random(in: 0..<8, using: &random) == 0 {
                cancelled.insert(id)
                events.append(Event(round: round + Int.random(in: 0...30, using: &random), kind: .cancel(id)))
            }
            if Int.random(in: 0..<5, using: &random) == 0 {
                let pause = round + Int.random(in: 0...20, using: &random)
                events.append(Event(round: pause, kind: .pause(id)))
                // In small portions, so that the sequence pauses by itself in between; at last without limit.
                let portion = pause + Int.random(in: 0...20, using: &random)
                let credits = UInt32.random(in: 0...5, using: &random)
                events.append(Event(round: portion, kind: .resume(id, credits)))
                let free = portion + Int.random(in: 1...40, using: &random)
                events.append(Event(round: free, kind: .resume(id, .max)))
            }
        }

        func run(asynchronous: Bool) throws -> (Harness, rounds: Int) {
            var configuration = configuration
            configuration.asynchronous = asynchronous
            var harness = try Harness(configuration, blocks: blocks)
            var next = 0
            var round = 0
            var worked = true
            while worked || next < events.count {
                while next < events.count, events[next].round <= round {
                    switch events[next].kind {
                    case .add(let request): try harness.add(request)
                    case .cancel(let id): harness.scheduler.cancel(id)
                    case .pause(let id): harness.scheduler.pause(id)
                    case .resume(let id, let credits): harness.scheduler.resume(id, credits: credits)
                    }
                    harness.collectReady()
                    next += 1
                }
                worked = try harness.round()
                round += 1
                try #require(round < 200_000, "the scheduler does not come to an end")
            }
            return (harness, round)
        }
    }

    @Test(arguments: 0..<40) func everyRequestGetsWhatItGetsAlone(seed: Int) throws {
        let workload = Workload(seed: UInt64(seed) &* 7919, requests: 60)
        var answers: [[RequestID: MockModel.Answer]] = []
        for asynchronous in [false, true] {
            let (harness, _) = try workload.run(asynchronous: asynchronous)
            harness.expectEmpty()
            #expect(harness.collected.count == workload.requests.count)
            for request in workload.requests {
                let collected = try #require(harness.collected[request.id])
                let expected = harness.expected(request)
                if collected.answer.finish == .cancelled {
                    #expect(workload.cancelled.contains(request.id))
                    #expect(expected.tokens.starts(with: collected.answer.tokens))
                    #expect(expected.promptLogProbabilities.starts(with: collected.answer.promptLogProbabilities))
                } else {
                    #expect(collected.answer == expected, "request \(request.id), asynchronous: \(asynchronous)")
                }
            }
            answers.append(harness.collected.mapValues(\.answer).filter { !workload.cancelled.contains($0.key) })
        }
        #expect(answers[0] == answers[1])
    }

    /// The workloads above must reach what they are for.
    @Test func workloadsPreemptShareAndWaste() throws {
        var preemptions: UInt64 = 0
        var cached: UInt64 = 0
        var placeholders = 0
        var chunks = 0
        for seed in 0..<10 {
            let (harness, _) = try Workload(seed: UInt64(seed) &* 7919, requests: 60).run(asynchronous: true)
            preemptions += harness.scheduler.counters.preemptions
            cached += harness.scheduler.counters.cachedPromptTokens
            for row in harness.plans.flatMap(\.rows) {
                if row.firstToken != .given { placeholders += 1 }
                if row.tokenCount > 1, !row.output.sample { chunks += 1 }
            }
        }
        #expect(preemptions > 50)
        #expect(cached > 500)
        #expect(placeholders > 500)
        #expect(chunks > 100)
    }
}
