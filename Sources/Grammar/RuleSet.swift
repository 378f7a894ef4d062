// Tandem — Apache-2.0

/// Rules that refer to one another by number.
struct RuleSet: Sendable {
    var expressions: [Expression] = []
    /// What rules are called in messages.
    var names: [String] = []
    /// The place of an error that a rule has.
    var places: [String] = []
    var root = 0

    private static let smallWeight = 256

    /// Adds a rule that describes nothing yet.
    mutating func reserve(name: String, place: String) -> Int {
        expressions.append(.never)
        names.append(name)
        places.append(place)
        return expressions.count - 1
    }

    /// Puts small rules that do not recur in the place of references to them: they need no stack then, and are made
    /// deterministic together with what stands around them.
    mutating func substituteSmallRules() {
        var users: [[Int]] = Array(repeating: [], count: expressions.count)
        var openCounts = Array(repeating: 0, count: expressions.count)
        for (rule, expression) in expressions.enumerated() {
            expression.forEachRule { called in
                users[called].append(rule)
                openCounts[rule] += 1
            }
        }
        var small: [Int: Expression] = [:]
        var pending = expressions.indices.filter { openCounts[$0] == 0 }
        while let rule = pending.popLast() {
            let expression = expressions[rule].substituting(small)
            guard expression.weight(atMost: RuleSet.smallWeight) <= RuleSet.smallWeight else { continue }
            small[rule] = expression
            for user in users[rule] {
                openCounts[user] -= 1
                if openCounts[user] == 0 { pending.append(user) }
            }
        }
        for rule in expressions.indices { expressions[rule] = small[rule] ?? expressions[rule].substituting(small) }
    }
}

extension Expression {
    /// With expressions in the place of some rules.
    fileprivate func substituting(_ small: [Int: Expression]) -> Expression {
        switch self {
        case .literal, .characters, .text, .list, .members: self
        case .sequence(let elements): .sequence(elements.map { $0.substituting(small) })
        case .choice(let branches): .choice(branches.map { $0.substituting(small) })
        case .repetition(let body, let minimum, let maximum):
            .repetition(body.substituting(small), minimum: minimum, maximum: maximum)
        case .rule(let rule): small[rule] ?? self
        }
    }

    /// About how many steps the expression takes; anything greater than a limit stands for what is greater.
    fileprivate func weight(atMost limit: Int) -> Int {
        switch self {
        case .literal(let bytes): return 1 + bytes.count
        case .characters(let set):
            return set.ranges.count * (set.ranges.last.map { $0.upperBound > 0x7F } == true ? 4 : 1)
        case .sequence(let elements), .choice(let elements):
            var sum = 1
            for element in elements where sum <= limit { sum += element.weight(atMost: limit) }
            return sum
        case .repetition(let body, let minimum, let maximum):
            return 1 + min(body.weight(atMost: limit), limit + 1) * max(1, minimum, maximum ?? 1)
        case .rule: return 1
        case .list, .members: return limit + 1
        case .text(let automaton, _): return automaton.states.count
        }
    }
}
