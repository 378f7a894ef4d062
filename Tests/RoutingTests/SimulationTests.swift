// Tandem — Apache-2.0

import Routing
import RoutingSimulation
import Testing

/// Short runs of what `routing-benchmark` does at length: they hold the order of the policies, not numbers.
@Suite struct SimulationTests {
    private static let seeds: [UInt64] = [1, 2, 3, 4]

    /// Means over all seeds.
    private func run(_ balancing: Balancing, _ load: Load, told: Bool = true) -> SimulationResult {
        var sum = SimulationResult()
        for seed in Self.seeds {
            let simulation = Simulation(
                model: .smallOnCore, engines: 4, load: load, intensity: 0.8, requests: 400, seed: seed, told: told)
            let result = simulation.run(balancing)
            sum.meanFirstToken += result.meanFirstToken / Double(Self.seeds.count)
            sum.meanCompletion += result.meanCompletion / Double(Self.seeds.count)
            sum.hitRate += result.hitRate / Double(Self.seeds.count)
            sum.imbalance = max(sum.imbalance, result.imbalance)
            sum.requests += result.requests
        }
        return sum
    }

    private let ours = Balancing.router(RoutingPolicy())

    @Test func isTheSameInEveryRun() {
        let simulation = Simulation(
            model: .batched, engines: 3, load: .sessions, intensity: 0.7, requests: 100, seed: 5)
        let (first, second) = (simulation.run(ours), simulation.run(ours))
        #expect(first.meanFirstToken == second.meanFirstToken && first.meanCompletion == second.meanCompletion)
        #expect(first.requests > 50)
    }

    @Test(arguments: [Load.skewed, .bursts, .sessions]) func sharedPrefixesAreUsed(load: Load) {
        let result = run(ours, load)
        for other in [Balancing.roundRobin, .leastRequests] {
            let peer = run(other, load)
            #expect(result.requests == peer.requests || load == .sessions)
            #expect(result.meanFirstToken < peer.meanFirstToken, "\(other.name)")
            #expect(result.meanCompletion < peer.meanCompletion, "\(other.name)")
            #expect(result.hitRate > peer.hitRate, "\(other.name)")
        }
        let guessing = run(ours, load, told: false)
        #expect(guessing.meanFirstToken < run(.leastRequests, load).meanFirstToken)
    }

    @Test(arguments: [Load.uniform, .slow]) func nothingIsLostWhereNothingIsShared(load: Load) {
        let result = run(ours, load)
        for other in [Balancing.roundRobin, .random, .leastRequests, .powerOfTwo] {
            let peer = run(other, load)
            #expect(result.meanFirstToken < peer.meanFirstToken, "\(other.name)")
            #expect(result.meanCompletion < peer.meanCompletion * 1.05, "\(other.name)")
        }
        #expect(result.imbalance < 1.2)
    }
}
