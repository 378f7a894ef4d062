// Tandem — Apache-2.0

import Routing
import RoutingSimulation

/// Prints one JSON line for each load and policy, and with `decisions` the time that a decision takes.
@main
struct RoutingBenchmark {
    static func main() {
        let arguments = Set(CommandLine.arguments.dropFirst())
        if arguments.contains("decisions") {
            DecisionTimes.run()
        } else if arguments.contains("weights") {
            sweep()
        } else {
            simulate(requests: arguments.contains("--quick") ? 500 : 2000)
        }
    }

    static let models = [EngineModel.smallOnCore, .batched]
    static let seeds: [UInt64] = [1, 2, 3]

    static func simulate(requests: Int) {
        for model in models {
            for load in Load.allCases {
                for balancing in Balancing.all {
                    for told in balancing.name == "Tandem" ? [true, false] : [true] {
                        for seed in seeds {
                            let simulation = Simulation(
                                model: model, engines: 4, load: load, intensity: 0.8, requests: requests, seed: seed,
                                told: told)
                            let name = told ? balancing.name : "Tandem, guessing"
                            line(simulation, name, simulation.run(balancing))
                        }
                    }
                }
            }
        }
    }

    /// What the numbers of the policy are chosen by: each is varied alone.
    static func sweep() {
        var policies: [(String, RoutingPolicy)] = [("as it is", RoutingPolicy())]
        func vary<Value>(_ name: String, _ path: WritableKeyPath<RoutingPolicy, Value>, _ values: [Value]) {
            for value in values {
                var policy = RoutingPolicy()
                policy[keyPath: path] = value
                policies.append(("\(name) \(value)", policy))
            }
        }
        vary("new token weight", \.newTokenWeight, [0.5, 2])
        vary("session tokens", \.sessionTokens, [0, 1024])
        vary("interference", \.interference, [0, 0.1, 0.25])
        vary("popularity", \.popularity, [0.5, 4, .infinity])
        for model in models {
            for load in Load.allCases {
                for (name, policy) in policies {
                    for intensity in [0.5, 0.9] {
                        for seed in seeds {
                            let simulation = Simulation(
                                model: model, engines: 4, load: load, intensity: intensity, requests: 1000, seed: seed)
                            line(simulation, name, simulation.run(.router(policy)))
                        }
                    }
                }
            }
        }
    }

    static func line(_ simulation: Simulation, _ name: String, _ result: SimulationResult) {
        print(
            #"{"model": "\#(simulation.model.name)", "load": "\#(simulation.load.rawValue)", "#
                + #""title": "\#(simulation.load.title)", "intensity": \#(simulation.intensity), "#
                + #""policy": "\#(name)", "seed": \#(simulation.seed), "requests": \#(result.requests), "#
                + #""ttft_mean": \#(result.meanFirstToken), "ttft_p99": \#(result.p99FirstToken), "#
                + #""completion_mean": \#(result.meanCompletion), "completion_p99": \#(result.p99Completion), "#
                + #""hit_rate": \#(result.hitRate), "imbalance": \#(result.imbalance), "#
                + #""utilization": \#(result.utilization)}"#)
    }
}
