// Tandem — Apache-2.0

/// Makes parts of a nondeterministic automaton deterministic, by sets of steps.
struct Determinizer {
    struct State {
        var isFinal: Bool
        /// Ranges of symbol classes in order, and where they lead.
        var edges: [(low: Int32, high: Int32, target: Int32)] = []
        var calls: [(rule: Int32, target: Int32)] = []
    }

    let network: StepNetwork
    /// Where each class of symbols begins; the symbols of a class are never told apart.
    let classStarts: [UInt32]
    private let place: String
    private let maximumStates: Int
    /// Units of ``GrammarLimits/work`` so far.
    private(set) var work = 0
    private var stateCount = 0
    private var isMarked: [Bool]
    private var buckets: [[Int32]]

    init(_ network: StepNetwork, place: String, maximumStates: Int) {
        self.network = network
        self.place = place
        self.maximumStates = maximumStates
        let limit: UInt32 = network.alphabet == .bytes ? 0x100 : 0x11_0000
        var starts: Set<UInt32> = [0]
        for edge in network.edges {
            guard case .symbols(let low, let high) = edge.label else { continue }
            starts.insert(low)
            if high + 1 < limit { starts.insert(high + 1) }
        }
        classStarts = starts.sorted()
        isMarked = Array(repeating: false, count: network.heads.count)
        buckets = Array(repeating: [], count: classStarts.count)
    }

    /// The class of a symbol.
    func classIndex(of symbol: UInt32) -> Int {
        var low = 0
        var high = classStarts.count
        while high - low > 1 {
            let middle = (low + high) / 2
            if classStarts[middle] <= symbol { low = middle } else { high = middle }
        }
        return low
    }

    /// The deterministic form of what leads from one step to another. Its first state is the start.
    mutating func determinize(from start: Int32, to end: Int32) throws(GrammarError) -> [State] {
        var states: [State] = []
        var members: [[Int32]] = []
        var known: [[Int32]: Int32] = [:]
        // Before closure, too: classes of symbols that do not touch often lead to the same steps.
        var direct: [[Int32]: Int32] = [:]

        func state(of targets: [Int32], _ owner: inout Determinizer) throws(GrammarError) -> Int32 {
            owner.work += targets.count / 4
            if let index = direct[targets] { return index }
            let closure = try owner.closure(targets, end)
            let index: Int32
            if let old = known[closure] {
                index = old
            } else {
                owner.stateCount += 1
                guard owner.stateCount <= owner.maximumStates else {
                    throw owner.tooComplex("it needs more than \(owner.maximumStates) states")
                }
                index = Int32(states.count)
                known[closure] = index
                members.append(closure)
                states.append(State(isFinal: closure.contains(end)))
            }
            direct[targets] = index
            return index
        }

        _ = try state(of: [start], &self)
        var current = 0
        while current < states.count {
            var calls: [Int32: [Int32]] = [:]
            var lowest = buckets.count
            var highest = -1
            for step in members[current] {
                var edge = network.heads[Int(step)]
                while edge >= 0 {
                    let (label, target) = (network.edges[Int(edge)].label, network.edges[Int(edge)].target)
                    edge = network.edges[Int(edge)].next
                    switch label {
                    case .none: break
                    case .call(let rule):
                        calls[rule, default: []].append(target)
                        work += 1
                    case .symbols(let low, let high):
                        let first = classIndex(of: low)
                        var index = first
                        repeat {
                            buckets[index].append(target)
                            index += 1
                        } while index < classStarts.count && classStarts[index] <= high
                        lowest = min(lowest, first)
                        highest = max(highest, index - 1)
                        work += index - first
                    }
                }
            }
            try checkWork()
            var previous: [Int32] = []
            for index in lowest..<max(lowest, highest + 1) {
                work += 1
                if buckets[index].isEmpty {
                    previous = []
                    continue
                }
                if buckets[index] == previous, let last = states[current].edges.indices.last {
                    states[current].edges[last].high = Int32(index)
                } else {
                    previous = buckets[index]
                    let target = try state(of: previous, &self)
                    if let last = states[current].edges.last, last.target == target, last.high == Int32(index) - 1 {
                        states[current].edges[states[current].edges.count - 1].high = Int32(index)
                    } else {
                        states[current].edges.append((Int32(index), Int32(index), target))
                    }
                }
                buckets[index].removeAll(keepingCapacity: true)
            }
            for (rule, targets) in calls.sorted(by: { $0.key < $1.key }) {
                states[current].calls.append((rule, try state(of: targets, &self)))
            }
            current += 1
        }
        return states
    }

    /// The steps with edges of their own that are reached for nothing, and the end, in order.
    private mutating func closure(_ targets: [Int32], _ end: Int32) throws(GrammarError) -> [Int32] {
        var stack: [Int32] = []
        var visited: [Int32] = []
        var result: [Int32] = []
        for target in targets where !isMarked[Int(target)] {
            isMarked[Int(target)] = true
            stack.append(target)
        }
        while let step = stack.popLast() {
            visited.append(step)
            var isNeeded = step == end
            var edge = network.heads[Int(step)]
            while edge >= 0 {
                work += 1
                let target = network.edges[Int(edge)].target
                if case .none = network.edges[Int(edge)].label {
                    if !isMarked[Int(target)] {
                        isMarked[Int(target)] = true
                        stack.append(target)
                    }
                } else {
                    isNeeded = true
                }
                edge = network.edges[Int(edge)].next
            }
            if isNeeded { result.append(step) }
        }
        for step in visited { isMarked[Int(step)] = false }
        work += 2 * visited.count
        try checkWork()
        result.sort()
        return result
    }

    private func checkWork() throws(GrammarError) {
        guard work <= GrammarLimits.work else {
            throw tooComplex("making it deterministic takes too many steps")
        }
    }

    private func tooComplex(_ reason: String) -> GrammarError {
        GrammarError(kind: .tooComplex, place: place, reason: "\(reason); use fewer alternatives or lower counts")
    }
}
