// Tandem — Apache-2.0

internal import GPUModel
internal import InferenceEngine
internal import LanguageModel
internal import Requests

/// Engines under an open load in virtual time: the real ``Scheduler`` decides what each step computes, the simulated
/// GPU says how long it takes. Requests come by a Poisson process and go to the engine that has fewest.
struct ServingSimulation {
    var step: StepModel
    var arm: StudyArm
    var host: HostModel
    /// Of each engine.
    var keyValueBytes: Double
    var promptTokens: Int
    var outputTokens: Int
    /// In all.
    var requestsPerSecond: Double
    var seed: UInt64

    /// Seconds in which requests come.
    var arrivalSeconds = 45.0
    /// Host times vary by so much either way.
    private static let hostVariation = 0.2
    /// Most sequences of an engine at once: vLLM's default on large GPUs.
    static let slots = 1024
    /// Tokens of a block: twice what engines have, for half of the work.
    private static let blockSize = 32

    private struct Engine {
        var scheduler: Scheduler
        /// Steps on the GPU, oldest first: their results as they will be, and the tickets.
        var inFlight: [(ticket: Int, result: StepResult)] = []
        /// Steps that the GPU is done with and the host has not looked at.
        var finished: [StepResult] = []
        /// When the host is done, and what it then submits.
        var hostEnd: Double?
        var prepared: (program: SharedDevice.Program, result: StepResult)?
        var unfinished = 0
    }

    /// Takes one request after the other.
    private struct FrontEnd {
        private var waiting: [(request: Int, ready: Double)] = []
        private var first = 0
        private var busyUntil = 0.0

        mutating func add(_ request: Int, at now: Double, taking seconds: Double) {
            busyUntil = max(busyUntil, now) + seconds
            waiting.append((request, busyUntil))
        }

        /// When the next one comes out.
        var next: Double { first < waiting.count ? waiting[first].ready : .infinity }

        mutating func take(until now: Double) -> Int? {
            guard next <= now else { return nil }
            defer { first += 1 }
            return waiting[first].request
        }
    }

    private struct Request {
        var arrival: Double
        var engine: Int
        var first: Double?
        var last: Double?
        var end: Double?
        var tokens = 0
    }

    /// Seconds at the begin that do not count, and after which it ends whatever is left.
    private var warmUpSeconds: Double { arrivalSeconds / 3 }
    private var mostSeconds: Double { arrivalSeconds * 5 / 3 }

    func measure(into empty: StudyMeasurement) -> StudyMeasurement {
        var measurement = empty
        do {
            var run = try Run(self)
            try run.run()
            run.report(&measurement)
        } catch {
            measurement.failure = "\(error)"
        }
        return measurement
    }

    private struct Run {
        let simulation: ServingSimulation
        var device: SharedDevice
        var engines: [Engine]
        var requests: [Request] = []
        var arrivals: [Double]
        /// Requests in front ends, one for all engines or one each, in the order in which they come out.
        var fronts: [FrontEnd]
        var random: SplitMix
        var plan = StepPlan()
        var outputs: [SequenceOutput] = []
        var gaps: [Double] = []
        /// Tokens that came while requests counted.
        var tokensInWindow = 0
        /// Sequences that took part, summed over steps, and steps.
        var sequences = 0
        var steps = 0
        var threadIsBusy = false
        var stepSeconds = StudyMeasurement.StepTime(attention: 0, feedForward: 0, rest: 0, host: 0)

        init(_ simulation: ServingSimulation) throws(ExecutorError) {
            self.simulation = simulation
            let parameters = simulation.step.device.sharing
            device = SharedDevice(
                policy: simulation.arm.sharing.policy, parameters: parameters,
                shares: Array(repeating: 1, count: simulation.arm.engines))
            random = SplitMix(seed: simulation.seed)
            arrivals = []
            var time = 0.0
            while true {
                time += random.exponential() / simulation.requestsPerSecond
                if time > simulation.arrivalSeconds { break }
                arrivals.append(time)
            }
            let model = simulation.step.model
            let length = simulation.promptTokens + simulation.outputTokens
            let groups = model.kvGroups
            let bytesOfBlock =
                Double(groups.first?.layers.count ?? 1) * 4 * Double(model.keyValueHeads * model.headDimension)
                * Double(ServingSimulation.blockSize)
            let configuration = SchedulerConfiguration(
                slots: ServingSimulation.slots, tokensPerStep: SimulatedStudy.promptTokensPerStep,
                targetStepNanoseconds: nil, contextLength: length, blockSize: ServingSimulation.blockSize,
                maximumWaiting: .max, asynchronous: simulation.arm.isAsynchronous, prefixCaching: false)
            let scheduler = try Scheduler(
                configuration: configuration, groups: groups,
                prepared: PreparedExecutor(blockCount: Int(simulation.keyValueBytes / bytesOfBlock)))
            engines = Array(repeating: Engine(scheduler: scheduler), count: simulation.arm.engines)
            let hasOneEach = simulation.host.frontEndPerEngine && simulation.arm.sharing != .inProcess
            fronts = Array(repeating: FrontEnd(), count: hasOneEach ? engines.count : 1)
        }

