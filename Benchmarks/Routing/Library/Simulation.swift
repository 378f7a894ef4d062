// Tandem — Apache-2.0

import Requests

/// What came of a load under a policy.
public struct SimulationResult: Sendable {
    public var meanFirstToken = 0.0
    /// Seconds that 99 of 100 requests waited at most for their first token.
    public var p99FirstToken = 0.0
    public var meanCompletion = 0.0
    public var p99Completion = 0.0
    /// Share of prompt tokens that were in the prefix cache.
    public var hitRate = 0.0
    /// The busiest engine's time in steps over the mean of all.
    public var imbalance = 0.0
    /// The busiest engine's share of the time in which it was in steps.
    public var utilization = 0.0
    public var requests = 0

    public init() {}
}

/// Engines behind a balancer under a load: no clock, no threads, the same in every run.
public struct Simulation: Sendable {
    public var model: EngineModel
    public var engines: Int
    public var load: Load
    /// The work of the load with nothing cached, over what the engines can do.
    public var intensity: Double
    public var requests: Int
    public var seed: UInt64
    /// Whether engines tell what they have cached.
    public var told = true

    public init(
        model: EngineModel, engines: Int, load: Load, intensity: Double, requests: Int, seed: UInt64, told: Bool = true
    ) {
        self.model = model
        self.engines = engines
        self.load = load
        self.intensity = intensity
        self.requests = requests
        self.seed = seed
        self.told = told
    }

    private enum Event {
        case arrival(Job)
        case stepEnd(Int)
    }

    public func run(_ balancing: Balancing) -> SimulationResult {
        var workload = Workload(load, rate: rate, blockSize: model.blockSize, seed: seed)
        var balancer = Balancer(
            balancing, engines: engines, blockSize: model.blockSize, told: told, seed: seed ^ 0x5EED)
        var pool = (0..<engines).map { SimulatedEngine(model: model, speed: speed(of: $0)) }
        var events = EventQueue<Event>()
        for job in workload.arrivals(starts) { events.push(.arrival(job), at: job.arrival) }
        var firstTokens: [Double] = []
        var completions: [Double] = []
        var promptTokens = 0
        var end = 0.0

        func begin(_ engine: Int, _ now: Double) {
            if let time = pool[engine].beginStep() { events.push(.stepEnd(engine), at: now + time) }
        }
        while let (now, event) = events.pop() {
            end = now
            switch event {
            case .arrival(let job):
                promptTokens += job.promptTokens
                let engine = balancer.choose(job)
                balancer.started(job, on: engine)
                pool[engine].submit(job)
                begin(engine, now)
            case .stepEnd(let engine):
                let outputs = pool[engine].endStep { workload.blocksAtEnd(of: $0) }
                for output in outputs {
                    balancer.produced(output.job, isLast: output.isLast, on: engine)
                    if output.isFirst { firstTokens.append(now - output.job.arrival) }
                    guard output.isLast else { continue }
                    completions.append(now - output.job.arrival)
                    if let next = workload.followUp(output.job, at: now) {
                        events.push(.arrival(next), at: next.arrival)
                    }
                }
                if let (stored, evicted) = pool[engine].report(at: now) {
                    balancer.prefixesChanged(stored: stored, evicted: evicted, on: engine)
                }
                begin(engine, now)
            }
        }
        let busy = pool.map(\.busy)
        let most = busy.max() ?? 0
        var result = SimulationResult()
        result.meanFirstToken = firstTokens.mean
        result.p99FirstToken = firstTokens.percentile(0.99)
        result.meanCompletion = completions.mean
        result.p99Completion = completions.percentile(0.99)
        result.hitRate = Double(pool.reduce(0) { $0 + $1.cachedTokens }) / Double(max(1, promptTokens))
        result.imbalance = most / max(.leastNormalMagnitude, busy.mean)
        result.utilization = most / max(end, .leastNormalMagnitude)
        result.requests = completions.count
        return result
    }

    private func speed(of engine: Int) -> Double { load == .slow && engine == 0 ? 0.5 : 1 }

    /// Requests that do not answer to another: a conversation has six more on average.
    private var starts: Int { load == .sessions ? max(1, requests / 7) : requests }

    /// Arrivals a second, of those that do not answer to another, so that the load has its intensity.
    private var rate: Double {
        var probe = Workload(load, rate: 1, blockSize: model.blockSize, seed: seed &+ 1)
        var (work, count, arrivals) = (0.0, 0, 0)
        var last = 0.0
        for job in probe.arrivals(load == .sessions ? 200 : 4000) {
            arrivals += 1
            last = job.arrival
            var next: Job? = job
            while let turn = next {
                work += model.work(turn)
                count += 1
                next = probe.followUp(turn, at: 0)
            }
        }
        let speeds = (0..<engines).reduce(0) { $0 + speed(of: $1) }
        // At a rate of 1 the probe's work came in `last` seconds.
        return intensity * speeds / (work / last)
    }
}

/// Events by time; of those at the same time, the one that was pushed first.
struct EventQueue<Event> {
    private var heap: [(time: Double, order: Int, event: Event)] = []
    private var pushed = 0

    mutating func push(_ event: Event, at time: Double) {
        heap.append((time, pushed, event))
        pushed += 1
        var child = heap.count - 1
        while child > 0, precedes(child, (child - 1) / 2) {
            heap.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    mutating func pop() -> (time: Double, event: Event)? {
        guard !heap.isEmpty else { return nil }
        heap.swapAt(0, heap.count - 1)
        let last = heap.removeLast()
        var parent = 0
        while 2 * parent + 1 < heap.count {
            var child = 2 * parent + 1
            if child + 1 < heap.count, precedes(child + 1, child) { child += 1 }
            guard precedes(child, parent) else { break }
            heap.swapAt(child, parent)
            parent = child
        }
        return (last.time, last.event)
    }

    private func precedes(_ first: Int, _ second: Int) -> Bool {
        (heap[first].time, heap[first].order) < (heap[second].time, heap[second].order)
    }
}

extension [Double] {
    var mean: Double { isEmpty ? 0 : reduce(0, +) / Double(count) }

    /// The smallest value that is not below this share of them.
    func percentile(_ share: Double) -> Double {
        guard !isEmpty else { return 0 }
        return sorted()[Swift.min(count - 1, Int(Double(count) * share))]
    }
}
