// Tandem — Apache-2.0

extension Scheduler {
    /// What is wrong with the scheduler's own books; empty if nothing is. Walks everything: for tests.
    public func violations() -> [String] {
        var found = cache.pool.violations()
        let live = handles.values
        for (id, handle) in handles where sequences[handle].id != id {
            found.append("request \(id) has a wrong handle")
        }
        if live.count + freeHandles.count != sequences.count {
            found.append("\(live.count) sequences and \(freeHandles.count) free handles of \(sequences.count)")
        }

        var references: [KVBlockID: Int] = [:]
        for handle in live {
            for table in sequences[handle].tables {
                for id in table.ids { references[id, default: 0] += 1 }
                if sequences[handle].slot != nil, table.end * configuration.blockSize < sequences[handle].computed {
                    found.append("request \(sequences[handle].id) has computed more than it has blocks for")
                }
                if sequences[handle].slot == nil, !table.ids.isEmpty {
                    found.append("request \(sequences[handle].id) has blocks but no slot")
                }
            }
            if sequences[handle].computed > sequences[handle].total {
                found.append("request \(sequences[handle].id) has more tokens computed than there are")
            }
            if sequences[handle].rowsInFlight > inFlight.count || sequences[handle].pending < 0 {
                found.append("request \(sequences[handle].id) counts its rows wrongly")
            }
        }
        for id in 0..<KVBlockID(cache.pool.blockCount)
        where cache.pool.references(to: id) != references[id, default: 0] {
            found.append("block \(id) has \(cache.pool.references(to: id)) references, tables differ")
        }

        let taken = live.compactMap { sequences[$0].slot }
        if Set(taken + freeSlots).count != configuration.slots || taken.count + freeSlots.count != configuration.slots {
            found.append("slots in use \(taken.sorted()) and free ones \(freeSlots.sorted()) are not all slots once")
        }
        let withSlot = live.filter { sequences[$0].slot != nil }
        if running.count != withSlot.count || Set(running) != Set(withSlot) {
            found.append("the sequences that run are not those with slots")
        }
        let runnable = live.filter {
            sequences[$0].slot == nil && !sequences[$0].isPaused && !sequences[$0].isHandedOver
        }
        let queued = waiting + scoring
        if queued.count != runnable.count || Set(queued) != Set(runnable) {
            found.append("the sequences that wait are not those without slots")
        }
        if scoring.contains(where: { !sequences[$0].isPrefillOnly })
            || waiting.contains(where: { sequences[$0].isPrefillOnly })
        {
            found.append("a sequence waits in the wrong queue")
        }
        let handedOver = live.filter { sequences[$0].isHandedOver }
        if handedOver.count != handedOverCount || handedOver.contains(where: { sequences[$0].slot != nil }) {
            found.append("\(handedOver.count) prompts are handed over, \(handedOverCount) counted")
        }
        for (hash, handle) in claims where sequences[handle].slot == nil || !sequences[handle].hashes.contains(hash) {
            found.append("request \(sequences[handle].id) claims a block and has no slot")
        }
        for (first, second) in zip(running, running.dropFirst()) where !sequences[first].precedes(sequences[second]) {
            found.append("running sequences are out of order")
        }
        for queue in [waiting, scoring] {
            for (later, sooner) in zip(queue, queue.dropFirst()) where !sequences[sooner].precedes(sequences[later]) {
                found.append("waiting sequences are out of order")
            }
        }
        return found
    }
}
