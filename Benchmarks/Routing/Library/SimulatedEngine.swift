// Tandem — Apache-2.0

import Requests
import Routing

/// How fast an engine computes, in seconds, and how much it holds.
public struct EngineModel: Sendable {
    public var name: String
    /// Every step takes that long,
    public var step: Double
    /// and that much longer for each sequence that generates in it,
    public var newToken: Double
    /// and for each prompt token that is computed in it.
    public var promptToken: Double
    /// Sequences that run at once.
    public var sequences: Int
    /// Prompt tokens a step.
    public var promptTokens: Int
    /// Blocks in its prefix cache.
    public var blocks: Int
    public var blockSize = 16

    /// SmolLM2-135M on one core, from the measurements in `Benchmarks/README.md`: 1100 prompt tokens/s, 267 generated
    /// tokens/s alone and 786 at batch 16.
    public static let smallOnCore = EngineModel(
        name: "SmolLM2 on a core", step: 0.0026, newToken: 0.0011, promptToken: 0.0009, sequences: 64,
        promptTokens: 256, blocks: 1500)
    /// An engine whose steps cost much the same however many sequences are in them. The numbers are assumed.
    public static let batched = EngineModel(
        name: "a GPU, assumed", step: 0.010, newToken: 0.00005, promptToken: 0.00005, sequences: 128,
        promptTokens: 2048, blocks: 1500)

    /// Seconds of an engine that a request takes with nothing cached, with sixteen others beside it.
    func work(_ job: Job) -> Double {
        Double(job.promptTokens) * promptToken + Double(job.newTokens) * (newToken + step / 16)
    }
}

/// An engine that works in steps: everything that runs generates a token a step, prompts are computed beside it up to a
/// budget, whole blocks of prompts are kept until others need the room, and what another sequence is computing is
/// waited for.
struct SimulatedEngine {
    struct Running {
        var job: Job
        var computed: Int
        var generated = 0
    }

    let model: EngineModel
    let speed: Double
    private(set) var running: [Running] = []
    private(set) var waiting: [Job] = []
    private var cache: RecentBlocks
    private var stored: Set<BlockHash> = []
    private var evicted: Set<BlockHash> = []
    private var lastReport = 0.0
    /// Seconds spent in steps.
    private(set) var busy = 0.0
    private(set) var cachedTokens = 0
    /// Rows of the step that is under way: prompt tokens by index in ``running``, -1 for a generated one.
    private var step: [Int]?

    init(model: EngineModel, speed: Double) {
        self.model = model
        self.speed = speed
        cache = RecentBlocks(capacity: model.blocks)
    }

    var isIdle: Bool { running.isEmpty && waiting.isEmpty }
    var isStepping: Bool { step != nil }

    mutating func submit(_ job: Job) { waiting.append(job) }

    /// Begins a step if there is anything to do.
    ///
    /// - Returns: how long it takes.
    mutating func beginStep() -> Double? {
        guard step == nil, !isIdle else { return nil }
        var rows = Array(repeating: 0, count: running.count)
        var budget = model.promptTokens
        var generating = 0
        for index in running.indices {
            if running[index].computed >= running[index].job.promptTokens {
                rows[index] = -1
                generating += 1
            } else {
                rows[index] = min(budget, running[index].job.promptTokens - running[index].computed)
                budget -= rows[index]
            }
        }
        var claims: Set<BlockHash> = []
        for entry in running where entry.computed < entry.job.promptTokens {
            claims.formUnion(entry.job.blocks[min(entry.computed / model.blockSize, entry.job.blocks.count)...])
        }
        var index = 0
        while index < waiting.count, running.count < model.sequences, budget > 0 {
            let job = waiting[index]
            let most = min(job.blocks.count, (job.promptTokens - 1) / model.blockSize)
            let hits = job.blocks.prefix(most).prefix { cache.contains($0) }.count
            if hits < most, claims.contains(job.blocks[hits]) {
                index += 1
                continue
            }
            waiting.remove(at: index)
            for block in job.blocks.prefix(hits).reversed() { keep(block) }
            cachedTokens += hits * model.blockSize
            let row = min(budget, job.promptTokens - hits * model.blockSize)
            budget -= row
            running.append(Running(job: job, computed: hits * model.blockSize))
            rows.append(row)
            claims.formUnion(job.blocks[hits...])
        }
        step = rows
        let prompts = rows.reduce(0) { $0 + max(0, $1) }
        let time =
            (model.step + Double(generating) * model.newToken + Double(prompts) * model.promptToken) / speed
        busy += time
        return time
    }

    /// Ends the step.
    ///
    /// - Parameters:
    ///   - blocksAtEnd: what a sequence that ended leaves behind.
    /// - Returns: what brought a token, whether it was the first, and whether it was the last.
    mutating func endStep(blocksAtEnd: (Job) -> [BlockHash]) -> [(job: Job, isFirst: Bool, isLast: Bool)] {
        guard let rows = step else { return [] }
        step = nil
        var outputs: [(job: Job, isFirst: Bool, isLast: Bool)] = []
        for (index, row) in rows.enumerated() {
            let job = running[index].job
            if row > 0 {
                let before = running[index].computed / model.blockSize
                running[index].computed += row
                let after = min(job.blocks.count, running[index].computed / model.blockSize)
                for block in job.blocks[min(before, after)..<after] { keep(block) }
            }
            guard row != 0, running[index].computed >= job.promptTokens else { continue }
            running[index].generated += 1
            let isLast = running[index].generated >= job.newTokens
            outputs.append((job, running[index].generated == 1, isLast))
            if isLast { for block in blocksAtEnd(job).dropFirst(job.blocks.count) { keep(block) } }
        }
        running.removeAll { $0.generated >= $0.job.newTokens }
        return outputs
    }

    private mutating func keep(_ block: BlockHash) {
        let isNew = !cache.contains(block)
        if let gone = cache.use(block) {
            if stored.remove(gone) == nil { evicted.insert(gone) }
        }
        if isNew, evicted.remove(block) == nil { stored.insert(block) }
    }

    /// What entered and left the cache, four times a second and when there is nothing to do.
    mutating func report(at now: Double) -> (stored: Set<BlockHash>, evicted: Set<BlockHash>)? {
        guard isIdle || now - lastReport >= 0.25 else { return nil }
        lastReport = now
        defer { (stored, evicted) = ([], []) }
        return (stored, evicted)
    }
}
