// Tandem — Apache-2.0

/// The deterministic automaton of a grammar, made as far as texts have led so far.
///
/// A state is a set of readings: positions of rules, each with a stack of those that wait. Stacks are shared, and stacks
/// below the same position are one (with several callers), so that a state has one reading a position at most and an
/// ambiguous grammar cannot make stacks without number. Numbers of states and stacks depend on what was seen before;
/// what they stand for does not.
///
/// Unchecked: not for two threads at once; whoever shares one holds a lock around every use.
final class StateTable: @unchecked Sendable {
    struct Reading {
        var position: Int32
        var stack: Int32
    }

    struct State {
        /// Readings after the last byte, in order of position.
        var readings: Range<Int32>
        /// Those that may stand before the next byte and take one.
        var expanded: Range<Int32> = 0..<0
        /// The text so far is complete.
        var isAccepting = false
        /// What follows depends on callers that are not known (see ``unknown``).
        var isOpen = false
        /// Readings were left out, because there are more than are followed.
        var isCut: Bool
        /// So were some here, or among what may stand before the next byte.
        var isTruncated: Bool

        init(readings: Range<Int32>, isCut: Bool = false) {
            self.readings = readings
            self.isCut = isCut
            isTruncated = isCut
        }

        /// A byte can follow, whatever the callers.
        var canContinue: Bool { !expanded.isEmpty }
    }

    /// What walks must know of a state, in a byte.
    enum Flag {
        static let isOpen: UInt8 = 1
        /// A state that may differ from what it would be below other callers.
        static let isSpecial: UInt8 = 2
    }

    /// Stacks that have no callers themselves: behind the root rule, and behind one whose callers are not known.
    private static let nothing: Int32 = 0
    /// The stack of the root rule: the end of the text waits.
    private static let bottom: Int32 = 1
    /// The stack of a rule whose callers are not known.
    static let unknown: Int32 = 2
    /// The state without readings.
    static let dead: Int32 = 0
    /// Deeper than this, a state may have been cut short by the limit of depth below other callers.
    static let shallow = Int32(GrammarLimits.depth / 2)

    let network: PositionNetwork
    let bytes: Int
    let minimumStates: Int
    private let capacity: Int
    /// Successors by state and class; a fixed block, so that walks may hold its address while states are made.
    private let rows: UnsafeMutablePointer<Int32>
    /// A byte of flags by state, likewise.
    private let flags: UnsafeMutablePointer<UInt8>
    private(set) var states: [State] = []
    private var readings: [Reading] = []
    private var stateNumbers: [[Int32]: Int32] = [:]
    /// Callers of every stack, in order: where to go on, and what waits there.
    private var callers: [Range<Int32>] = [0..<0, 0..<1, 1..<2]
    private var callerList = [
        Reading(position: PositionNetwork.end, stack: StateTable.nothing),
        Reading(position: PositionNetwork.escape, stack: StateTable.nothing),
    ]
    private var depths: [Int32] = [0, 1, 1]
    private var stackNumbers: [[Int32]: Int32] = [
        [PositionNetwork.end, StateTable.nothing]: StateTable.bottom,
        [PositionNetwork.escape, StateTable.nothing]: StateTable.unknown,
    ]
    private var unionBudget = 0
    /// Units of ``GrammarLimits/maskWork`` that states of this table have cost.
    private(set) var work = 0

    /// What a table may take in memory, about, before another is begun: rows, and as much again for what is beside them.
    static let usualBytes = 8 << 20

    /// - Parameter minimumStates: so many states find room, whatever their rows take.
    init(_ network: PositionNetwork, bytes: Int = StateTable.usualBytes, minimumStates: Int = 64) {
        self.bytes = bytes
        self.minimumStates = minimumStates
        self.network = network
        capacity = max(minimumStates, min(1 << 16, bytes / (4 * network.classCount)))
        rows = .allocate(capacity: capacity * network.classCount)
        rows.initialize(repeating: StateTable.dead, count: network.classCount)
        flags = .allocate(capacity: capacity)
        flags.initialize(to: 0)
        states.append(State(readings: 0..<0))
        stateNumbers[[]] = StateTable.dead
    }

