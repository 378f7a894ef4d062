// Tandem — Apache-2.0

public import InferenceEngine
public import LanguageModel
import Requests

/// Whole steps of a made-up model, computed in several ways that must agree: the executor's own test on a GPU, where no
/// other machine is at hand to compare with.
public enum GPUModelCheck {
    /// What one comparison found.
    public struct Finding: Sendable {
        public var name: String
        public var isRight: Bool
        public var detail: String
    }

    /// Tokens and log-probabilities of all sequences.
    struct Text: Equatable {
        var tokens: [TokenID] = []
        var logProbabilities: [Float] = []
        /// Of the prompt's tokens, which are the same however they are computed.
        var prompt: [Float] = []
    }

    /// A model of two layers with the features of a family, small enough for any GPU.
    public static func model(head: Int, group: Int, window: Int? = nil) -> DecoderDescription {
        var layers = Array(repeating: LayerDescription(attentionScale: 1 / Float(head).squareRoot()), count: 2)
        layers[0].queryKeyValueBias = true
        layers[1].queryKeyNorm = true
        layers[1].postAttentionNorm = true
        layers[1].window = window
        return DecoderDescription(
            architecture: "check", name: "check", vocabularySize: 1003, hiddenSize: 256, intermediateSize: 512,
            queryHeads: 2 * group, keyValueHeads: 2, headDimension: head, contextLength: 1024, normEpsilon: 1e-5,
            tiedHead: true, ropes: [RotaryDescription(base: 10000, dimensions: head, fileLayout: .halfSplit)],
            layers: layers)
    }

    /// Runs all comparisons of one model.
    public static func run(
        _ model: DecoderDescription, options: CUDAExecutor.Options, prompts: [Int] = [5, 37, 130, 1],
        newTokens: Int = 12
    ) throws(ExecutorError) -> [Finding] {
        func text(_ change: (inout CUDAExecutor.Options) -> Void, chunk: Int = 1024) throws(ExecutorError) -> [Text] {
            var options = options
            change(&options)
            return try run(model, options, prompts: prompts, newTokens: newTokens, chunk: chunk)
        }
        let first = try text { _ in }
        var findings: [Finding] = []
        func compare(_ name: String, _ other: [Text], exactly: Bool, tolerance: Float = 0.05) {
            let isFinite = first.allSatisfy { $0.logProbabilities.allSatisfy { $0.isFinite && $0 <= 0 } }
            let difference = largestDifference(first, other)
            findings.append(
                Finding(
                    name: name, isRight: isFinite && (exactly ? first == other : difference <= tolerance),
                    detail: exactly && first == other ? "the same bits" : "largest difference \(difference)"))
        }
        compare("the same run twice", try text { _ in }, exactly: true)
        compare("single launches", try text { $0.usesGraphs = false }, exactly: false)
        compare("chunks of 16", try text({ _ in }, chunk: 16), exactly: false)
        compare("own products", try text { $0.isDeterministic = true }, exactly: false)
        let whole = try text { $0.isDeterministic = true }
        let pieces = try text({ $0.isDeterministic = true }, chunk: 7)
        findings.append(
            Finding(
                name: "deterministic, chunks of 7", isRight: whole == pieces,
                detail: whole == pieces ? "the same bits" : "largest difference \(largestDifference(whole, pieces))"))
        let early = "kernels that start early"
        do {
            let overlapped = try text {
                $0.isDeterministic = true
                $0.environment["TANDEM_CUDA_PDL"] = "1"
            }
            findings.append(
                Finding(
                    name: "\(early), deterministic", isRight: whole == overlapped,
                    detail: whole == overlapped
                        ? "the same bits" : "largest difference \(largestDifference(whole, overlapped))"))
        } catch {
            findings.append(Finding(name: "\(early), deterministic", isRight: false, detail: "\(error)"))
        }
        // What is off until it is asked for.
        for (name, variable, value) in [
            (early, "TANDEM_CUDA_PDL", "1"), ("weights brought early", "TANDEM_CUDA_PREFETCH", "1"),
            ("prompts by wgmma", "TANDEM_CUDA_PREFILL", "wgmma"),
        ] {
            do {
                compare(name, try text { $0.environment[variable] = value }, exactly: false)
            } catch {
                findings.append(Finding(name: name, isRight: false, detail: "\(error)"))
            }
        }
        return findings
    }

