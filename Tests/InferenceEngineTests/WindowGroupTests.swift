// Tandem — Apache-2.0

import LanguageModel
import Requests
import TestSupport
import Testing

@testable import InferenceEngine

/// Groups of layers with sliding windows beside groups without, all over one pool of blocks.
@Suite struct WindowGroupTests {
    private func run(_ harness: inout Harness, _ request: EngineRequest) throws -> Int? {
        try harness.add(request)
        try harness.runToEnd()
        #expect(harness.collected[request.id]?.answer == harness.expected(request))
        return harness.collected[request.id]?.cachedPromptTokens
    }

    // MARK: - Memory

    @Test(arguments: [false, true]) func blocksBehindTheWindowAreGivenBack(asynchronous: Bool) throws {
        var harness = try Harness(
            .small(tokensPerStep: 32, contextLength: 2000, asynchronous: asynchronous), blocks: 1000,
            windows: [40, nil, 40])
        let request = EngineRequest(id: 1, tokens: prompt(500), maximumNewTokens: 500)
        try harness.add(request)
        var most = 0
        while try harness.round() {
            let sequence = harness.scheduler.sequences[0]
            guard sequence.slot != nil else { continue }
            most = max(most, sequence.tables[0].ids.count)
            #expect(sequence.tables[0].first == sequence.tables[2].first)
            #expect(sequence.tables[1].first == 0)
        }
        // 39 tokens that are seen and 32 of the step.
        let expected = KeyValueGroup(layers: [0], window: 40).blocks(
            forSequenceOf: 1000, tokensPerStep: 32, blockSize: 16)
        #expect(most == expected)
        harness.expectEmpty()
        #expect(harness.collected[1]?.answer == harness.expected(request))
    }