    deinit {
        rows.deallocate()
        flags.deallocate()
    }

    /// Whether the next new state, or the readings and stacks beside it, would take too much memory.
    var isFull: Bool {
        states.count + 2 >= capacity || readings.count > bytes / 8 || callerList.count > bytes / 8
    }

    /// The state before the first byte of a text.
    func start() -> Int32 {
        // A root that describes nothing but the empty text ends where it starts.
        let start = network.starts[Int(network.root)]
        let stack = start == PositionNetwork.end ? StateTable.nothing : StateTable.bottom
        return intern([Reading(position: start, stack: stack)], isCut: false)
    }

    /// Where a byte leads. The table must not be full.
    func next(_ state: Int32, _ byte: UInt8) -> Int32 {
        let symbol = network.classOfByte[Int(byte)]
        let index = Int(state) * network.classCount + Int(symbol)
        let known = rows[index]
        return known >= 0 ? known : makeNext(state, symbol, index)
    }

    /// Successors by state and class of bytes, negative where they are not known yet. Valid as long as the table.
    var rowBase: UnsafePointer<Int32> { UnsafePointer(rows) }

    /// Flags by state. Valid as long as the table.
    var flagBase: UnsafePointer<UInt8> { UnsafePointer(flags) }

    @inline(never)
    private func makeNext(_ state: Int32, _ symbol: UInt8, _ index: Int) -> Int32 {
        var targets: [Reading] = []
        for item in states[Int(state)].expanded {
            let reading = readings[Int(item)]
            let edges = network.edges(of: reading.position)
            guard let edge = edges.first(where: { $0.high >= symbol }), edge.low <= symbol else { continue }
            guard network.needs[Int(edge.target)] + depths[Int(reading.stack)] <= GrammarLimits.depth else { continue }
            if edge.target == PositionNetwork.end {
                for caller in callers[Int(reading.stack)] { targets.append(callerList[Int(caller)]) }
            } else {
                targets.append(Reading(position: edge.target, stack: reading.stack))
            }
        }
        let (merged, isCut) = merge(targets, limit: GrammarLimits.readings)
        let next = intern(merged, isCut: isCut)
        rows[index] = next
        return next
    }

    /// Puts readings in order, one a position.
    private func merge(_ targets: [Reading], limit: Int) -> (readings: [Reading], isCut: Bool) {
        guard targets.count > 1 else { return (targets, false) }
        var sorted = targets
        sorted.sort { $0.position < $1.position }
        unionBudget = GrammarLimits.unions
        var result: [Reading] = []
        for reading in sorted {
            if let last = result.last, last.position == reading.position {
                result[result.count - 1].stack = union(last.stack, reading.stack)
            } else if result.count == limit {
                return (result, true)
            } else {
                result.append(reading)
            }
        }
        return (result, false)
    }

    // MARK: - Stacks

    /// The stack with the callers of both. Callers that go on at the same place become one.
    private func union(_ left: Int32, _ right: Int32) -> Int32 {
        guard left != right else { return left }
        // Only in the most ambiguous grammars is one left out; each alone leads to a complete text.
        unionBudget -= 1
        guard unionBudget > 0 else { return left }
        var all: [Reading] = []
        var i = Int(callers[Int(left)].lowerBound)
        var j = Int(callers[Int(right)].lowerBound)
        let (iEnd, jEnd) = (Int(callers[Int(left)].upperBound), Int(callers[Int(right)].upperBound))
        while i < iEnd || j < jEnd {
            if j == jEnd || (i < iEnd && callerList[i].position < callerList[j].position) {
                all.append(callerList[i])
                i += 1
            } else if i == iEnd || callerList[j].position < callerList[i].position {
                all.append(callerList[j])
                j += 1
            } else {
                let stack = union(callerList[i].stack, callerList[j].stack)
                all.append(Reading(position: callerList[i].position, stack: stack))
                i += 1
                j += 1
            }
        }
        return makeStack(all)
    }

