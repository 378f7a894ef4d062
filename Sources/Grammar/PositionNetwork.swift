// Tandem — Apache-2.0

/// All rules of a grammar in deterministic form: positions with edges over classes of bytes, and calls of rules.
///
/// Nothing in it is in vain: from every position the end of its rule is reached, by way of rules of which the same
/// holds. So a text that leads anywhere can be completed.
struct PositionNetwork: Sendable {
    struct Edge: Sendable {
        var low: UInt8
        var high: UInt8
        var target: Int32
    }

    struct Call: Sendable {
        var rule: Int32
        /// Where it goes on after the rule; ``end`` if the caller ends there, too.
        var target: Int32
    }

    /// The position behind everything: its rule ends there and cannot go on.
    static let end: Int32 = 0
    /// Stands for whatever follows a rule whose caller is not known.
    static let escape: Int32 = 1

    private(set) var isFinal: [Bool] = [true, false]
    private(set) var edges: [Edge] = []
    private(set) var calls: [Call] = []
    /// Per position, where its edges and calls begin; one more at the end.
    private(set) var edgeStarts: [Int32] = [0, 0, 0]
    private(set) var callStarts: [Int32] = [0, 0, 0]
    /// Per position, how many rules must wait for one another at least until its rule's end is reached.
    private(set) var needs: [Int32] = [0, 0]
    /// The start of every rule.
    private(set) var starts: [Int32]
    /// Per rule, whether it describes the empty text.
    private(set) var isNullable: [Bool] = []
    /// Per rule, the positions where it may stand before its first byte.
    private(set) var initials: [[Int32]] = []
    /// Per rule, a number greater than that of every rule that may call it before a first byte.
    private(set) var ranks: [Int32] = []
    let root: Int32
    let classOfByte: [UInt8]
    let classCount: Int

    /// The greatest of ``needs``.
    private(set) var largestNeed: Int32 = 0

    init(_ rules: RuleSet) throws(GrammarError) {
        root = Int32(rules.root)
        let place = rules.places[rules.root]
        var network = StepNetwork(.bytes, place: place)
        var spans: [(start: Int32, end: Int32)?] = Array(repeating: nil, count: rules.expressions.count)
        for rule in PositionNetwork.reachable(rules) {
            let start = try network.makeStep()
            spans[rule] = (start, try network.add(rules.expressions[rule], from: start))
        }
        var determinizer = Determinizer(network, place: place, maximumStates: GrammarLimits.positions)
        classOfByte = (0...255).map { UInt8(determinizer.classIndex(of: $0)) }
        classCount = determinizer.classStarts.count
        starts = Array(repeating: -1, count: rules.expressions.count)
        var raw: [Determinizer.State] = []
        for (rule, span) in spans.enumerated() {
            guard let span else { continue }
            let base = Int32(raw.count)
            starts[rule] = base
            for state in try determinizer.determinize(from: span.start, to: span.end) {
                var moved = state
                for index in moved.edges.indices { moved.edges[index].target += base }
                for index in moved.calls.indices { moved.calls[index].target += base }
                raw.append(moved)
            }
        }
        let needs = PositionNetwork.needs(raw, starts)
        guard needs[Int(starts[rules.root])] >= 0 else {
            throw GrammarError(kind: .empty, place: place, reason: "no text of finite length matches")
        }
        guard needs[Int(starts[rules.root])] < GrammarLimits.depth else {
            throw GrammarError(
                kind: .tooComplex, place: place,
                reason: "every text nests rules more than \(GrammarLimits.depth) deep")
        }
        adopt(raw, needs)
        try orderRules(rules)
    }

    /// Rules that the root refers to, itself or through others, in order.
    private static func reachable(_ rules: RuleSet) -> [Int] {
        var isReached = Array(repeating: false, count: rules.expressions.count)
        isReached[rules.root] = true
        var pending = [rules.root]
        while let rule = pending.popLast() {
            rules.expressions[rule].forEachRule { called in
                guard !isReached[called] else { return }
                isReached[called] = true
                pending.append(called)
            }
        }
        return isReached.indices.filter { isReached[$0] }
    }

    /// How deep calls must nest from each state to its rule's end; -1 if it is never reached.
    private static func needs(_ raw: [Determinizer.State], _ starts: [Int32]) -> [Int32] {
        var byteSources: [[Int32]] = Array(repeating: [], count: raw.count)
        var callSources: [[(state: Int32, rule: Int32)]] = Array(repeating: [], count: raw.count)
        var callers: [[(state: Int32, target: Int32)]] = Array(repeating: [], count: starts.count)
        for (index, state) in raw.enumerated() {
            for edge in state.edges { byteSources[Int(edge.target)].append(Int32(index)) }
            for call in state.calls {
                callSources[Int(call.target)].append((Int32(index), call.rule))
                callers[Int(call.rule)].append((Int32(index), call.target))
            }
        }
        var ruleAt: [Int32: Int] = [:]
        for (rule, start) in starts.enumerated() where start >= 0 { ruleAt[start] = rule }
        var needs = Array(repeating: Int32(-1), count: raw.count)
        var isCallable = Array(repeating: false, count: starts.count)
        var level = raw.indices.filter { raw[$0].isFinal }.map { Int32($0) }
        var need: Int32 = 0
        while !level.isEmpty {
            var finished: [Int] = []
            var pending = level.filter { needs[Int($0)] < 0 }
            for index in pending { needs[Int(index)] = need }
            while let index = pending.popLast() {
                if let rule = ruleAt[index] { finished.append(rule) }
                let through = callSources[Int(index)].filter { isCallable[Int($0.rule)] }.map(\.state)
                for source in byteSources[Int(index)] + through where needs[Int(source)] < 0 {
                    needs[Int(source)] = need
                    pending.append(source)
                }
            }
            level = []
            for rule in finished {
                isCallable[rule] = true
                for (state, target) in callers[rule] where needs[Int(state)] < 0 && needs[Int(target)] >= 0 {
                    level.append(state)
                }
            }
            need += 1
        }
        return needs
    }

