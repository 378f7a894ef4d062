// Tandem — Apache-2.0

internal import JSON

/// Reads schemas as lists of shapes.
struct SchemaReader {
    private struct Location {
        var value: JSONValue
        var pointer: String
    }

    private let root: JSONValue
    private var locations: [Location] = []
    private var numbers: [String: Int] = [:]
    private var shapes: [Int: [SchemaShape]] = [:]
    private var merged: [SchemaSet: [SchemaShape]] = [:]
    /// Schemas that are being read; one that comes back to itself describes nothing.
    private var open: Set<Int> = []
    private var readCount = 0
    /// Branches of which exactly one may hold, to be compared once everything can be read.
    var exclusiveBranches: [(branches: [[SchemaShape]], place: String)] = []
    /// By what they describe, wherever it stands.
    var automata: [StringShape.Condition.Text: CharacterAutomaton] = [:]
    private var lengths: [[Int?]: CharacterAutomaton] = [:]
    private var characterStates = 0
    /// Comparisons that were made of values and shapes.
    var comparisonCount = 0

    /// Keywords that say nothing about what is valid.
    private static let annotations: Set<String> = [
        "title", "description", "default", "examples", "$comment", "$schema", "readOnly", "writeOnly", "deprecated",
        "contentEncoding", "contentMediaType", "contentSchema", "discriminator", "$defs", "definitions",
    ]

    init(_ root: JSONValue) { self.root = root }

    /// Counts an automaton that was made, at least as much as making it cost.
    mutating func charge(_ automaton: CharacterAutomaton, _ place: String) throws(GrammarError) -> CharacterAutomaton {
        characterStates += max(automaton.cost, 64)
        guard characterStates <= GrammarLimits.allCharacterStates else {
            throw GrammarError(
                kind: .tooComplex, place: place,
                reason: "patterns, formats and lengths of the schema together take more than "
                    + "\(GrammarLimits.allCharacterStates) states; use fewer, or lower counts")
        }
        return automaton
    }

    /// Texts of so many characters.
    mutating func length(
        _ minimum: Int, _ maximum: Int?, _ place: String
    ) throws(GrammarError) -> CharacterAutomaton {
        if let known = lengths[[minimum, maximum]] { return known }
        let made = try charge(CharacterAutomaton(minimum: minimum, maximum: maximum), place)
        lengths[[minimum, maximum]] = made
        return made
    }

    // MARK: - Locations

    /// The number of a schema by where it stands.
    mutating func location(_ value: JSONValue, _ pointer: String) -> Int {
        if let known = numbers[pointer] { return known }
        locations.append(Location(value: value, pointer: pointer))
        numbers[pointer] = locations.count - 1
        return locations.count - 1
    }

    func pointer(of schema: Int) -> String { locations[schema].pointer }

    /// Where a set of schemas stands, for messages.
    func place(of set: SchemaSet) -> String { set.first.map { locations[$0].pointer } ?? "#" }

    private mutating func location(of reference: String, at pointer: String) throws(GrammarError) -> Int {
        guard reference == "#" || reference.hasPrefix("#/") else {
            throw GrammarError(
                kind: .unsupported, place: pointer,
                reason: "only references into the same schema are followed: `#` and `#/…`")
        }
        var value = root
        var place = "#"
        for part in reference.utf8.dropFirst(2).split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        where reference.utf8.count > 1 {
            if place != "#", value.object?["$id"] != nil {
                throw GrammarError(
                    kind: .unsupported, place: "\(place)/$id", reason: SchemaKeywords.advice["$id"] ?? "")
            }
            guard let token = SchemaReader.unescaped(part) else {
                throw GrammarError(kind: .malformed, place: pointer, reason: "the reference is not a JSON pointer")
            }
            let next: JSONValue? =
                switch value {
                case .object(let object): object[token]
                case .array(let elements): Int(token).flatMap { elements.indices.contains($0) ? elements[$0] : nil }
                default: nil
                }
            guard let next else {
                throw GrammarError(
                    kind: .malformed, place: pointer, reason: "the reference `\(reference)` leads to nothing")
            }
            value = next
            place = SchemaReader.append(token, to: place)
        }
        return location(value, place)
    }