    /// The stack with these callers, which are in order of position.
    private func makeStack(_ list: [Reading]) -> Int32 {
        var key: [Int32] = []
        key.reserveCapacity(2 * list.count)
        var depth: Int32 = 0
        for caller in list {
            key.append(caller.position)
            key.append(caller.stack)
            depth = max(depth, depths[Int(caller.stack)])
        }
        if let known = stackNumbers[key] { return known }
        let number = Int32(callers.count)
        let start = Int32(callerList.count)
        callerList += list
        callers.append(start..<Int32(callerList.count))
        depths.append(depth + 1)
        stackNumbers[key] = number
        return number
    }

    /// The depth of a stack: how many rules wait.
    func depth(of stack: Int32) -> Int32 { depths[Int(stack)] }

    // MARK: - States

    private func intern(_ list: [Reading], isCut: Bool) -> Int32 {
        var key: [Int32] = []
        key.reserveCapacity(2 * list.count)
        for reading in list {
            key.append(reading.position)
            key.append(reading.stack)
        }
        if isCut { key.append(-1) }
        if let known = stateNumbers[key] { return known }
        let number = states.count
        stateNumbers[key] = Int32(number)
        let start = Int32(readings.count)
        readings += list
        var state = State(readings: start..<Int32(readings.count), isCut: isCut)
        let depth = expand(&state)
        rows.advanced(by: number * network.classCount).initialize(repeating: -1, count: network.classCount)
        let isSpecial = state.isTruncated || depth > StateTable.shallow
        flags.advanced(by: number).initialize(
            to: (state.isOpen ? Flag.isOpen : 0) | (isSpecial ? Flag.isSpecial : 0))
        states.append(state)
        return Int32(number)
    }

    /// Finds all that may stand before the next byte.
    ///
    /// - Returns: the greatest depth of a stack.
    private func expand(_ state: inout State) -> Int32 {
        let limit = 4 * GrammarLimits.readings
        var items: [Reading] = []
        var isTruncated = state.isTruncated
        func add(_ reading: Reading) {
            guard !items.contains(where: { $0.position == reading.position && $0.stack == reading.stack }) else {
                return
            }
            if items.count < limit { items.append(reading) } else { isTruncated = true }
        }
        func addCallers(of stack: Int32) { for caller in callers[Int(stack)] { add(callerList[Int(caller)]) } }
        for index in state.readings { items.append(readings[Int(index)]) }
        // Rules that may end here let their callers go on. Only stacks that wait since earlier bytes are looked at,
        // because rules that describe the empty text are stepped over where they are called.
        var index = 0
        while index < items.count {
            let reading = items[index]
            index += 1
            switch reading.position {
            case PositionNetwork.end: state.isAccepting = true
            case PositionNetwork.escape: state.isOpen = true
            default:
                if network.isFinal[Int(reading.position)] { addCallers(of: reading.stack) }
                for call in network.calls(of: reading.position) where network.isNullable[Int(call.rule)] {
                    if call.target == PositionNetwork.end {
                        addCallers(of: reading.stack)
                    } else {
                        add(Reading(position: call.target, stack: reading.stack))
                    }
                }
            }
        }
        // Each item was compared with those before it.
        work += items.count * items.count / 2 + 20
        expandCalls(&items, limit, &isTruncated)
        state.isTruncated = isTruncated
        let start = Int32(readings.count)
        var depth: Int32 = 0
        for item in items where !network.edges(of: item.position).isEmpty {
            readings.append(item)
            depth = max(depth, depths[Int(item.stack)])
        }
        state.expanded = start..<Int32(readings.count)
        return depth
    }

