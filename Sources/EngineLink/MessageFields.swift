// Tandem — Apache-2.0

import NIOCore
import Requests

// Fields of the messages that are written once a connection, a request or a few times a second. Each writer stands
// beside its reader; the order is the format.

extension ByteBuffer {
    mutating func write(_ hello: ClientHello) {
        writeInteger(hello.version, endianness: .little)
        write(hello.tokenizerFingerprint)
        writeInteger(hello.pid, endianness: .little)
    }
}

extension FieldReader {
    /// The version of a hello. What follows it may look different in another version, so this is checked first.
    mutating func version() throws(LinkError) -> UInt16 {
        let version: UInt16 = try integer("version")
        guard version == engineLinkVersion else {
            throw LinkError(
                code: .version,
                message: "engine link: the other end speaks version \(version), this end \(engineLinkVersion); "
                    + "run the same release at both ends"
            )
        }
        return version
    }

    mutating func clientHello() throws(LinkError) -> ClientHello {
        ClientHello(
            version: try version(),
            tokenizerFingerprint: try digest("tokenizerFingerprint"),
            pid: try integer("pid")
        )
    }
}

extension ByteBuffer {
    mutating func write(_ hello: EngineHello) {
        writeMultipleIntegers(hello.version, hello.engineIndex, hello.pid, endianness: .little)
        write(hello.modelName)
        write(hello.modelFingerprint)
        write(hello.tokenizerFingerprint)
        writeMultipleIntegers(hello.vocabularySize, hello.blockSize, hello.hashSeed, endianness: .little)
        writeMultipleIntegers(
            hello.keyValueBlocks,
            hello.maximumContextLength,
            hello.maximumSequences,
            endianness: .little
        )
        write(hello.device)
        write(hello.attachProof)
    }
}

extension FieldReader {
    mutating func engineHello() throws(LinkError) -> EngineHello {
        EngineHello(
            version: try version(),
            engineIndex: try integer("engineIndex"),
            pid: try integer("pid"),
            modelName: try string("modelName"),
            modelFingerprint: try digest("modelFingerprint"),
            tokenizerFingerprint: try digest("tokenizerFingerprint"),
            vocabularySize: try integer("vocabularySize"),
            blockSize: try integer("blockSize"),
            hashSeed: try integer("hashSeed"),
            keyValueBlocks: try integer("keyValueBlocks"),
            maximumContextLength: try integer("maximumContextLength"),
            maximumSequences: try integer("maximumSequences"),
            device: try string("device"),
            attachProof: try string("attachProof")
        )
    }
}

extension ByteBuffer {
    mutating func write(_ request: EngineRequest) {
        writeInteger(request.id, endianness: .little)
        write(request.tokens)
        write(request.resumeOffset)
        write(request.sampling.temperature)
        writeInteger(request.sampling.topK, endianness: .little)
        write(request.sampling.topP)
        write(request.sampling.minP)
        write(request.sampling.repetitionPenalty)
        write(request.sampling.frequencyPenalty)
        write(request.sampling.presencePenalty)
        writeMultipleIntegers(request.sampling.seed, request.sampling.choiceIndex, endianness: .little)
        write(request.maximumNewTokens)
        write(request.stopTokens)
        write(request.minimumNewTokens)
        writeCount(request.logitBias.count)
        for entry in request.logitBias {
            writeInteger(entry.token, endianness: .little)
            write(entry.bias)
        }
        write(request.grammar)
        write(request.logProbabilities)
        write(request.promptLogProbabilities)
        writeInteger(request.pooling?.rawValue ?? 0)
        write(request.labelTokens)
        writeInteger(request.priority, endianness: .little)
        write(request.cacheSalt)
    }

    private mutating func write(_ grammar: GrammarSource?) {
        writeInteger(grammar?.kind.rawValue ?? 0)
        guard let grammar else { return }
        write(grammar.text)
        write(grammar.prefix)
        write(grammar.suffix)
    }
}