        mutating func run() throws {
            var next = 0
            while device.now < simulation.mostSeconds {
                let arrival = next < arrivals.count ? arrivals[next] : .infinity
                let hostEnd = engines.lazy.compactMap(\.hostEnd).min() ?? .infinity
                let front = fronts.lazy.map(\.next).min() ?? .infinity
                let end = min(arrival, hostEnd, front, simulation.mostSeconds)
                let done = device.advance(to: end)
                for completion in done {
                    let oldest = engines[completion.client].inFlight.removeFirst()
                    engines[completion.client].finished.append(oldest.result)
                }
                if next < arrivals.count, arrivals[next] <= device.now {
                    receive(arrivals[next])
                    next += 1
                }
                for index in fronts.indices {
                    while let request = fronts[index].take(until: device.now) { try admit(request) }
                }
                for index in engines.indices {
                    if let end = engines[index].hostEnd, end <= device.now { submit(index) }
                }
                for index in engines.indices where engines[index].hostEnd == nil { try work(index) }
                if next == arrivals.count, engines.allSatisfy({ $0.unfinished == 0 }) { break }
            }
        }

        /// A request comes, and goes to the engine that has fewest, by way of its front end.
        private mutating func receive(_ time: Double) {
            var chosen = 0
            for index in engines.indices where engines[index].unfinished < engines[chosen].unfinished { chosen = index }
            let seconds = simulation.host.frontEndSeconds(promptTokens: Double(simulation.promptTokens))
            fronts[fronts.count > 1 ? chosen : 0].add(requests.count, at: time, taking: seconds)
            engines[chosen].unfinished += 1
            requests.append(Request(arrival: time, engine: chosen))
        }

        private mutating func admit(_ request: Int) throws(RequestFailure) {
            try engines[requests[request].engine].scheduler.add(
                EngineRequest(
                    id: RequestID(request), tokens: Array(repeating: 0, count: simulation.promptTokens),
                    sampling: SamplingParameters(temperature: 0), maximumNewTokens: simulation.outputTokens))
        }

        private mutating func submit(_ index: Int) {
            engines[index].hostEnd = nil
            threadIsBusy = false
            guard let prepared = engines[index].prepared else { return }
            engines[index].prepared = nil
            let ticket = device.submit(prepared.program, client: index)
            engines[index].inFlight.append((ticket, prepared.result))
        }

        /// Looks at what the GPU has finished, and begins to prepare the next step.
        private mutating func work(_ index: Int) throws(ExecutorError) {
            for result in engines[index].finished {
                outputs.removeAll(keepingCapacity: true)
                try engines[index].scheduler.finish(result, into: &outputs)
                for output in outputs { take(output) }
            }
            engines[index].finished.removeAll(keepingCapacity: true)
            if simulation.arm.sharing == .inProcess, threadIsBusy { return }
            guard engines[index].scheduler.schedule(into: &plan) else { return }
            var result = StepResult()
            result.step = plan.step
            for row in plan.rows where row.output.expectsResult {
                result.rows.append(RowResult(slot: row.slot, token: 0))
            }
            let profile = profile(of: plan)
            let program = SharedDevice.Program(
                profile,
                latencyOccupancy: device.parameters.latencyOccupancy)
            let vary = 1 + ServingSimulation.hostVariation * (2 * random.uniform() - 1)
            let hostSeconds = simulation.host.seconds(sequences: Double(plan.rows.count))
            engines[index].prepared = (program, result)
            engines[index].hostEnd = device.now + hostSeconds * vary
            threadIsBusy = true
            steps += 1
            sequences += plan.rows.count
            stepSeconds.attention += profile.seconds(of: .attention)
            stepSeconds.feedForward += profile.seconds(of: .feedForward)
            stepSeconds.rest += profile.seconds(of: .rest)
            stepSeconds.host += hostSeconds
        }

