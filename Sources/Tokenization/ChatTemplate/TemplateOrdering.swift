// Tandem — Apache-2.0

/// Jinja's filters that choose among elements by a test, or by comparing them.
enum TemplateOrdering {
    static let names: Set<String> = ["select", "reject", "sort", "unique", "min", "max", "dictsort"]

    static func apply(
        _ name: String, to value: TemplateValue, _ call: TemplateCall, _ interpreter: inout TemplateInterpreter
    ) throws(ChatTemplateError) -> TemplateValue {
        switch name {
        case "select", "reject": return try select(value, keeps: name == "select", call, &interpreter)
        case "sort":
            let items = try interpreter.elements(of: value, call.line)
            let reverses = call.value(0, "reverse")?.isTrue ?? false
            let rule = try Rule(call, caseSensitive: 1, attribute: 2)
            return try interpreter.list(try sorted(items, by: rule, reverses: reverses, call, &interpreter), call.line)
        case "unique":
            let rule = try Rule(call, caseSensitive: 0, attribute: 1)
            return try unique(try interpreter.elements(of: value, call.line), by: rule, call, &interpreter)
        case "min", "max":
            let rule = try Rule(call, caseSensitive: 0, attribute: 1)
            let items = try interpreter.elements(of: value, call.line)
            // The first of equal ones, as in Python.
            guard var best = items.first else { return .undefined("no aggregated item, sequence was empty") }
            for item in items.dropFirst() {
                let (left, right) = name == "min" ? (item, best) : (best, item)
                if try rule.precedes(left, right, call, &interpreter) { best = item }
            }
            return best
        default: return try sortedItems(of: value, call, &interpreter)
        }
    }

    /// How elements are compared.
    private struct Rule {
        var isCaseSensitive: Bool
        var attribute: String?

        init(_ call: TemplateCall, caseSensitive: Int, attribute: Int) throws(ChatTemplateError) {
            isCaseSensitive = call.value(caseSensitive, "case_sensitive")?.isTrue ?? false
            self.attribute = try call.string(attribute, "attribute")
        }

        init(isCaseSensitive: Bool) { self.isCaseSensitive = isCaseSensitive }

        func key(
            _ item: TemplateValue, _ call: TemplateCall, _ interpreter: inout TemplateInterpreter
        ) throws(ChatTemplateError) -> TemplateValue {
            var key = item
            if let attribute { key = try TemplateFilters.attribute(attribute, of: item, call, &interpreter) }
            guard !isCaseSensitive, case .string(let text) = key else { return key }
            return try interpreter.string(text.lowercased(), call.line)
        }

        func precedes(
            _ left: TemplateValue, _ right: TemplateValue, _ call: TemplateCall,
            _ interpreter: inout TemplateInterpreter
        ) throws(ChatTemplateError) -> Bool {
            try interpreter.charge(steps: 1, call.line)
            return try interpreter.compare(
                .less, try key(left, call, &interpreter), try key(right, call, &interpreter), call.line)
        }
    }

    private static func select(
        _ value: TemplateValue, keeps: Bool, _ call: TemplateCall, _ interpreter: inout TemplateInterpreter
    ) throws(ChatTemplateError) -> TemplateValue {
        let test = call.positional.isEmpty ? nil : try call.string(0, "test")
        if let test, !TemplateTests.names.contains(test) { throw call.failure("no test named \(test)") }
        var rest = call
        if !rest.positional.isEmpty { rest.positional.removeFirst() }
        var results: [TemplateValue] = []
        for item in try interpreter.chosenElements(of: value, call.line) {
            try interpreter.charge(steps: 1, call.line)
            let holds = try test.map { test throws(ChatTemplateError) in
                try TemplateTests.apply(test, to: item, rest, &interpreter)
            }
            if (holds ?? item.isTrue) == keeps { results.append(item) }
        }
        return try interpreter.list(results, call.line)
    }

    /// A merge sort: the standard library's cannot throw errors of one type.
    private static func sorted(
        _ items: [TemplateValue], by rule: Rule, reverses: Bool, _ call: TemplateCall,
        _ interpreter: inout TemplateInterpreter
    ) throws(ChatTemplateError) -> [TemplateValue] {
        var items = items
        var width = 1
        while width < items.count {
            var merged: [TemplateValue] = []
            merged.reserveCapacity(items.count)
            for start in stride(from: 0, to: items.count, by: 2 * width) {
                var left = start
                let middle = min(start + width, items.count)
                var right = middle
                let end = min(start + 2 * width, items.count)
                while left < middle, right < end {
                    let (first, second) = reverses ? (items[left], items[right]) : (items[right], items[left])
                    if try rule.precedes(first, second, call, &interpreter) {
                        merged.append(items[right])
                        right += 1
                    } else {
                        merged.append(items[left])
                        left += 1
                    }
                }
                merged += items[left..<middle]
                merged += items[right..<end]
            }
            items = merged
            width *= 2
        }
        return items
    }

    private static func unique(
        _ items: [TemplateValue], by rule: Rule, _ call: TemplateCall, _ interpreter: inout TemplateInterpreter
    ) throws(ChatTemplateError) -> TemplateValue {
        var keys: [TemplateValue] = []
        var results: [TemplateValue] = []
        for item in items {
            let key = try rule.key(item, call, &interpreter)
            var isNew = true
            for known in keys where try interpreter.compare(.equal, known, key, call.line) {
                isNew = false
                break
            }
            try interpreter.charge(steps: keys.count + 1, call.line)
            if isNew {
                keys.append(key)
                results.append(item)
            }
        }
        return try interpreter.list(results, call.line)
    }

    /// `dictsort`: the members of a mapping as pairs, sorted by key or value.
    private static func sortedItems(
        of value: TemplateValue, _ call: TemplateCall, _ interpreter: inout TemplateInterpreter
    ) throws(ChatTemplateError) -> TemplateValue {
        guard case .mapping(let mapping) = value,
            case .list(let pairs) = try TemplateFilters.items(of: mapping, call.line, &interpreter)
        else { throw call.failure("can only sort the items of a mapping") }
        let by = try call.string(1, "by") ?? "key"
        guard by == "key" || by == "value" else { throw call.failure("dictsort is by key or by value") }
        var rule = Rule(isCaseSensitive: call.value(0, "case_sensitive")?.isTrue ?? false)
        rule.attribute = by == "key" ? "0" : "1"
        let reverses = call.value(2, "reverse")?.isTrue ?? false
        let items = try sorted(pairs.items, by: rule, reverses: reverses, call, &interpreter)
        return try interpreter.list(items, call.line)
    }
}