extension FieldReader {
    mutating func engineRequest() throws(LinkError) -> EngineRequest {
        EngineRequest(
            id: try integer("id"),
            tokens: try tokens("tokens"),
            resumeOffset: try int("resumeOffset"),
            sampling: SamplingParameters(
                temperature: try float("temperature"),
                topK: try integer("topK"),
                topP: try float("topP"),
                minP: try float("minP"),
                repetitionPenalty: try float("repetitionPenalty"),
                frequencyPenalty: try float("frequencyPenalty"),
                presencePenalty: try float("presencePenalty"),
                seed: try integer("seed"),
                choiceIndex: try integer("choiceIndex")
            ),
            maximumNewTokens: try int("maximumNewTokens"),
            stopTokens: try tokens("stopTokens"),
            minimumNewTokens: try int("minimumNewTokens"),
            logitBias: try array("logitBias", elementBytes: 8) { reader throws(LinkError) in
                TokenBias(token: try reader.integer("logitBias"), bias: try reader.float("logitBias"))
            },
            grammar: try grammar(),
            logProbabilities: try optionalInt("logProbabilities"),
            promptLogProbabilities: try optionalInt("promptLogProbabilities"),
            pooling: try optionalChoice("pooling"),
            labelTokens: try tokens("labelTokens"),
            priority: try integer("priority"),
            cacheSalt: try string("cacheSalt")
        )
    }

    private mutating func grammar() throws(LinkError) -> GrammarSource? {
        guard let kind: GrammarSource.Kind = try optionalChoice("grammar") else { return nil }
        return GrammarSource(
            kind: kind, text: try string("grammar text"), prefix: try string("grammar prefix"),
            suffix: try string("grammar suffix"))
    }
}

extension ByteBuffer {
    mutating func write(_ statistics: EngineStatistics) {
        writeInteger(statistics.steps, endianness: .little)
        writeMultipleIntegers(
            statistics.runningSequences,
            statistics.waitingSequences,
            statistics.usedBlocks,
            statistics.totalBlocks,
            endianness: .little
        )
        writeMultipleIntegers(
            statistics.promptTokens,
            statistics.generatedTokens,
            statistics.cachedPromptTokens,
            statistics.preemptions,
            endianness: .little
        )
        writeMultipleIntegers(statistics.draftedTokens, statistics.acceptedTokens, endianness: .little)
        write(statistics.stepSizes)
        write(statistics.times)
        write(statistics.storedBlocks)
        write(statistics.evictedBlocks)
    }

    private mutating func write(_ sizes: StepSizes) {
        writeCount(sizes.counts.count)
        for count in sizes.counts { writeInteger(count, endianness: .little) }
        writeInteger(sizes.tokens, endianness: .little)
    }

    private mutating func write(_ times: EngineTimes) {
        writeMultipleIntegers(
            times.schedule, times.prepare, times.sample, times.report, times.stall, endianness: .little)
        writeMultipleIntegers(times.device, times.gap, times.idle, endianness: .little)
        writeMultipleIntegers(times.attention, times.mlp, times.rest, endianness: .little)
    }

    private mutating func write(_ blocks: [BlockHash]) {
        writeCount(blocks.count)
        for block in blocks { write(block.digest) }
    }
}

extension FieldReader {
    mutating func statistics() throws(LinkError) -> EngineStatistics {
        EngineStatistics(
            steps: try integer("steps"),
            runningSequences: try integer("runningSequences"),
            waitingSequences: try integer("waitingSequences"),
            usedBlocks: try integer("usedBlocks"),
            totalBlocks: try integer("totalBlocks"),
            promptTokens: try integer("promptTokens"),
            generatedTokens: try integer("generatedTokens"),
            cachedPromptTokens: try integer("cachedPromptTokens"),
            preemptions: try integer("preemptions"),
            draftedTokens: try integer("draftedTokens"),
            acceptedTokens: try integer("acceptedTokens"),
            stepSizes: try stepSizes(),
            times: try times(),
            storedBlocks: try blocks("storedBlocks"),
            evictedBlocks: try blocks("evictedBlocks")
        )
    }