        /// A step as the GPU's model knows it: tokens that decode, and prompts that are as long as makes their
        /// attention cost the same in all.
        private func profile(of plan: StepPlan) -> GPUModel.StepProfile {
            var shape = StepShape()
            var positions = 0.0
            var promptRows = 0.0
            var area = 0.0
            for row in plan.rows {
                let count = Double(row.tokenCount)
                let start = Double(row.startPosition)
                if row.tokenCount == 1, row.startPosition > 0 {
                    shape.decoding += 1
                    positions += start + 1
                } else {
                    promptRows += count
                    area += count * start + count * count / 2
                }
            }
            if shape.decoding > 0 { shape.context = positions / shape.decoding }
            if promptRows > 0 {
                shape.promptLength = 2 * area / promptRows
                shape.prompts = promptRows / shape.promptLength
            }
            let profile = simulation.step.profile(shape)
            return simulation.arm.sharing == .mps
                ? profile.addingToEachKernel(device.parameters.mpsKernelSeconds) : profile
        }

        private mutating func take(_ output: SequenceOutput) {
            let index = Int(output.id)
            let now = device.now
            let counts = requests[index].arrival >= simulation.warmUpSeconds
            if !output.tokens.isEmpty {
                if let last = requests[index].last {
                    if counts { gaps.append(now - last) }
                } else {
                    requests[index].first = now
                }
                requests[index].last = now
                requests[index].tokens += output.tokens.count
                if now >= simulation.warmUpSeconds, now < simulation.arrivalSeconds {
                    tokensInWindow += output.tokens.count
                }
            }
            guard output.finish != nil else { return }
            requests[index].end = now
            engines[requests[index].engine].unfinished -= 1
        }

        func report(_ measurement: inout StudyMeasurement) {
            let counted = requests.filter { $0.arrival >= simulation.warmUpSeconds }
            let window = simulation.arrivalSeconds - simulation.warmUpSeconds
            guard !counted.isEmpty, steps > 0 else {
                measurement.failure = "no request came in \(Int(window)) s; give higher loads"
                return
            }
            measurement.generatedTokensPerSecond = Double(tokensInWindow) / window
            measurement.requestsPerSecond = Double(tokensInWindow) / window / Double(simulation.outputTokens)
            measurement.promptTokensPerSecond =
                Double(
                    requests.count {
                        ($0.first ?? 0) >= simulation.warmUpSeconds
                            && ($0.first ?? .infinity) < simulation.arrivalSeconds
                    })
                * Double(simulation.promptTokens) / window
            measurement.stepsPerSecond = Double(steps) / device.now
            // What did not end counts with the time that it has waited: its latency is at least that.
            let unfinished = counted.count { $0.end == nil }
            measurement.endToEnd = .init(counted.map { ($0.end ?? device.now) - $0.arrival })
            measurement.timeToFirstToken = .init(counted.map { ($0.first ?? device.now) - $0.arrival })
            measurement.interTokenLatency = .init(gaps)
            measurement.completed = counted.count - unfinished
            measurement.failed = 0
            if unfinished > 0 {
                measurement.notes.append(
                    "\(unfinished) of \(counted.count) requests had not ended after "
                        + "\(Int(simulation.mostSeconds)) s; their latencies are lower bounds")
            }
            measurement.deviceBusyShare = min(1, device.workingSeconds / device.now)
            let count = Double(steps)
            measurement.sequencesPerEngine = Double(sequences) / count
            measurement.stepTime = .init(
                attention: stepSeconds.attention / count, feedForward: stepSeconds.feedForward / count,
                rest: stepSeconds.rest / count, host: stepSeconds.host / count)
        }
    }
}

extension StudyMeasurement.Latency {
    /// Null without values.
    init?(_ values: [Double]) {
        guard !values.isEmpty else { return nil }
        let sorted = values.sorted()
        self.init(
            mean: values.reduce(0, +) / Double(values.count), p50: Bootstrap.quantile(sorted, 0.5),
            p90: Bootstrap.quantile(sorted, 0.9), p99: Bootstrap.quantile(sorted, 0.99))
    }
}
