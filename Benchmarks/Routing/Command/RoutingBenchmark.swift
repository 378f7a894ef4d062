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
            simulate(requests: arguments.contains("--quick") ? 500 : 4000)
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

    /// What the weights of the policy are chosen by.
    static func sweep() {
        for model in models {
            for load in Load.allCases where load != .heavy && load != .slow {
                for weight in [0.5, 1, 2] {
                    for popularity in [0.5, 1, 2, 4, 8, 1e9] where weight == 1 || popularity == 4 {
                        for session in [0, 256] where session == 256 || (load == .sessions && popularity == 4) {
                            var policy = RoutingPolicy()
                            policy.newTokenWeight = weight
                            policy.sessionTokens = session
                            policy.popularity = popularity
                            for intensity in [0.5, 0.9] {
                                for seed in seeds {
                                    let simulation = Simulation(
                                        model: model, engines: 4, load: load, intensity: intensity, requests: 1500,
                                        seed: seed)
                                    line(
                                        simulation, "weight \(weight), popularity \(popularity), session \(session)",
                                        simulation.run(.router(policy)))
                                }
                            }
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
