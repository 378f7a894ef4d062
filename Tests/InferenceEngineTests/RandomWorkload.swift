// Tandem — Apache-2.0

import InferenceEngine
import Requests
import TestSupport
import Testing

/// Requests with shared prefixes, priorities, cancels and pauses, and a machine that is too small for them.
struct RandomWorkload {
    /// What happens to a request.
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

    var configuration: SchedulerConfiguration
    var blocks: Int
    var windows: [Int?]
    var maximumLength = 0
    var events: [Event] = []
    var requests: [EngineRequest] = []
    var cancelled: Set<RequestID> = []

    init(seed: UInt64, requests count: Int) throws {
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
        let window = Int.random(in: 2...50, using: &random)
        windows =
            [[nil], [nil], [nil, nil], [window, nil], [nil, window, window, 2 * window], [window]][
                Int.random(in: 0..<6, using: &random)]
        // Between one sequence of almost full length and a few.
        blocks = windows.count * Int.random(in: 90...260, using: &random) / block
        maximumLength = try Harness(configuration, blocks: blocks, windows: windows).scheduler.maximumSequenceLength
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
        let length = Int.random(in: 1..<maximumLength, using: &random)
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
        // A third generates nothing, half of those in one of the ways that need no more than the prompt.
        if Int.random(in: 0..<3, using: &random) == 0, request.resumeOffset == 0 {
            request.maximumNewTokens = 0
            switch Int.random(in: 0..<6, using: &random) {
            case 0: request.pooling = .last
            case 1: request.pooling = .mean
            case 2: request.labelTokens = [3, 96, 3]
            default: break
            }
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

    /// - Parameters:
    ///   - timed: whether steps take random times, which limit prompts.
    ///   - drafts: most tokens that are guessed ahead.
    ///   - period: of a model that repeats itself.
    func run(asynchronous: Bool, timed: Bool = false, drafts: Int = 0, period: Int? = nil) throws -> Harness {
        var configuration = configuration
        configuration.asynchronous = asynchronous
        configuration.draftTokens = drafts
        var harness = try Harness(configuration, blocks: blocks, windows: windows, period: period)
        if timed {
            harness.stepTime = { plan in (plan.step &* 0x9E37) % 997 * UInt64(plan.tokens.count) * 100_000 }
        }
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
        return harness
    }
}