    /// A part of a pointer in a URI fragment as it stands in the document.
    private static func unescaped(_ part: some Sequence<UInt8>) -> String? {
        var bytes: [UInt8] = []
        var rest = Array(part)[...]
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "%") {
                guard rest.count >= 2, let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16)
                else {
                    return nil
                }
                rest = rest.dropFirst(2)
                bytes.append(value)
            } else {
                bytes.append(byte)
            }
        }
        var result: [UInt8] = []
        rest = bytes[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "~") else {
                result.append(byte)
                continue
            }
            switch rest.popFirst() {
            case UInt8(ascii: "0"): result.append(UInt8(ascii: "~"))
            case UInt8(ascii: "1"): result.append(UInt8(ascii: "/"))
            default: return nil
            }
        }
        return String(validating: result, as: UTF8.self)
    }

    static func append(_ name: String, to pointer: String) -> String {
        var escaped = ""
        for scalar in name.unicodeScalars {
            switch scalar {
            case "~": escaped += "~0"
            case "/": escaped += "~1"
            default: escaped.unicodeScalars.append(scalar)
            }
        }
        return "\(pointer)/\(escaped)"
    }

    // MARK: - Shapes

    /// The ways to satisfy all schemas of a set.
    mutating func shapes(of set: SchemaSet) throws(GrammarError) -> [SchemaShape] {
        if let known = merged[set] { return known }
        var result = [SchemaShape()]
        for schema in set {
            result = try product(result, shapes(of: schema), place: pointer(of: schema))
        }
        merged[set] = result
        return result
    }

    private mutating func shapes(of schema: Int) throws(GrammarError) -> [SchemaShape] {
        if let known = shapes[schema] { return known }
        let (value, pointer) = (locations[schema].value, locations[schema].pointer)
        guard open.insert(schema).inserted else {
            throw GrammarError(
                kind: .malformed, place: pointer,
                reason: "the schema refers to itself without end and describes nothing")
        }
        defer { open.remove(schema) }
        guard open.count <= GrammarLimits.nesting else {
            throw GrammarError(
                kind: .tooComplex, place: pointer,
                reason: "schemas refer to one another more than \(GrammarLimits.nesting) deep")
        }
        readCount += 1
        guard readCount <= GrammarLimits.schemas else {
            throw GrammarError(
                kind: .tooComplex, place: pointer, reason: "there are more than \(GrammarLimits.schemas) schemas")
        }
        let result: [SchemaShape]
        switch value {
        case .bool(let isTrue): result = isTrue ? [SchemaShape()] : []
        case .object(let object): result = try shapes(object, schema, pointer)
        default:
            throw GrammarError(
                kind: .malformed, place: pointer,
                reason: "a schema is an object or a boolean, and this is \(value.phrase)")
        }
        shapes[schema] = result
        return result
    }

    private mutating func shapes(
        _ object: JSONObject, _ schema: Int, _ pointer: String
    ) throws(GrammarError) -> [SchemaShape] {
        var base = SchemaShape()
        var keywords = SchemaKeywords(object: object, pointer: pointer)
        try keywords.readScalars(into: &base)
        try readArrays(&keywords, into: &base)
        try readObjects(&keywords, schema, into: &base)
        var result = base.isEmpty ? [] : [base]
        if let reference = try keywords.string("$ref") {
            let target = try location(of: reference, at: keywords.place("$ref"))
            result = try product(result, shapes(of: target), place: keywords.place("$ref"))
        }
        if let all = try keywords.schemas("allOf") {
            for (index, value) in all.enumerated() {
                let place = "\(keywords.place("allOf"))/\(index)"
                result = try product(result, shapes(of: location(value, place)), place: place)
            }
        }
        if let any = try keywords.schemas("anyOf") {
            var union: [SchemaShape] = []
            for (index, value) in any.enumerated() {
                union += try shapes(of: location(value, "\(keywords.place("anyOf"))/\(index)"))
            }
            result = try product(result, union, place: keywords.place("anyOf"))
        }
        if let one = try keywords.schemas("oneOf") {
            var branches: [[SchemaShape]] = []
            for (index, value) in one.enumerated() {
                branches.append(try shapes(of: location(value, "\(keywords.place("oneOf"))/\(index)")))
            }
            exclusiveBranches.append((branches, keywords.place("oneOf")))
            result = try product(result, branches.flatMap(\.self), place: keywords.place("oneOf"))
        }
        for (name, _) in object.entries
        where !keywords.known.contains(name) && !SchemaReader.annotations.contains(name) {
            if name == "$id", pointer == "#" { continue }
            throw GrammarError(
                kind: .unsupported, place: keywords.place(name),
                reason: SchemaKeywords.advice[name] ?? "the keyword `\(name)` is not supported")
        }
        return result
    }

    private func product(
        _ left: [SchemaShape], _ right: [SchemaShape], place: String
    ) throws(GrammarError) -> [SchemaShape] {
        guard left.count * right.count <= GrammarLimits.alternatives else {
            throw GrammarError(
                kind: .tooComplex, place: place,
                reason: "merged with what stands beside it, it has more than \(GrammarLimits.alternatives) alternatives"
            )
        }
        return left.flatMap { shape in right.map { shape.intersection($0) } }.filter { !$0.isEmpty }
    }

    // MARK: - Arrays and objects

    private mutating func readArrays(
        _ keywords: inout SchemaKeywords, into shape: inout SchemaShape
    ) throws(GrammarError) {
        var array = ArrayShape()
        array.minimum = try keywords.count("minItems") ?? 0
        array.maximum = try keywords.count("maxItems")
        func schemas(_ values: [JSONValue], _ name: String, _ reader: inout SchemaReader) -> [SchemaSet] {
            values.enumerated().map { [reader.location($1, "\(keywords.place(name))/\($0)")] }
        }
        if let prefix = try keywords.schemas("prefixItems", mayBeEmpty: true) {
            array.prefix = schemas(prefix, "prefixItems", &self)
        }
        if let items = keywords.value("items") {
            if let list = items.array {
                // The spelling of draft 7.
                guard array.prefix.isEmpty else {
                    throw GrammarError(
                        kind: .malformed, place: keywords.place("items"), reason: "`prefixItems` and a list of `items`")
                }
                array.prefix = schemas(list, "items", &self)
                if let more = keywords.value("additionalItems") {
                    array.rest = [location(more, keywords.place("additionalItems"))]
                }
            } else {
                array.rest = [location(items, keywords.place("items"))]
                // Says nothing beside a single schema for all elements.
                _ = keywords.value("additionalItems")
            }
        }
        if try keywords.bool("uniqueItems") == true { array.uniquePlace = keywords.place("uniqueItems") }
        shape.array = keywords.allows("array") ? array : nil
    }

    private mutating func readObjects(
        _ keywords: inout SchemaKeywords, _ schema: Int, into shape: inout SchemaShape
    ) throws(GrammarError) {
        var object = ObjectShape()
        object.minimum = try keywords.count("minProperties") ?? 0
        object.maximum = try keywords.count("maxProperties")
        let required = try keywords.strings("required") ?? []
        guard required.count <= GrammarLimits.listedValues else {
            throw GrammarError(
                kind: .tooComplex, place: keywords.place("required"),
                reason: "there are more than \(GrammarLimits.listedValues) names")
        }
        var seen: Set<[UInt8]> = []
        object.required = required.filter { seen.insert(Array($0.utf8)).inserted }
        var part = ObjectShape.Part(schema: schema)
        if let properties = try keywords.object("properties") {
            let place = keywords.place("properties")
            part.properties = properties.entries.map { name, value in
                (name, location(value, SchemaReader.append(name, to: place)))
            }
        }
        if let patterns = try keywords.object("patternProperties") {
            let place = keywords.place("patternProperties")
            part.patterns = patterns.entries.map { pattern, value in
                let place = SchemaReader.append(pattern, to: place)
                return (
                    StringShape.Condition(kind: .pattern, text: pattern, place: place), location(value, place)
                )
            }
        }
        if let additional = keywords.value("additionalProperties") {
            part.additional = location(additional, keywords.place("additionalProperties"))
        }
        if !part.properties.isEmpty || !part.patterns.isEmpty || part.additional != nil { object.parts = [part] }
        shape.object = keywords.allows("object") ? object : nil
    }
}

extension JSONValue {
    /// The type's name with its article.
    var phrase: String {
        switch self {
        case .null: "null"
        case .array, .integer, .object: "an \(typeName)"
        default: "a \(typeName)"
        }
    }
}