    private mutating func stepSizes() throws(LinkError) -> StepSizes {
        let counts = try array("stepSizes", elementBytes: 8) { reader throws(LinkError) -> UInt64 in
            try reader.integer("stepSizes")
        }
        guard let sizes = StepSizes(counts: counts, tokens: try integer("stepTokens")) else {
            throw malformed("stepSizes", "\(counts.count) counts")
        }
        return sizes
    }

    private mutating func times() throws(LinkError) -> EngineTimes {
        EngineTimes(
            schedule: try integer("schedule"),
            prepare: try integer("prepare"),
            sample: try integer("sample"),
            report: try integer("report"),
            stall: try integer("stall"),
            device: try integer("device"),
            gap: try integer("gap"),
            idle: try integer("idle"),
            attention: try integer("attention"),
            mlp: try integer("mlp"),
            rest: try integer("rest")
        )
    }

    private mutating func blocks(_ field: StaticString) throws(LinkError) -> [BlockHash] {
        try array(field, elementBytes: 16) { reader throws(LinkError) in BlockHash(try reader.digest(field)) }
    }
}

extension ByteBuffer {
    mutating func write(_ heartbeat: Heartbeat) {
        writeInteger(heartbeat.progress, endianness: .little)
        writeInteger(UInt8(heartbeat.isWorking ? 1 : 0))
    }
}

extension FieldReader {
    mutating func heartbeat() throws(LinkError) -> Heartbeat {
        let progress: UInt64 = try integer("progress")
        let isWorking: UInt8 = try integer("isWorking")
        guard isWorking < 2 else { throw malformed("isWorking", "\(isWorking) is neither 0 nor 1") }
        return Heartbeat(progress: progress, isWorking: isWorking == 1)
    }
}

extension ByteBuffer {
    mutating func write(_ report: ExternalEngineReport) {
        writeMultipleIntegers(report.engineIndex, report.pid, endianness: .little)
        writeInteger(report.finding.rawValue)
        write(report.detail)
    }
}

extension FieldReader {
    mutating func engineReport() throws(LinkError) -> ExternalEngineReport {
        let index: UInt32 = try integer("engineIndex")
        let pid: Int32 = try integer("pid")
        return ExternalEngineReport(
            engineIndex: index, pid: pid, finding: try choice("finding"), detail: try string("detail"))
    }
}

extension ByteBuffer {
    mutating func write(_ error: LinkError) {
        writeInteger(error.code.rawValue)
        write(error.message)
    }
}

extension FieldReader {
    mutating func linkError() throws(LinkError) -> LinkError {
        LinkError(code: try choice("code"), message: try string("message"))
    }
}

extension ByteBuffer {
    mutating func write(_ roster: Roster) {
        writeInteger(roster.generation, endianness: .little)
        writeCount(roster.engines.count)
        for engine in roster.engines {
            writeInteger(engine.index, endianness: .little)
            write(engine.address)
            writeInteger(engine.state.rawValue)
            writeMultipleIntegers(engine.pid, engine.restarts, endianness: .little)
            write(engine.reason)
        }
    }
}

extension FieldReader {
    /// Index, two empty strings, state, pid and restarts.
    private static let smallestRosterEntry = 4 + 4 + 1 + 4 + 4 + 4

    mutating func roster() throws(LinkError) -> Roster {
        Roster(
            generation: try integer("generation"),
            engines: try array("engines", elementBytes: Self.smallestRosterEntry) { reader throws(LinkError) in
                RosterEntry(
                    index: try reader.integer("index"),
                    address: try reader.string("address"),
                    state: try reader.choice("state"),
                    pid: try reader.integer("pid"),
                    restarts: try reader.integer("restarts"),
                    reason: try reader.string("reason")
                )
            }
        )
    }
}
