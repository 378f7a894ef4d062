// Tandem — Apache-2.0

import GPUModel
import LanguageModel
import Testing

@Suite struct AdviceTests {
    static func request(
        _ model: String = "qwen2.5-0.5b", gpu: String = "h100", prompt: Int = 256, output: Int = 128,
        concurrency: Int = 256, latency: Double? = nil, host: Double? = nil, asynchronous: Bool = false,
        hostPerSequence: Double = 0, most: Int? = nil, engines: Int? = nil, cores: Int? = nil,
        sharesWeights: Bool = false
    ) throws -> AdviceRequest {
        AdviceRequest(
            model: try #require(BuiltInModel.named(model)).description, device: try .named(gpu),
            workload: Workload(promptTokens: prompt, outputTokens: output, concurrency: concurrency, latency: latency),
            host: host.map { HostModel(secondsPerStep: $0, secondsPerSequence: hostPerSequence) }, mostSequences: most,
            isAsynchronous: asynchronous,
            sharesWeights: sharesWeights, engines: engines, cores: cores)
    }

    /// All gain comes from somewhere.
    @Test(arguments: ["qwen2.5-0.5b", "qwen2.5-7b", "gemma-3-4b"], [nil, 3.0])
    func decomposition(model: String, latency: Double?) throws {
        for (host, asynchronous) in [(0.0, false), (4e-3, false), (4e-3, true)] {
            let advice = try Self.request(
                model, concurrency: 512, latency: latency, host: host, asynchronous: asynchronous, engines: 2
            ).advice()
            #expect(abs(advice.decomposition.total - advice.gain) < 1e-9)
            #expect(advice.decomposition.interference <= 1e-9)
            #expect(advice.decomposition.batchSplit <= 1e-9)
            if host == 0 { #expect(abs(advice.decomposition.hostIdleRecovered) < 1e-9) }
            #expect(advice.interval.contains(advice.gain))
            #expect(advice.arms.first == advice.baseline)
            #expect(advice.gain(of: advice.baseline) == 0)
        }
    }

    /// What Tandem's own study measured on an H100 (Results/study-h100-2026-11-26), each engine half of the batch.
    @Test(arguments: [("qwen2.5-0.5b", 0.33), ("qwen2.5-3b", 0.02)])
    func theIntervalCoversWhatWasMeasured(model: String, gain: Double) throws {
        let advice = try Self.request(
            model, prompt: 32, output: 192, concurrency: 1024, host: 1e-3, hostPerSequence: 1.1e-6, most: 1024,
            engines: 2
        ).advice()
        #expect(advice.interval.contains(gain), "\(advice.gain), \(advice.interval)")
    }

    /// What is not given is assumed, said so, and part of the interval.
    @Test func aStepsTimeThatIsAssumedIsSaid() throws {
        var request = try Self.request(host: 1e-3, hostPerSequence: 5e-6, engines: 2)
        let given = try request.advice()
        request.assumesStepTime = true
        let assumed = try request.advice()
        #expect(!given.cautions.contains { $0.hasPrefix("Host time is assumed") })
        #expect(assumed.cautions.contains { $0.hasPrefix("Host time is assumed (1 ms a step;") })
        #expect(assumed.interval.upperBound > given.interval.upperBound)
    }

    /// The more the host has to do for each sequence, the more several hosts gain.
    @Test func hostTime() throws {
        var last = -1.0
        for host in [0, 3e-6, 10e-6, 40e-6, 150e-6] {
            let advice = try Self.request("qwen2.5-1.5b", host: 0, hostPerSequence: host, engines: 2).advice()
            #expect(advice.gain > last)
            last = advice.gain
        }
        #expect(last > 0.5 && last <= 1)
    }

    /// What the host has to do for each step is not divided: halves of a batch cost as much as it whole.
    @Test func hostTimeOfSteps() throws {
        let advice = try Self.request("qwen2.5-1.5b", host: 50e-3, engines: 2).advice()
        #expect(abs(advice.gain) < 0.1)
        #expect(advice.decomposition.hostIdleRecovered > 0.5 && advice.decomposition.batchSplit < -0.5)
    }

    @Test func verdicts() throws {
        // A GPU that is always busy.
        let busy = try Self.request("qwen2.5-7b", prompt: 1024, concurrency: 128, host: 0.1e-3).advice()
        #expect(busy.verdict == .no)
        // An idle one, for want of planning ahead.
        let idle = try Self.request(host: 4e-3).advice()
        #expect(idle.verdict == .fixEngineFirst)
        #expect((idle.alternative.map(idle.gain(of:)) ?? 0) >= 0.05)
        // The host is slower than the GPU even a step ahead: only more hosts help.
        let slow = try Self.request(host: 0, asynchronous: true, hostPerSequence: 80e-6).advice()
        #expect(slow.verdict == .yes)
        #expect(slow.alternative == nil)
        #expect(slow.interval.lowerBound > 0)
        #expect(slow.engines > 1 && slow.shared.arm == .mpsAsynchronous)
        // A limit of the batch that two engines get around, and one would without it.
        let limited = try Self.request(concurrency: 512, host: 1e-3, asynchronous: true, most: 64).advice()
        #expect(limited.verdict == .fixEngineFirst)
        #expect(limited.largerBatch?.sequencesPerEngine == 512)
        #expect(limited.baseline.sequencesPerEngine == 64)
    }

    @Test func limits() throws {
        let one = try Self.request(concurrency: 1).advice()
        #expect(one.verdict == .no && one.engines == 1 && one.gain == 0)
        let narrow = try Self.request(host: 0, asynchronous: true, hostPerSequence: 80e-6, cores: 2).advice()
        #expect(narrow.byEngines.map(\.engines).max() == 2)
        // Two copies of 15 GB do not fit 24; one copy for both does.
        let apart = try Self.request("qwen2.5-7b", gpu: "l4", concurrency: 8).advice()
        #expect(apart.engines == 1 && apart.verdict == .no)
        let together = try Self.request("qwen2.5-7b", gpu: "l4", concurrency: 8, sharesWeights: true).advice()
        #expect(together.byEngines.count > 1)
        #expect(together.shared.engines > 1)
    }

    @Test func capacity() throws {
        let advice = try Self.request("qwen2.5-7b", prompt: 2048, concurrency: 1024, engines: 2).advice()
        #expect(advice.shared.isLimitedByCache)
        #expect(advice.decomposition.capacity < 0)
        #expect(advice.cacheBytesPerEngine > 0)
        let sequences = Double(advice.cacheTokensPerEngine) / Double(2048 + 64)
        #expect(abs(advice.shared.sequencesPerEngine / sequences - 1) < 0.05)
    }

    @Test func latency() throws {
        let free = try Self.request("qwen2.5-3b", concurrency: 512, engines: 2).advice()
        let bound = try Self.request(
            "qwen2.5-3b", concurrency: 512, latency: free.baseline.latency / 2, engines: 2
        ).advice()
        #expect(bound.baseline.concurrency < 512)
        #expect(bound.baseline.latency <= free.baseline.latency / 2)
        #expect(bound.baseline.tokensPerSecond < free.baseline.tokensPerSecond)
        for arm in bound.byEngines { #expect(arm.latency <= free.baseline.latency / 2) }
    }

    @Test func promptsOnly() throws {
        let advice = try Self.request(prompt: 512, output: 1, concurrency: 256, engines: 2).advice()
        // 8192 tokens of prompts a step.
        #expect(advice.baseline.sequencesPerEngine == 16)
        #expect(advice.gain < 1)
        #expect(advice.baseline.tokensPerSecond > 0)
    }

    @Test func frontEnd() throws {
        let request = try Self.request()
        var host = HostModel.assumed
        host.frontEndPerRequest = 0.1
        host.frontEndPerPromptToken = 1e-3
        func rate(_ host: HostModel, _ engines: Int) -> Double? {
            Predictor(
                step: StepModel(model: request.model, device: request.device),
                memory: MemoryModel(model: request.model, device: request.device), host: host,
                workload: request.workload
            ).predict(.mps, engines: engines)?.requestsPerSecond
        }
        // One front end for all, or one for each.
        #expect(abs((rate(host, 2) ?? 0) * 0.356 - 1) < 1e-9)
        host.frontEndPerEngine = true
        #expect(abs((rate(host, 2) ?? 0) * 0.356 - 2) < 1e-9)
    }

    @Test func badInput() throws {
        func subject(_ request: AdviceRequest) -> String? {
            do {
                _ = try request.advice()
                return nil
            } catch {
                #expect(!error.reason.isEmpty)
                return error.subject
            }
        }
        #expect(subject(try Self.request(prompt: 0)) == "--context")
        #expect(subject(try Self.request(prompt: .max)) == "--context")
        #expect(subject(try Self.request(output: -1)) == "--output")
        #expect(subject(try Self.request(concurrency: 0)) == "--concurrency")
        #expect(subject(try Self.request(prompt: 32768)) == "--context")
        #expect(subject(try Self.request(latency: 0)) == "--latency")
        #expect(subject(try Self.request(latency: .nan)) == "--latency")
        #expect(subject(try Self.request(latency: 1e-6)) == "--latency")
        #expect(subject(try Self.request(host: -1)) == "--host-time")
        #expect(subject(try Self.request(engines: 0)) == "--engines")
        #expect(subject(try Self.request(engines: 99)) == "--engines")
        #expect(subject(try Self.request(concurrency: 2, engines: 3)) == "--engines")
        #expect(subject(try Self.request(cores: 0)) == "--cores")
        #expect(subject(try Self.request("qwen2.5-32b", gpu: "l4")) == "--gpu l4")
        #expect(subject(try Self.request("qwen2.5-7b", gpu: "l4", engines: 2)) == "--engines")
    }

    /// Any model on any GPU gets an answer of finite numbers, or a reason.
    @Test(arguments: BuiltInModel.all)
    func everywhere(model: BuiltInModel) throws {
        for device in [try DeviceParameters.named("h100"), try .named("l4")] {
            for (prompt, output, concurrency) in [(1, 1, 1), (100, 1000, 3), (4000, 10, 2000)] {
                let request = AdviceRequest(
                    model: model.description, device: device,
                    workload: Workload(promptTokens: prompt, outputTokens: output, concurrency: concurrency))
                guard let advice = try? request.advice() else { continue }
                #expect(advice.gain.isFinite && advice.gain >= -1)
                #expect(advice.gain <= Double(advice.engines - 1) + 1e-9)
                for arm in advice.arms + advice.byEngines {
                    #expect(arm.tokensPerSecond > 0 && arm.tokensPerSecond.isFinite && arm.latency > 0)
                }
            }
        }
    }
}