    /// Of log-probabilities, up to the first token that differs: from there on the texts do.
    static func largestDifference(_ first: [Text], _ second: [Text]) -> Float {
        var largest: Float = 0
        for (one, other) in zip(first, second) {
            for index in one.tokens.indices {
                guard other.tokens.indices.contains(index), one.tokens[index] == other.tokens[index] else { break }
                let difference = abs(one.logProbabilities[index] - other.logProbabilities[index])
                largest = difference.isNaN ? .infinity : max(largest, difference)
            }
            if one.prompt.count != other.prompt.count { largest = .infinity }
            for (left, right) in zip(one.prompt, other.prompt) {
                let difference = abs(left - right)
                largest = difference.isNaN ? .infinity : max(largest, difference)
            }
        }
        return largest
    }

    private static func run(
        _ model: DecoderDescription, _ options: CUDAExecutor.Options, prompts: [Int], newTokens: Int, chunk: Int
    ) throws(ExecutorError) -> [Text] {
        let executor = try CUDAExecutor(model: model, randomSeed: 17, options: options)
        defer { executor.shutdown() }
        let groups = model.kvGroups
        let shape = try DeviceShape(model)
        let length = (prompts.max() ?? 1) + newTokens
        let entries = (length + 15) / 16
        let blockBytes = 16 * shape.keyValueBytesPerToken(layers: groups.first?.layers.count ?? 0)
        _ = try executor.prepare(
            limits: ExecutorLimits(
                slots: prompts.count, tokensPerStep: 1024, contextLength: length,
                keyValueBytes: (prompts.count * entries * groups.count + 1) * blockBytes), groups: groups)
        var plan = StepPlan()
        for slot in prompts.indices {
            // Two ways to choose: the likeliest, and by a seed.
            let sampling = SamplingParameters(
                temperature: slot % 2 == 0 ? 0 : 0.8, topK: 40, topP: 0.95, seed: UInt64(slot))
            plan.addedSlots.append(SlotAddition(slot: SlotIndex(slot), sampling: sampling))
            for group in groups.indices {
                plan.blockTableUpdates.append(
                    BlockTableUpdate(
                        slot: SlotIndex(slot), group: Int32(group), firstEntry: 0, offset: Int32(plan.blockIDs.count),
                        count: Int32(entries)))
                for entry in 0..<entries {
                    plan.blockIDs.append(KVBlockID((entry * prompts.count + slot) * groups.count + group))
                }
            }
        }
        return try generate(executor, plan: &plan, prompts: prompts, newTokens: newTokens, chunk: chunk)
    }

    private static func promptToken(_ slot: Int, _ index: Int) -> TokenID {
        TokenID((slot * 131 + index * 37) % 1003)
    }

    private static func generate(
        _ executor: CUDAExecutor, plan: inout StepPlan, prompts: [Int], newTokens: Int, chunk: Int
    ) throws(ExecutorError) -> [Text] {
        var texts = [Text](repeating: Text(), count: prompts.count)
        var computed = [Int](repeating: 0, count: prompts.count)
        var result = StepResult()
        while true {
            plan.step += 1
            plan.rows.removeAll(keepingCapacity: true)
            plan.tokens.removeAll(keepingCapacity: true)
            for slot in prompts.indices where texts[slot].tokens.count < newTokens {
                let isPrompt = computed[slot] < prompts[slot]
                let count = isPrompt ? min(chunk, prompts[slot] - computed[slot]) : 1
                plan.rows.append(
                    StepRow(
                        slot: SlotIndex(slot), tokenOffset: Int32(plan.tokens.count), tokenCount: Int32(count),
                        startPosition: Int32(computed[slot]),
                        firstToken: isPrompt ? .given : .sampled(step: plan.step - 1),
                        output: RowOutput(sample: computed[slot] + count >= prompts[slot], logProbabilities: 0)))
                for index in 0..<count {
                    plan.tokens.append(
                        isPrompt ? promptToken(slot, computed[slot] + index) : 0)
                }
                computed[slot] += count
                guard isPrompt else { continue }
                plan.rows[plan.rows.count - 1].output.promptLogProbabilities = 0
                if computed[slot] < prompts[slot] {
                    plan.rows[plan.rows.count - 1].output.nextPromptToken = promptToken(slot, computed[slot])
                }
            }
            if plan.rows.isEmpty { return texts }
            let ticket = try executor.submit(plan)
            try executor.sample(ticket, masks: nil)
            try executor.result(of: ticket, into: &result)
            for row in result.rows {
                texts[Int(row.slot)].prompt += result.prompt[row.prompt].map(\.chosen.logProbability)
                guard let token = row.token else { continue }
                texts[Int(row.slot)].tokens.append(token)
                texts[Int(row.slot)].logProbabilities.append(row.logProbability)
            }
            plan.addedSlots.removeAll()
            plan.blockTableUpdates.removeAll()
            plan.blockIDs.removeAll()
        }
    }
}
