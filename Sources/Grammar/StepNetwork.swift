// Tandem — Apache-2.0

/// A nondeterministic automaton under construction, over bytes or over Unicode scalars, with calls of rules.
struct StepNetwork {
    enum Alphabet { case bytes, characters }

    enum Label {
        case none
        case symbols(UInt32, UInt32)
        case call(Int32)
    }

    struct Edge {
        var label: Label
        var target: Int32
        /// The next edge of the same step; -1 after the last.
        var next: Int32
    }

    let alphabet: Alphabet
    /// First edge of every step; -1 if there is none.
    private(set) var heads: [Int32] = []
    private(set) var edges: [Edge] = []
    private var sequences: [CodePointSet: [[ClosedRange<UInt8>]]] = [:]
    private let place: String

    init(_ alphabet: Alphabet, place: String) {
        self.alphabet = alphabet
        self.place = place
    }

    mutating func makeStep() throws(GrammarError) -> Int32 {
        guard heads.count < GrammarLimits.steps, edges.count < 5 * GrammarLimits.steps else {
            throw GrammarError(
                kind: .tooComplex, place: place,
                reason: "written out it has more than \(GrammarLimits.steps) steps; lower its counts")
        }
        heads.append(-1)
        return Int32(heads.count - 1)
    }

    mutating func connect(_ source: Int32, _ target: Int32, _ label: Label = .none) {
        edges.append(Edge(label: label, target: target, next: heads[Int(source)]))
        heads[Int(source)] = Int32(edges.count - 1)
    }

    /// Adds an expression that begins at a step.
    ///
    /// - Returns: where it ends.
    mutating func add(_ expression: Expression, from source: Int32) throws(GrammarError) -> Int32 {
        switch expression {
        case .literal(let bytes): return try add(literal: bytes, from: source)
        case .characters(let set):
            let end = try makeStep()
            try add(set, from: source, to: end)
            return end
        case .sequence(let elements):
            var step = source
            for element in elements { step = try add(element, from: step) }
            return step
        case .choice(let branches):
            let end = try makeStep()
            for branch in branches {
                // A branch that begins with a loop must not let the others in.
                let start = try makeStep()
                connect(source, start)
                connect(try add(branch, from: start), end)
            }
            return end
        case .repetition(let body, let minimum, let maximum):
            return try add(body, minimum, maximum, from: source)
        case .rule(let rule):
            let end = try makeStep()
            connect(source, end, .call(Int32(rule)))
            return end
        case .text(let automaton, let spelling):
            return try add(automaton, spelling, from: source)
        case .list(let list):
            return try add(list, from: source)
        case .members(let members):
            return try add(members, from: source)
        }
    }

    private mutating func add(literal bytes: [UInt8], from source: Int32) throws(GrammarError) -> Int32 {
        var step = source
        if alphabet == .characters {
            for scalar in String(decoding: bytes, as: UTF8.self).unicodeScalars {
                let end = try makeStep()
                connect(step, end, .symbols(scalar.value, scalar.value))
                step = end
            }
            return step
        }
        for byte in bytes {
            let end = try makeStep()
            connect(step, end, .symbols(UInt32(byte), UInt32(byte)))
            step = end
        }
        return step
    }

    private mutating func add(
        _ body: Expression, _ minimum: Int, _ maximum: Int?, from source: Int32
    ) throws(GrammarError) -> Int32 {
        var step = source
        for _ in 0..<minimum {
            let before = edges.count
            step = try add(body, from: step)
            // A body without steps stays so however often it is repeated.
            if edges.count == before { break }
        }
        guard let maximum else {
            let loop = try makeStep()
            connect(step, loop)
            connect(try add(body, from: loop), loop)
            let end = try makeStep()
            connect(loop, end)
            return end
        }
        let end = try makeStep()
        connect(step, end)
        for _ in minimum..<max(minimum, maximum) {
            let start = try makeStep()
            connect(step, start)
            step = try add(body, from: start)
            connect(step, end)
        }
        return end
    }

    /// Adds one character of a set, between two steps.
    private mutating func add(_ set: CodePointSet, from source: Int32, to target: Int32) throws(GrammarError) {
        if alphabet == .characters {
            for range in set.ranges { connect(source, target, .symbols(range.lowerBound, range.upperBound)) }
            return
        }
        let known = sequences[set]
        let pieces = known ?? set.byteSequences()
        if known == nil { sequences[set] = pieces }
        for piece in pieces {
            var step = source
            for range in piece.dropLast() {
                let next = try makeStep()
                connect(step, next, .symbols(UInt32(range.lowerBound), UInt32(range.upperBound)))
                step = next
            }
            guard let last = piece.last else { continue }
            connect(step, target, .symbols(UInt32(last.lowerBound), UInt32(last.upperBound)))
        }
    }

