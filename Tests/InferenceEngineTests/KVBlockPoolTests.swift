// Tandem — Apache-2.0

import InferenceEngine
import Requests
import Testing

@Suite struct KVBlockPoolTests {
    private func hash(_ value: UInt64) -> BlockHash { BlockHash(Digest128(high: value, low: value)) }

    private func allocate(from pool: inout KVBlockPool) throws -> KVBlockID {
        let id = pool.allocate()
        return try #require(id)
    }

    @Test func allocatesEachBlockOnceAndThenNone() {
        var pool = KVBlockPool(blockCount: 3)
        let ids = (0..<3).map { _ in pool.allocate() }
        #expect(Set(ids) == [0, 1, 2])
        let none = pool.allocate()
        #expect(none == nil)
        #expect(pool.freeCount == 0)
        #expect(pool.violations() == [])
    }

    @Test func aSharedBlockIsFreeAfterItsLastRelease() throws {
        var pool = KVBlockPool(blockCount: 1)
        let id = try allocate(from: &pool)
        pool.retain(id)
        pool.release(id)
        let none = pool.allocate()
        #expect(none == nil)
        pool.release(id)
        #expect(pool.freeCount == 1)
        #expect(pool.violations() == [])
    }

    @Test func blocksWithoutPrefixAreReusedFirstThenTheLeastRecentlyFreed() throws {
        var pool = KVBlockPool(blockCount: 4)
        let ids = (0..<4).compactMap { _ in pool.allocate() }
        for id in ids.prefix(3) { pool.register(id, as: hash(UInt64(id))) }
        for id in [ids[1], ids[0], ids[3], ids[2]] { pool.release(id) }
        let reused = (0..<4).map { _ in pool.allocate() }
        #expect(reused == [ids[3], ids[1], ids[0], ids[2]])
        #expect(pool.cachedCount == 0)
        #expect(pool.violations() == [])
    }

    @Test func aFreedPrefixCanBeTakenUntilItIsEvicted() throws {
        var pool = KVBlockPool(blockCount: 2)
        let id = try allocate(from: &pool)
        pool.register(id, as: hash(7))
        pool.release(id)
        #expect(pool.block(of: hash(7)) == id)
        pool.retain(id)
        #expect(pool.references(to: id) == 1)
        pool.release(id)
        _ = pool.allocate()
        _ = pool.allocate()
        #expect(pool.block(of: hash(7)) == nil)
        #expect(pool.violations() == [])
    }

    @Test func theFirstBlockOfAPrefixStays() throws {
        var pool = KVBlockPool(blockCount: 2)
        let first = try allocate(from: &pool)
        let second = try allocate(from: &pool)
        pool.register(first, as: hash(1))
        pool.register(second, as: hash(1))
        #expect(pool.block(of: hash(1)) == first)
        #expect(pool.cachedCount == 1)
        #expect(pool.violations() == [])
    }

    @Test func changesAreNet() throws {
        var pool = KVBlockPool(blockCount: 1)
        for value in [1, 2] as [UInt64] {
            let id = try allocate(from: &pool)
            pool.register(id, as: hash(value))
            pool.release(id)
        }
        var changes = pool.takeChanges()
        #expect(changes.stored == [hash(2)])
        #expect(changes.evicted.isEmpty)
        let id = try allocate(from: &pool)
        changes = pool.takeChanges()
        #expect(changes.stored.isEmpty)
        #expect(changes.evicted == [hash(2)])
        pool.register(id, as: hash(2))
        changes = pool.takeChanges()
        #expect(changes.stored == [hash(2)])
    }

    @Test func groupsDoNotMixAndOneIsReported() throws {
        var pool = KVBlockPool(blockCount: 3, reportedGroup: 1)
        let ids = try (0..<3).map { _ in try allocate(from: &pool) }
        pool.register(ids[0], as: hash(1), group: 0)
        #expect(pool.block(of: hash(1), group: 0) == ids[0])
        #expect(pool.block(of: hash(1), group: 1) == nil)
        var changes = pool.takeChanges()
        #expect(changes.stored.isEmpty)
        pool.register(ids[1], as: hash(1), group: 1)
        pool.register(ids[2], as: hash(2), group: 0)
        #expect(pool.cachedCount == 3)
        changes = pool.takeChanges()
        #expect(changes.stored == [hash(1)])
        for id in [ids[2], ids[0], ids[1]] { pool.release(id) }
        for _ in 0..<2 { _ = pool.allocate() }
        changes = pool.takeChanges()
        #expect(changes.evicted.isEmpty)
        _ = pool.allocate()
        changes = pool.takeChanges()
        #expect(changes.evicted == [hash(1)])
        #expect(pool.violations() == [])
    }
}
