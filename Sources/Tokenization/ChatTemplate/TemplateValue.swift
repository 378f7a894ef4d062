// Tandem — Apache-2.0

internal import JSON

/// A value while a template is rendered.
///
/// Lists and mappings know how deep they are, so that neither printing nor freeing one can overflow the stack.
enum TemplateValue {
    /// Jinja's `Undefined`; the text says what is missing.
    case undefined(String)
    case none
    case boolean(Bool)
    case integer(Int64)
    case number(Double)
    case string(String)
    case list(TemplateList)
    case mapping(TemplateMapping)
    case namespace(TemplateNamespace)
    case loop(TemplateLoop)
    /// A global function.
    case function(String)
    /// A method of a string or a mapping that was not called yet.
    case method(TemplateMethod)
    case macro(TemplateMacro)

    var depth: Int {
        switch self {
        case .list(let list): list.depth
        case .mapping(let mapping): mapping.depth
        default: 0
        }
    }

    /// An upper bound, about, of the bytes that printing the value takes. Shared parts count as often as they would be
    /// printed.
    var size: Int {
        switch self {
        case .string(let text): text.utf8.count + 32
        case .list(let list): list.size
        case .mapping(let mapping): mapping.size
        default: 32
        }
    }

    /// Whether the value may be an element or an attribute: what holds a reference may not, or cycles would arise.
    var isPlain: Bool {
        switch self {
        case .namespace, .loop, .function, .method, .macro: false
        default: true
        }
    }

    /// As Python's `bool`.
    var isTrue: Bool {
        switch self {
        case .undefined, .none: false
        case .boolean(let value): value
        case .integer(let value): value != 0
        case .number(let value): value != 0
        case .string(let text): !text.isEmpty
        case .list(let list): !list.items.isEmpty
        case .mapping(let mapping): !mapping.keys.isEmpty
        case .namespace, .loop, .function, .method, .macro: true
        }
    }

    /// Python's name of the type, for messages.
    var typeName: String {
        switch self {
        case .undefined: "Undefined"
        case .none: "NoneType"
        case .boolean: "bool"
        case .integer: "int"
        case .number: "float"
        case .string: "str"
        case .list(let list): list.isTuple ? "tuple" : "list"
        case .mapping: "dict"
        case .namespace: "Namespace"
        case .loop: "LoopContext"
        case .function, .method: "function"
        case .macro: "Macro"
        }
    }

    /// Python's `==`. Depth is bounded by that of the values.
    static func equal(_ left: TemplateValue, _ right: TemplateValue) -> Bool {
        switch (left, right) {
        case (.undefined, .undefined), (.none, .none): return true
        case (.string(let left), .string(let right)): return PythonText.equal(left, right)
        case (.list(let left), .list(let right)):
            return left.isTuple == right.isTuple && left.items.count == right.items.count
                && zip(left.items, right.items).allSatisfy(equal)
        case (.mapping(let left), .mapping(let right)):
            return left.keys.count == right.keys.count
                && left.keys.allSatisfy { key in
                    if let a = left[key], let b = right[key] { equal(a, b) } else { false }
                }
        case (.namespace(let left), .namespace(let right)): return left === right
        default:
            if let left = left.integerLike, let right = right.integerLike { return left == right }
            if let left = left.numeric, let right = right.numeric { return left == right }
            return false
        }
    }

    /// Integers, and booleans as 0 and 1.
    var integerLike: Int64? {
        switch self {
        case .integer(let value): value
        case .boolean(let value): value ? 1 : 0
        default: nil
        }
    }

    var numeric: Double? {
        if case .number(let value) = self { return value }
        return integerLike.map { Double($0) }
    }
}

struct TemplateList {
    let items: [TemplateValue]
    let isTuple: Bool
    let depth: Int
    let size: Int

    /// - Returns: nil if the list would be too deep or too large, or an item is no plain value.
    init?(_ items: [TemplateValue], isTuple: Bool = false) {
        var deepest = 0
        var total = 32
        for item in items {
            total += item.size
            guard item.isPlain, total <= TemplateLimits.valueSize else { return nil }
            deepest = max(deepest, item.depth)
        }
        guard deepest < TemplateLimits.valueDepth else { return nil }
        size = total
        self.items = items
        self.isTuple = isTuple
        depth = deepest + 1
    }
}

/// A mapping from strings that keeps its order.
struct TemplateMapping {
    private(set) var keys: [String] = []
    /// By the bytes of the key: Swift's strings are equal when they are canonically equivalent, Python's are not.
    private var values: [[UInt8]: TemplateValue] = [:]
    private(set) var depth = 1
    private(set) var size = 32

    subscript(key: String) -> TemplateValue? { values[Array(key.utf8)] }

    /// - Returns: false if the mapping would be too deep or too large, or the value is no plain value.
    mutating func set(_ key: String, _ value: TemplateValue) -> Bool {
        let total = size + key.utf8.count + value.size
        guard value.isPlain, value.depth < TemplateLimits.valueDepth, total <= TemplateLimits.valueSize else {
            return false
        }
        size = total
        depth = max(depth, value.depth + 1)
        if values.updateValue(value, forKey: Array(key.utf8)) == nil { keys.append(key) }
        return true
    }
}

/// The one thing a template can change in place.
final class TemplateNamespace {
    var attributes: [String: TemplateValue] = [:]
}

/// The `loop` variable.
struct TemplateLoop {
    let items: [TemplateValue]
    let index: Int

    func attribute(_ name: String) -> TemplateValue? {
        let count = items.count
        switch name {
        case "index": return .integer(Int64(index + 1))
        case "index0": return .integer(Int64(index))
        case "revindex": return .integer(Int64(count - index))
        case "revindex0": return .integer(Int64(count - index - 1))
        case "first": return .boolean(index == 0)
        case "last": return .boolean(index == count - 1)
        case "length": return .integer(Int64(count))
        // Jinja counts recursive loops only, which are refused.
        case "depth": return .integer(1)
        case "depth0": return .integer(0)
        case "previtem": return index > 0 ? items[index - 1] : .undefined("there is no previous item")
        case "nextitem": return index + 1 < count ? items[index + 1] : .undefined("there is no next item")
        default: return nil
        }
    }
}

/// A method and what it is of. A class, since a value cannot hold a value.
final class TemplateMethod {
    let receiver: TemplateValue
    let name: String

    init(receiver: TemplateValue, name: String) {
        self.receiver = receiver
        self.name = name
    }
}

extension TemplateValue {
    /// - Returns: nil if the value is too deep.
    init?(_ json: JSONValue, depth: Int = 0) {
        guard depth < TemplateLimits.valueDepth else { return nil }
        switch json {
        case .null: self = .none
        case .bool(let value): self = .boolean(value)
        case .integer(let value): self = .integer(value)
        case .number(let value): self = .number(value)
        case .string(let text): self = .string(text)
        case .array(let elements):
            var items: [TemplateValue] = []
            items.reserveCapacity(elements.count)
            for element in elements {
                guard let item = TemplateValue(element, depth: depth + 1) else { return nil }
                items.append(item)
            }
            guard let list = TemplateList(items) else { return nil }
            self = .list(list)
        case .object(let object):
            var mapping = TemplateMapping()
            for (key, element) in object.entries {
                guard let value = TemplateValue(element, depth: depth + 1), mapping.set(key, value) else { return nil }
            }
            self = .mapping(mapping)
        }
    }
}
