// Tandem — Apache-2.0

import EngineLink
import Requests
import TestSupport

extension SeededGenerator {
    mutating func integer<T: FixedWidthInteger>(_ type: T.Type = T.self) -> T {
        // Small, extreme and arbitrary values alike.
        switch next() % 8 {
        case 0: T.min
        case 1: T.max
        case 2: 0
        default: T(truncatingIfNeeded: next())
        }
    }

    mutating func float() -> Float {
        // No NaN: it equals nothing, not even itself.
        let value = Float(bitPattern: integer())
        return value.isNaN ? -0.0 : value
    }

    mutating func count(_ most: UInt64 = 5) -> Int { Int(next() % (most + 1)) }

    mutating func array<Element>(_ element: (inout SeededGenerator) -> Element) -> [Element] {
        (0..<count()).map { _ in element(&self) }
    }

    mutating func optional<Value>(_ value: (inout SeededGenerator) -> Value) -> Value? {
        next() % 2 == 0 ? nil : value(&self)
    }

    mutating func string() -> String {
        let pieces = ["", "a", "model/7b", "ß", "日本", "👩‍💻", "\u{0}", "\u{FFFD}", "é\u{301}"]
        return (0..<count()).map { _ in pieces[count(UInt64(pieces.count - 1))] }.joined()
    }

    mutating func digest() -> Digest128 { Digest128(high: integer(), low: integer()) }

    mutating func times() -> EngineTimes {
        EngineTimes(
            schedule: integer(), prepare: integer(), sample: integer(), report: integer(), stall: integer(),
            device: integer(), gap: integer(), idle: integer(), attention: integer(), mlp: integer(), rest: integer())
    }

    mutating func tokens() -> [TokenID] { array { $0.integer() } }

    mutating func entry() -> TokenLogProbability { TokenLogProbability(token: integer(), logProbability: float()) }

    mutating func position() -> PositionLogProbabilities {
        PositionLogProbabilities(chosen: entry(), top: array { $0.entry() }, rank: integer())
    }

    mutating func sequenceOutput() -> SequenceOutput {
        let reasons: [FinishReason] = [.stop, .length, .cancelled, .failed]
        let kinds: [RequestFailure.Kind] = [.doesNotFit, .invalid, .overloaded, .engine, .draining]
        let start = optional { (cached: $0.integer() as Int, prefill: $0.optional { UInt32($0.count(1 << 30)) }) }
        return SequenceOutput(
            id: integer(),
            tokens: tokens(),
            logProbabilities: array { $0.position() },
            promptLogProbabilities: array { $0.position() },
            score: optional {
                PromptScore(labels: $0.array { $0.float() }, pooled: $0.array { $0.float() })
            },
            finish: optional { reasons[$0.count(3)] },
            failure: optional { RequestFailure(kind: kinds[$0.count(4)], message: $0.string()) },
            cachedPromptTokens: start?.cached,
            prefillMicroseconds: start?.prefill
        )
    }

    mutating func engineRequest() -> EngineRequest {
        EngineRequest(
            id: integer(),
            tokens: tokens(),
            resumeOffset: integer(),
            sampling: SamplingParameters(
                temperature: float(),
                topK: integer(),
                topP: float(),
                minP: float(),
                repetitionPenalty: float(),
                frequencyPenalty: float(),
                presencePenalty: float(),
                seed: integer(),
                choiceIndex: integer()
            ),
            maximumNewTokens: integer(),
            stopTokens: tokens(),
            minimumNewTokens: integer(),
            logitBias: array { TokenBias(token: $0.integer(), bias: $0.float()) },
            grammar: optional { $0.grammar() },
            logProbabilities: optional { $0.integer() },
            promptLogProbabilities: optional { $0.integer() },
            pooling: optional { $0.next() % 2 == 0 ? .last : .mean },
            labelTokens: tokens(),
            priority: integer(),
            cacheSalt: string()
        )
    }

    mutating func grammar() -> GrammarSource {
        let kinds: [GrammarSource.Kind] = [.jsonObject, .jsonSchema, .regularExpression, .gbnf, .choice]
        return GrammarSource(kind: kinds[count(4)], text: string(), prefix: string(), suffix: string())
    }

    mutating func engineHello() -> EngineHello {
        EngineHello(
            engineIndex: integer(),
            pid: integer(),
            modelName: string(),
            modelFingerprint: digest(),
            tokenizerFingerprint: digest(),
            vocabularySize: integer(),
            blockSize: integer(),
            hashSeed: integer(),
            keyValueBlocks: integer(),
            maximumContextLength: integer(),
            maximumSequences: integer(),
            device: string(),
            attachProof: string()
        )
    }

    mutating func stepSizes() -> StepSizes {
        var sizes = StepSizes()
        for _ in 0..<count(20) { sizes.add(tokens: count(40_000)) }
        return sizes
    }

    mutating func statistics() -> EngineStatistics {
        EngineStatistics(
            steps: integer(),
            runningSequences: integer(),
            waitingSequences: integer(),
            usedBlocks: integer(),
            totalBlocks: integer(),
            promptTokens: integer(),
            generatedTokens: integer(),
            cachedPromptTokens: integer(),
            preemptions: integer(),
            draftedTokens: integer(),
            acceptedTokens: integer(),
            stepSizes: stepSizes(),
            times: times(),
            storedBlocks: array { BlockHash($0.digest()) },
            evictedBlocks: array { BlockHash($0.digest()) }
        )
    }

    mutating func roster() -> Roster {
        let states: [RosterEntry.State] = [.starting, .ready, .draining, .restarting, .failed]
        return Roster(
            generation: integer(),
            engines: array {
                RosterEntry(
                    index: $0.integer(),
                    address: $0.string(),
                    state: states[$0.count(4)],
                    pid: $0.integer(),
                    restarts: $0.integer(),
                    reason: $0.string()
                )
            }
        )
    }

    /// One message of each kind, with random values.
    mutating func everyMessage() -> [LinkMessage] {
        let codes: [LinkError.Code] = [.version, .fingerprint, .malformed, .tooLong, .connection]
        return [
            .clientHello(ClientHello(tokenizerFingerprint: digest(), pid: integer())),
            .engineHello(engineHello()),
            .submit(engineRequest()),
            .cancel(integer()),
            .pause(integer()),
            .resume(integer(), credits: integer()),
            .stepOutput(StepOutput(step: integer(), outputs: array { $0.sequenceOutput() })),
            .statistics(statistics()),
            .error(LinkError(code: codes[count(4)], message: string())),
            .drain,
            .roster(roster()),
            .gatewayReady(port: integer()),
            .heartbeat(Heartbeat(progress: integer(), isWorking: next() % 2 == 0)),
            .engineReport(
                ExternalEngineReport(
                    engineIndex: integer(), pid: integer(), finding: [.doubt, .computes, .idle][count(2)],
                    detail: string())),
        ] + administration()
    }
}