    @Test(arguments: [false, true]) func theLongestSequenceRunsInThePoolThatHoldsIt(asynchronous: Bool) throws {
        for windows in [[40, nil], [40], [17, 100, nil, nil]] as [[Int?]] {
            let groups = windows.map { KeyValueGroup(layers: [0], window: $0) }
            for length in [64, 500] {
                let blocks = groups.reduce(0) {
                    $0 + $1.blocks(forSequenceOf: length, tokensPerStep: 48, blockSize: 16)
                }
                var harness = try Harness(
                    .small(tokensPerStep: 48, contextLength: 500, asynchronous: asynchronous), blocks: blocks,
                    windows: windows)
                let longest = harness.scheduler.maximumSequenceLength
                #expect(longest >= length)
                let request = EngineRequest(id: 1, tokens: prompt(longest - 20), maximumNewTokens: 1000)
                #expect(try run(&harness, request) == 0)
                #expect(harness.collected[1]?.answer.tokens.count == 20)
                // And once more, over what the first one left in the cache.
                var again = request
                again.id = 2
                _ = try run(&harness, again)
                harness.expectEmpty()
                #expect(harness.scheduler.counters.preemptions == 0)

                #expect(throws: RequestFailure.self) {
                    try harness.add(EngineRequest(id: 3, tokens: prompt(longest + 1), maximumNewTokens: 0))
                }
            }
        }
    }

    @Test func aWindowMakesRoomForLongerSequences() throws {
        let without = try Harness(.small(tokensPerStep: 16, contextLength: 10_000), blocks: 60, windows: [nil, nil])
        #expect(without.scheduler.maximumSequenceLength == 30 * 16)
        // 31 + 16 tokens touch 4 blocks at most.
        let with = try Harness(.small(tokensPerStep: 16, contextLength: 10_000), blocks: 60, windows: [32, nil])
        #expect(with.scheduler.maximumSequenceLength == 56 * 16)
        let only = try Harness(.small(tokensPerStep: 16, contextLength: 10_000), blocks: 60, windows: [32, 32])
        #expect(only.scheduler.maximumSequenceLength == 10_000)
    }

    // MARK: - Prefix cache

    @Test(arguments: [[nil, 33], [33, nil], [33, 33, nil]] as [[Int?]])
    func aPrefixNeedsTheWindowsLastBlocks(windows: [Int?]) throws {
        var harness = try Harness(.small(tokensPerStep: 64, contextLength: 400), blocks: 200, windows: windows)
        let tokens = prompt(200)
        let full = EngineRequest(id: 1, tokens: tokens, maximumNewTokens: 1)
        #expect(try run(&harness, full) == 0)
        var again = full
        again.id = 2
        #expect(try run(&harness, again) == 192)
        // Of the window's groups only ceil(32 / 16) blocks were shared, and the executor was told of no others.
        let added = try #require(harness.plans.last { !$0.addedSlots.isEmpty })
        for update in added.blockTableUpdates {
            #expect(update.firstEntry == (windows[Int(update.group)] == nil ? 0 : 10))
        }
        // In the middle of the prompt too, as long as the blocks are there.
        let half = EngineRequest(id: 3, tokens: Array(tokens.prefix(100)) + [1], maximumNewTokens: 1)
        #expect(try run(&harness, half) == 96)
        harness.expectEmpty()
    }

    @Test func aPrefixEndsWhereAWindowsBlocksAreGone() throws {
        // A pool of 12 blocks for two groups; the prompt takes 6 of each.
        var cache = KVCache(
            groups: [KeyValueGroup(layers: [0], window: nil), KeyValueGroup(layers: [1], window: 33)], blockSize: 16,
            tokensPerStep: 96, blockCount: 12)
        var hashes: [BlockHash] = []
        var tables = cache.emptyTables()
        let began = cache.begin(&tables, tokens: 96, hits: 0, of: [], sparing: 0)
        #expect(began)
        for entry in 0..<6 {
            hashes.append(BlockHash(Digest128(high: 1, low: UInt64(entry))))
            cache.register(hashes[entry], entry: entry, of: tables)
        }
        #expect(cache.cachedBlocks(of: hashes[...]) == 6)
        #expect(cache.cachedBlocks(of: hashes[..<4]) == 4)
        // Row 96 and those after it see positions from 64 on: entries 0 to 3 of the window's group are released first.
        let trimmed = cache.trim(&tables, before: 96)
        #expect(trimmed && tables[1].first == 4 && tables[0].first == 0)
        // Their memory is taken in that order.
        var others = cache.emptyTables()
        func take(_ blocks: Int) { for _ in 0..<blocks { takeOne() } }
        func takeOne() {
            let grew = cache.grow(&others, to: (others[0].end + 1) * 16)
            #expect(grew)
        }
        take(1)
        #expect(others[0].ids.count == 1 && others[1].ids.count == 1)
        // Entries 0 and 1 of the window are gone: 6 still needs only 4 and 5; 3 would need 1, 2 would need 0.
        #expect(cache.cachedBlocks(of: hashes[...]) == 6)
        #expect(cache.cachedBlocks(of: hashes[..<5]) == 5)
        #expect(cache.cachedBlocks(of: hashes[..<4]) == 4)
        #expect(cache.cachedBlocks(of: hashes[..<3]) == 0)
        take(1)
        // Entries 2 and 3 as well: only what ends with both 4 and 5 is left.
        #expect(cache.cachedBlocks(of: hashes[...]) == 6)
        #expect(cache.cachedBlocks(of: hashes[..<5]) == 0)
        cache.release(&tables)
        cache.release(&others)
        #expect(cache.pool.freeCount == 12)
        #expect(cache.pool.violations() == [])
    }

    @Test func theGroupWithoutAWindowSpeaksForThePrefix() throws {
        var harness = try Harness(.small(tokensPerStep: 32, contextLength: 400), blocks: 36, windows: [20, 20, nil])
        _ = try run(&harness, EngineRequest(id: 1, tokens: prompt(160), maximumNewTokens: 1))
        var changes = harness.scheduler.takePrefixChanges()
        #expect(changes.stored.count == 10)
        #expect(changes.evicted.isEmpty)
        // What is evicted for another prompt is told for that group only.
        _ = try run(&harness, EngineRequest(id: 2, tokens: prompt(160, seed: 7), maximumNewTokens: 1))
        changes = harness.scheduler.takePrefixChanges()
        #expect(changes.stored.count == 10)
        #expect((1...10).contains(changes.evicted.count))
        harness.expectEmpty()
    }

    @Test(arguments: [false, true]) func aPreemptedSequenceFindsItsWindow(asynchronous: Bool) throws {
        var harness = try Harness(.small(slots: 1, asynchronous: asynchronous), blocks: 100, windows: [20, nil])
        let paused = EngineRequest(id: 1, tokens: prompt(120), maximumNewTokens: 12)
        try harness.add(paused)
        for _ in 0..<6 { _ = try harness.round() }
        harness.scheduler.pause(1)
        // The only slot goes to another one meanwhile.
        let other = EngineRequest(id: 2, tokens: prompt(10, seed: 2), maximumNewTokens: 12)
        try harness.add(other)
        try harness.runToEnd()
        #expect(harness.scheduler.counters.preemptions == 1)
        harness.scheduler.resume(1, credits: .max)
        try harness.runToEnd()
        harness.expectEmpty()
        #expect(harness.resumedFromCache == 1)
        #expect(harness.collected[1]?.answer == harness.expected(paused))
        #expect(harness.collected[2]?.answer == harness.expected(other))
        #expect(harness.plans.reduce(0) { $0 + $1.tokens.count } < 120 + 12 + 22 + 20)
    }
}
