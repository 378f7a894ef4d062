// Tandem — Apache-2.0

/// A deterministic automaton over Unicode scalars: what patterns, formats and lengths say of a string, in a form in
/// which they can be combined.
struct CharacterAutomaton: Sendable {
    struct State: Sendable {
        var isAccepting: Bool
        /// In order, without overlap.
        var edges: [(range: ClosedRange<UInt32>, target: Int)] = []
    }

    /// The first is the start; without states, nothing is accepted. From every state an accepting one is reached.
    private(set) var states: [State]
    /// About what making it cost, in states.
    private(set) var cost: Int

    private init(trimming states: [State]) {
        self.states = CharacterAutomaton.trimmed(states)
        cost = states.count
    }

    /// No text.
    static let nothing = CharacterAutomaton(trimming: [])

    /// Any text.
    static let anything = CharacterAutomaton(trimming: [
        State(isAccepting: true, edges: [(0...0xD7FF, 0), (0xE000...0x10FFFF, 0)])
    ])

    /// What an expression without rules describes.
    init(_ expression: Expression, place: String) throws(GrammarError) {
        var network = StepNetwork(.characters, place: place)
        let start = try network.makeStep()
        let end = try network.add(expression, from: start)
        var determinizer = Determinizer(network, place: place, maximumStates: GrammarLimits.characterStates)
        let starts = determinizer.classStarts
        let raw = try determinizer.determinize(from: start, to: end)
        self.init(
            trimming: raw.map { state in
                State(
                    isAccepting: state.isFinal,
                    edges: state.edges.map { edge in
                        let next = Int(edge.high) + 1
                        let high = next < starts.count ? starts[next] - 1 : 0x10FFFF
                        return (starts[Int(edge.low)]...high, Int(edge.target))
                    })
            })
        // A state of the usual automaton takes about so much work.
        cost = max(cost, determinizer.work / 100)
    }

    /// Texts of so many characters.
    init(minimum: Int, maximum: Int?) {
        let last = maximum ?? minimum
        guard last >= minimum else {
            self.init(trimming: [])
            return
        }
        self.init(
            trimming: (0...last).map { count in
                let next = count < last ? count + 1 : maximum == nil ? count : nil
                return State(
                    isAccepting: count >= minimum,
                    edges: next.map { [(0...0xD7FF, $0), (0xE000...0x10FFFF, $0)] } ?? [])
            })
    }

    /// Whole numbers in decimal digits, with or without sign, that a divisor divides.
    init(multiplesOf divisor: Int) {
        func digits(_ remainder: Int) -> [(range: ClosedRange<UInt32>, target: Int)] {
            (0...9).map { digit in
                let scalar = UInt32(digit) + 0x30
                return (scalar...scalar, 2 + (remainder * 10 + digit) % divisor)
            }
        }
        let start = State(isAccepting: false, edges: [(0x2D...0x2D, 1)] + digits(0))
        let signed = State(isAccepting: false, edges: digits(0))
        self.init(
            trimming: [start, signed] + (0..<divisor).map { State(isAccepting: $0 == 0, edges: digits($0)) })
    }

    /// Some texts.
    init(texts: [String], place: String) throws(GrammarError) {
        try self.init(.choice(texts.map { .literal($0) }), place: place)
    }

    var isEmpty: Bool { states.isEmpty }

    func matches(_ text: some Sequence<Unicode.Scalar>) -> Bool {
        guard !states.isEmpty else { return false }
        var state = 0
        for scalar in text {
            guard let edge = states[state].edges.first(where: { $0.range.contains(scalar.value) }) else { return false }
            state = edge.target
        }
        return states[state].isAccepting
    }

    /// What both accept.
    func intersection(_ other: CharacterAutomaton, place: String) throws(GrammarError) -> CharacterAutomaton {
        guard !isEmpty, !other.isEmpty else { return CharacterAutomaton(trimming: []) }
        var result: [State] = []
        var pairs: [(Int, Int)] = []
        var known: [Int: Int] = [:]
        func state(_ left: Int, _ right: Int) -> Int {
            let key = left * other.states.count + right
            if let index = known[key] { return index }
            known[key] = pairs.count
            pairs.append((left, right))
            return pairs.count - 1
        }
        _ = state(0, 0)
        while result.count < pairs.count {
            guard pairs.count <= GrammarLimits.characterStates else {
                throw GrammarError(
                    kind: .tooComplex, place: place,
                    reason: "its conditions on a string together need more than \(GrammarLimits.characterStates) states"
                )
            }
            let (left, right) = (states[pairs[result.count].0], other.states[pairs[result.count].1])
            var new = State(isAccepting: left.isAccepting && right.isAccepting)
            var i = 0
            var j = 0
            while i < left.edges.count, j < right.edges.count {
                let low = max(left.edges[i].range.lowerBound, right.edges[j].range.lowerBound)
                let high = min(left.edges[i].range.upperBound, right.edges[j].range.upperBound)
                if low <= high {
                    new.edges.append((low...high, state(left.edges[i].target, right.edges[j].target)))
                }
                if left.edges[i].range.upperBound < right.edges[j].range.upperBound { i += 1 } else { j += 1 }
            }
            result.append(new)
        }
        return CharacterAutomaton(trimming: result)
    }

    /// What this one does not accept.
    var complement: CharacterAutomaton {
        let sink = states.count
        var result = states.map { state in
            var new = State(isAccepting: !state.isAccepting, edges: state.edges)
            let gaps = CodePointSet(state.edges.map(\.range)).inverted.ranges
            new.edges += gaps.map { ($0, sink) }
            new.edges.sort { $0.range.lowerBound < $1.range.lowerBound }
            return new
        }
        result.append(State(isAccepting: true, edges: [(0...0xD7FF, sink), (0xE000...0x10FFFF, sink)]))
        return CharacterAutomaton(trimming: result)
    }

    /// Without states that no text reaches, or from which no text is accepted.
    private static func trimmed(_ states: [State]) -> [State] {
        guard !states.isEmpty else { return [] }
        var sources: [[Int]] = Array(repeating: [], count: states.count)
        for (index, state) in states.enumerated() {
            for edge in state.edges { sources[edge.target].append(index) }
        }
        var isLive = states.map(\.isAccepting)
        var pending = states.indices.filter { isLive[$0] }
        while let index = pending.popLast() {
            for source in sources[index] where !isLive[source] {
                isLive[source] = true
                pending.append(source)
            }
        }
        guard isLive[0] else { return [] }
        var numbers: [Int: Int] = [0: 0]
        var order = [0]
        var position = 0
        while position < order.count {
            for edge in states[order[position]].edges where isLive[edge.target] && numbers[edge.target] == nil {
                numbers[edge.target] = order.count
                order.append(edge.target)
            }
            position += 1
        }
        return order.map { old in
            State(
                isAccepting: states[old].isAccepting,
                edges: states[old].edges.compactMap { edge in numbers[edge.target].map { (edge.range, $0) } })
        }
    }
}