    /// Takes over the states from which an end is reached.
    private mutating func adopt(_ raw: [Determinizer.State], _ rawNeeds: [Int32]) {
        var numbers = Array(repeating: Int32(-1), count: raw.count)
        var next: Int32 = 2
        for (index, state) in raw.enumerated() where rawNeeds[index] >= 0 {
            if state.isFinal, state.edges.isEmpty, state.calls.isEmpty {
                numbers[index] = PositionNetwork.end
            } else {
                numbers[index] = next
                next += 1
            }
        }
        func isCallable(_ rule: Int32) -> Bool { rawNeeds[Int(starts[Int(rule)])] >= 0 }
        for (index, state) in raw.enumerated() where numbers[index] > 1 {
            isFinal.append(state.isFinal)
            needs.append(rawNeeds[index])
            largestNeed = max(largestNeed, rawNeeds[index])
            for edge in state.edges where numbers[Int(edge.target)] >= 0 {
                edges.append(
                    Edge(low: UInt8(edge.low), high: UInt8(edge.high), target: numbers[Int(edge.target)]))
            }
            for call in state.calls where numbers[Int(call.target)] >= 0 && isCallable(call.rule) {
                calls.append(Call(rule: call.rule, target: numbers[Int(call.target)]))
            }
            edgeStarts.append(Int32(edges.count))
            callStarts.append(Int32(calls.count))
        }
        for rule in starts.indices {
            starts[rule] = starts[rule] >= 0 && isCallable(Int32(rule)) ? numbers[Int(starts[rule])] : -1
        }
    }

    func edges(of position: Int32) -> ArraySlice<Edge> {
        edges[Int(edgeStarts[Int(position)])..<Int(edgeStarts[Int(position) + 1])]
    }

    func calls(of position: Int32) -> ArraySlice<Call> {
        calls[Int(callStarts[Int(position)])..<Int(callStarts[Int(position) + 1])]
    }

    /// Finds which rules describe the empty text and which call which before a first byte, and refuses those that come
    /// back to themselves that way.
    private mutating func orderRules(_ rules: RuleSet) throws(GrammarError) {
        isNullable = Array(repeating: false, count: starts.count)
        initials = Array(repeating: [], count: starts.count)
        var users: [[Int]] = Array(repeating: [], count: starts.count)
        for rule in starts.indices where starts[rule] >= 0 {
            rules.expressions[rule].forEachRule { users[$0].append(rule) }
        }
        var pending = starts.indices.filter { starts[$0] >= 0 }
        while let rule = pending.popLast() {
            guard !isNullable[rule], starts[rule] >= 0 else { continue }
            guard positionsBeforeFirstByte(of: rule).contains(where: { isFinal[Int($0)] }) else { continue }
            isNullable[rule] = true
            pending += users[rule]
        }
        for rule in starts.indices where starts[rule] >= 0 { initials[rule] = positionsBeforeFirstByte(of: rule) }

        // Depth first, without recursion: a rule is ranked once all that it calls first are.
        enum Mark { case new, open, done }
        var marks = Array(repeating: Mark.new, count: starts.count)
        var finished: [Int] = []
        for first in starts.indices where starts[first] >= 0 && marks[first] == .new {
            var stack: [(rule: Int, pending: [Int])] = [(first, firstCalls(of: first))]
            marks[first] = .open
            while let top = stack.indices.last {
                guard let next = stack[top].pending.popLast() else {
                    marks[stack[top].rule] = .done
                    finished.append(stack[top].rule)
                    stack.removeLast()
                    continue
                }
                switch marks[next] {
                case .done: break
                case .open:
                    throw GrammarError(
                        kind: .unsupported, place: rules.places[next],
                        reason:
                            "the rule `\(rules.names[next])` comes back to itself before any text (left recursion); write the repetition with * or +"
                    )
                case .new:
                    marks[next] = .open
                    stack.append((next, firstCalls(of: next)))
                }
            }
        }
        ranks = Array(repeating: 0, count: starts.count)
        for (rank, rule) in finished.reversed().enumerated() { ranks[rule] = Int32(rank) }
    }

    private func firstCalls(of rule: Int) -> [Int] {
        initials[rule].flatMap { calls(of: $0).map { Int($0.rule) } }
    }

    private func positionsBeforeFirstByte(of rule: Int) -> [Int32] {
        var result = [starts[rule]]
        var known: Set<Int32> = [starts[rule]]
        var index = 0
        while index < result.count {
            for call in calls(of: result[index])
            where isNullable[Int(call.rule)] && known.insert(call.target).inserted {
                result.append(call.target)
            }
            index += 1
        }
        return result
    }
}
