// Tandem — Apache-2.0

import Synchronization
import Testing

@testable import CPUExecutor

@Suite struct ComputePoolTests {
    /// Stages whose items must all be done, once each, before the next one starts.
    final class Stages: PoolProgram {
        let pool: ComputePool
        let done = Event()
        let counts: [Atomic<Int>.Box]
        let early = Atomic<Int>(0)
        static let stages = 40
        static let items = 13

        init(pool: ComputePool) {
            self.pool = pool
            counts = (0..<Self.stages * Self.items).map { _ in Atomic<Int>.Box() }
        }

        func begin() {}

        func run(worker: Int) {
            for stage in 0..<Self.stages {
                if stage > 0 {
                    for item in 0..<Self.items where counts[(stage - 1) * Self.items + item].value != 1 {
                        early.wrappingAdd(1, ordering: .relaxed)
                    }
                }
                while true {
                    let item = pool.claim()
                    guard item < Self.items else { break }
                    counts[stage * Self.items + item].add()
                }
                pool.barrier()
            }
        }

        func finish() { done.advance() }
    }

    /// Without spinning every wait is a sleep; with more threads than cores, wakes come in any order.
    @Test(arguments: [(1, 0), (2, 0), (2, 30_000), (5, 0), (5, 2000)] as [(Int, UInt64)])
    func everyItemIsDoneOnceBeforeTheNextStage(_ threads: Int, _ spin: UInt64) throws {
        let pool = try ComputePool(
            ComputePool.Settings(threads: threads, spinNanoseconds: spin, cpus: nil, niceIncrement: 0))
        let programs = (0..<20).map { _ in Stages(pool: pool) }
        for program in programs { pool.submit(program) }
        for program in programs {
            program.done.wait(whileEqual: 0, spinNanoseconds: 0)
            #expect(program.early.load(ordering: .relaxed) == 0)
            #expect(program.counts.allSatisfy { $0.value == 1 })
        }
        pool.shutdown()
        pool.shutdown()
    }

    @Test func everyThreadTakesPart() throws {
        let pool = try ComputePool(
            ComputePool.Settings(threads: 3, spinNanoseconds: 0, cpus: [0], niceIncrement: 1))
        let seen = Mutex<Set<Int>>([])
        pool.perform { worker in seen.withLock { _ = $0.insert(worker) } }
        #expect(seen.withLock { $0 } == [0, 1, 2])
        pool.shutdown()
    }
}

extension Atomic where Value == Int {
    /// A counter that an array can hold.
    final class Box: Sendable {
        private let counter = Atomic<Int>(0)
        var value: Int { counter.load(ordering: .relaxed) }
        func add() { counter.wrappingAdd(1, ordering: .relaxed) }
    }
}
