// Tandem — Apache-2.0

import Requests

/// A value of which one says that there is nothing.
protocol Vacatable {
    static var vacant: Self { get }
    var isVacant: Bool { get }
}

/// Values by block hash, in one array with open addressing: no allocation but when it grows, and a bound in bytes.
///
/// Block hashes are random already, which spares most of the work of a general dictionary.
struct BlockHashTable<Value: Vacatable & Sendable>: Sendable {
    private struct Slot: Sendable {
        var hash: BlockHash
        var value: Value
    }

    private var slots: [Slot] = []
    private let maximumSlots: Int
    private(set) var count = 0

    /// - Parameter maximumBytes: never taken more than that, but for the moment in which it grows.
    init(maximumBytes: Int) {
        let most = max(Self.firstSlots, maximumBytes / MemoryLayout<Slot>.stride)
        // The largest power of two that fits.
        maximumSlots = 1 << (Int.bitWidth - 1 - most.leadingZeroBitCount)
    }

    private static var firstSlots: Int { 64 }

    var byteCount: Int { slots.capacity * MemoryLayout<Slot>.stride }

    /// What is stored for a hash, or the vacant value.
    subscript(hash: BlockHash) -> Value {
        guard !slots.isEmpty else { return .vacant }
        return slots[place(of: hash)].value
    }

    /// Changes what is stored for a hash; a value that becomes vacant is removed.
    ///
    /// - Returns: false if there was no room for it.
    @discardableResult
    mutating func update(_ hash: BlockHash, _ change: (inout Value) -> Void) -> Bool {
        if slots.isEmpty {
            var value = Value.vacant
            change(&value)
            guard !value.isVacant else { return true }
            grow()
            return insert(hash, value)
        }
        let index = place(of: hash)
        guard slots[index].value.isVacant else {
            change(&slots[index].value)
            if slots[index].value.isVacant { remove(at: index) }
            return true
        }
        var value = Value.vacant
        change(&value)
        return value.isVacant ? true : insert(hash, value)
    }

    /// Changes every value; those that become vacant are removed.
    mutating func updateAll(_ change: (inout Value) -> Void) {
        var vacated = false
        for index in slots.indices where !slots[index].value.isVacant {
            change(&slots[index].value)
            vacated = vacated || slots[index].value.isVacant
        }
        guard vacated else { return }
        rebuild(slots: slots.count)
    }

    // MARK: - Places

    /// Where a hash is, or the empty slot where it would be.
    private func place(of hash: BlockHash) -> Int {
        let mask = slots.count - 1
        var index = home(of: hash)
        while !slots[index].value.isVacant, slots[index].hash != hash { index = (index + 1) & mask }
        return index
    }

    private func home(of hash: BlockHash) -> Int {
        Int(truncatingIfNeeded: StableHash.mix(hash.digest.low)) & (slots.count - 1)
    }

    private mutating func insert(_ hash: BlockHash, _ value: Value) -> Bool {
        if (count + 1) * 4 > slots.count * 3 {
            if slots.count < maximumSlots {
                grow()
            } else if (count + 1) * 8 > slots.count * 7 {
                return false
            }
        }
        slots[place(of: hash)] = Slot(hash: hash, value: value)
        count += 1
        return true
    }

    /// Closes the gap, so that nothing that lies behind it is lost.
    private mutating func remove(at index: Int) {
        let mask = slots.count - 1
        count -= 1
        var gap = index
        var next = (index + 1) & mask
        while !slots[next].value.isVacant {
            // May only move back to where a search for it passes: not before its home.
            if (next - home(of: slots[next].hash)) & mask >= (next - gap) & mask {
                slots[gap] = slots[next]
                gap = next
            }
            next = (next + 1) & mask
        }
        slots[gap].value = .vacant
    }

    private mutating func grow() {
        rebuild(slots: max(Self.firstSlots, min(maximumSlots, slots.count * 2)))
    }

    private mutating func rebuild(slots size: Int) {
        let old = slots
        slots = Array(repeating: Slot(hash: BlockHash(Digest128(high: 0, low: 0)), value: .vacant), count: size)
        count = 0
        for slot in old where !slot.value.isVacant {
            slots[place(of: slot.hash)] = slot
            count += 1
        }
    }
}