    /// Adds the beginnings of all rules that are called, callers first.
    private func expandCalls(_ items: inout [Reading], _ limit: Int, _ isTruncated: inout Bool) {
        var pending: [(rule: Int32, callers: [Reading], tails: [Int32])] = []
        var hasOverflown = false
        func enter(_ item: Reading) {
            let depth = depths[Int(item.stack)]
            for call in network.calls(of: item.position) {
                let isTail = call.target == PositionNetwork.end
                let need = network.needs[Int(network.starts[Int(call.rule)])]
                guard depth + need + (isTail ? 0 : 1) <= GrammarLimits.depth,
                    depth + network.needs[Int(call.target)] <= GrammarLimits.depth
                else { continue }
                work += pending.count
                let slot = pending.firstIndex { $0.rule == call.rule } ?? pending.count
                if slot == pending.count {
                    guard slot < limit else {
                        hasOverflown = true
                        continue
                    }
                    pending.append((call.rule, [], []))
                }
                if isTail {
                    if !pending[slot].tails.contains(item.stack) { pending[slot].tails.append(item.stack) }
                } else {
                    pending[slot].callers.append(Reading(position: call.target, stack: item.stack))
                }
            }
        }
        for item in items { enter(item) }
        while let first = pending.indices.min(by: {
            network.ranks[Int(pending[$0].rule)] < network.ranks[Int(pending[$1].rule)]
        }) {
            work += 2 * pending.count
            let (rule, waiting, tails) = pending.remove(at: first)
            guard items.count < limit else {
                hasOverflown = true
                break
            }
            unionBudget = GrammarLimits.unions
            var stacks = tails
            if !waiting.isEmpty { stacks.append(makeStack(mergedCallers(waiting))) }
            guard var stack = stacks.first else { continue }
            for other in stacks.dropFirst() { stack = union(stack, other) }
            for position in network.initials[Int(rule)] {
                let item = Reading(position: position, stack: stack)
                items.append(item)
                enter(item)
            }
        }
        isTruncated = isTruncated || hasOverflown
    }

    private func mergedCallers(_ list: [Reading]) -> [Reading] {
        var sorted = list
        sorted.sort { $0.position < $1.position }
        var result: [Reading] = []
        for caller in sorted {
            if let last = result.last, last.position == caller.position {
                result[result.count - 1].stack = union(last.stack, caller.stack)
            } else {
                result.append(caller)
            }
        }
        return result
    }

    // MARK: - Other tables

    /// The state with the same readings, each below a caller that is not known; nil if they do not share a stack, or if
    /// it is so deep that the limit of depth may be felt.
    func top(of state: Int32) -> Int32? {
        let list = states[Int(state)].readings.map { readings[Int($0)] }
        guard let stack = list.first?.stack, stack > StateTable.unknown || stack == StateTable.bottom,
            list.allSatisfy({ $0.stack == stack }), !states[Int(state)].isTruncated,
            depths[Int(stack)] + StateTable.shallow + network.largestNeed + 1 <= GrammarLimits.depth
        else { return nil }
        let top = list.map { Reading(position: $0.position, stack: StateTable.unknown) }
        return intern(top, isCut: false)
    }

    /// The state that stands for the same as one of another table of the same grammar.
    func state(equalTo state: Int32, of other: StateTable) -> Int32 {
        var stacks: [Int32: Int32] = [StateTable.nothing: StateTable.nothing]
        func stack(_ number: Int32) -> Int32 {
            if let known = stacks[number] { return known }
            let list = other.callers[Int(number)].map { index in
                let caller = other.callerList[Int(index)]
                return Reading(position: caller.position, stack: stack(caller.stack))
            }
            let new = makeStack(list)
            stacks[number] = new
            return new
        }
        let old = other.states[Int(state)]
        let list = old.readings.map { index in
            let reading = other.readings[Int(index)]
            return Reading(position: reading.position, stack: stack(reading.stack))
        }
        return intern(list, isCut: old.isCut)
    }
}