    private mutating func add(
        _ automaton: CharacterAutomaton, _ spelling: Spelling, from source: Int32
    ) throws(GrammarError) -> Int32 {
        let end = try makeStep()
        var steps: [Int32] = []
        for _ in automaton.states { steps.append(try makeStep()) }
        guard let first = steps.first else { return end }
        connect(source, first)
        for (index, state) in automaton.states.enumerated() {
            if state.isAccepting { connect(steps[index], end) }
            var byTarget: [(target: Int, ranges: [ClosedRange<UInt32>])] = []
            for edge in state.edges {
                if let known = byTarget.firstIndex(where: { $0.target == edge.target }) {
                    byTarget[known].ranges.append(edge.range)
                } else {
                    byTarget.append((edge.target, [edge.range]))
                }
            }
            for (target, ranges) in byTarget {
                let (plain, escaped) = spelling.spell(CodePointSet(ranges))
                try add(plain, from: steps[index], to: steps[target])
                for bytes in escaped {
                    connect(try add(literal: bytes, from: steps[index]), steps[target])
                }
            }
        }
        return end
    }

    // MARK: - Lists and members

    private mutating func add(_ list: Expression.List, from source: Int32) throws(GrammarError) -> Int32 {
        let end = try makeStep()
        var step = source
        var index = 0
        func element(_ index: Int) -> Expression? { index < list.prefix.count ? list.prefix[index] : list.rest }
        let last = list.maximum ?? max(list.prefix.count, list.minimum)
        while index < last, let next = element(index) {
            if index >= list.minimum { connect(step, end) }
            if index > 0 { step = try add(list.separator, from: step) }
            step = try add(next, from: step)
            index += 1
        }
        guard index >= list.minimum else { return end }
        if list.maximum == nil, let rest = list.rest {
            if index == 0 {
                connect(step, end)
                step = try add(rest, from: step)
            }
            let loop = try makeStep()
            connect(step, loop)
            connect(try add(rest, from: try add(list.separator, from: loop)), loop)
            step = loop
        }
        connect(step, end)
        return end
    }

    /// Where the writing of an object stands.
    private struct MemberState: Hashable {
        /// Members before this one are written, or left out.
        var index = 0
        /// Written members that count towards the least number, and towards the greatest, as far as that matters.
        var low = 0
        var high = 0
        /// A member that is not listed was written. Others of its kind may have the same key.
        var hasExtra = false
        /// The next thing is a member.
        var isBeforeMember = true
    }

    private mutating func add(_ members: Expression.Members, from source: Int32) throws(GrammarError) -> Int32 {
        let end = try makeStep()
        let count = members.listed.count
        let lastRequired = members.listed.lastIndex { $0.isRequired } ?? -1
        var steps: [MemberState: Int32] = [MemberState(): source]
        var pending = [MemberState()]
        func step(_ state: MemberState, _ network: inout StepNetwork) throws(GrammarError) -> Int32 {
            if let known = steps[state] { return known }
            let new = try network.makeStep()
            steps[state] = new
            pending.append(state)
            return new
        }
        while let state = pending.popLast() {
            let source = try step(state, &self)
            var next = state
            guard state.isBeforeMember else {
                if state.index > lastRequired, state.low >= members.minimum { connect(source, end) }
                next.isBeforeMember = true
                connect(try add(members.separator, from: source), try step(next, &self))
                continue
            }
            if state.index < count, !members.listed[state.index].isRequired {
                next.index += 1
                connect(source, try step(next, &self))
            }
            if let maximum = members.maximum, state.high >= maximum { continue }
            next = state
            next.isBeforeMember = false
            next.low = min(members.minimum, state.low + (state.hasExtra ? 0 : 1))
            next.high = members.maximum == nil ? 0 : state.high + 1
            if state.index < count {
                next.index += 1
                connect(try add(members.listed[state.index].expression, from: source), try step(next, &self))
            } else if let extra = members.extra {
                next.hasExtra = true
                connect(try add(extra, from: source), try step(next, &self))
            }
        }
        return end
    }
}
