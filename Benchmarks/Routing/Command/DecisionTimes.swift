// Tandem — Apache-2.0

import Requests
import Routing
import TestSupport

/// How long a router takes to decide, with many engines and many blocks.
enum DecisionTimes {
    static func run() {
        for engines in [2, 8, 64] {
            for (title, blocks, share) in [
                ("cold", 40, 0), ("prefix of 640 tokens", 40, 40), ("16k tokens", 1000, 1000),
            ] {
                measure(engines: engines, title: title, blocks: blocks, share: share)
            }
        }
    }

    private static func hash(_ chain: UInt64, _ index: Int) -> BlockHash {
        BlockHash(Digest128(high: StableHash.mix(chain), low: StableHash.mix(chain ^ UInt64(index) << 20)))
    }

    /// 100,000 blocks in all; every engine has a tenth of the chains besides its own.
    private static func measure(engines: Int, title: String, blocks: Int, share: Int) {
        var router = Router()
        var generator = SeededGenerator(seed: 1)
        for engine in 0..<engines {
            router.engineAppeared(EngineID(UInt64(engine)))
            router.setServing(EngineID(UInt64(engine)), true)
        }
        let chains = 100_000 / blocks
        for chain in 0..<chains {
            let stored = (0..<blocks).map { hash(UInt64(chain), $0) }
            for engine in Set([chain % engines, (chain / 7) % engines]) {
                router.prefixesChanged(stored: stored, evicted: [], on: EngineID(UInt64(engine)))
            }
        }
        let cost = TokenCost(prompt: blocks * 16 + 10, new: 256)
        let hints = (0..<256).map { index in
            let chain = UInt64.random(in: 0..<UInt64(chains), using: &generator) + (share == 0 ? 1 << 40 : 0)
            return RoutingHints(
                prefix: (0..<blocks).map { hash(chain, $0) }, blockSize: 16, session: UInt64(index))
        }
        let rounds = 20_000
        let clock = ContinuousClock()
        var decided = 0
        var best = Duration.seconds(1000)
        for _ in 0..<5 {
            let time = clock.measure {
                for round in 0..<rounds {
                    let decision = router.decide(for: cost, hints: hints[round % 256], using: &generator)
                    decided += decision?.cachedTokens ?? 0
                }
            }
            best = min(best, time)
        }
        var all = Duration.seconds(1000)
        for _ in 0..<5 {
            let time = clock.measure {
                for round in 0..<rounds {
                    let hints = hints[round % 256]
                    guard let decision = router.decide(for: cost, hints: hints, using: &generator) else { continue }
                    let id = RequestID(round)
                    router.started(
                        id, on: decision.engine, cost: cost, hints: hints, cachedTokens: decision.cachedTokens)
                    router.progressed(id, on: decision.engine, newTokens: 1)
                    router.finished(id, on: decision.engine)
                    if round % 64 == 0 { router.prefixesChanged(stored: [], evicted: [], on: decision.engine) }
                }
            }
            all = min(all, time)
        }
        func nanoseconds(_ duration: Duration) -> Int {
            Int(Double(duration.components.attoseconds) / 1e9 + Double(duration.components.seconds) * 1e9) / rounds
        }
        print(
            #"{"engines": \#(engines), "prompt": "\#(title)", "blocks": \#(router.prefixBlocks), "#
                + #""bytes": \#(router.prefixBytes), "decide_ns": \#(nanoseconds(best)), "#
                + #""request_ns": \#(nanoseconds(all))}"#)
    }
}
