// Tandem — Apache-2.0

internal import JSON

/// A part of a Vega-Lite specification, written as a literal.
struct VegaSpecification: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByFloatLiteral,
    ExpressibleByBooleanLiteral, ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral, ExpressibleByNilLiteral
{
    let json: JSONValue

    init(stringLiteral value: String) { json = .string(value) }
    init(integerLiteral value: Int64) { json = .integer(value) }
    init(floatLiteral value: Double) { json = .number(value) }
    init(booleanLiteral value: Bool) { json = .bool(value) }
    init(nilLiteral: ()) { json = .null }
    init(arrayLiteral elements: VegaSpecification...) { json = .array(elements.map(\.json)) }
    init(dictionaryLiteral elements: (String, VegaSpecification)...) { self.init(members: elements) }

    init(_ value: String) { json = .string(value) }
    init(_ value: Bool) { json = .bool(value) }
    init(_ value: Int) { json = .integer(Int64(value)) }
    /// Null if there is none, or it is not finite.
    init(_ value: Double?) { json = value.flatMap { $0.isFinite ? .number($0) : nil } ?? .null }
    init(_ values: [VegaSpecification]) { json = .array(values.map(\.json)) }
    init(_ values: [String]) { json = .array(values.map { .string($0) }) }

    /// An object; of two members with the same key the later counts.
    init(members: [(String, VegaSpecification)]) {
        var object = JSONObject()
        for (key, value) in members { object[key] = value.json }
        json = .object(object)
    }

    /// An object with the members of both; anything else gives `other`.
    func with(_ other: VegaSpecification) -> VegaSpecification {
        guard let own = json.object, let more = other.json.object else { return other }
        return VegaSpecification(
            members: (own.entries + more.entries).map { ($0.key, VegaSpecification(json: $0.value)) })
    }

    private init(json: JSONValue) { self.json = json }

    /// A field of the data in an encoding.
    static func field(_ name: String, _ type: String, _ more: VegaSpecification = [:]) -> VegaSpecification {
        (["field": VegaSpecification(name), "type": VegaSpecification(type)] as VegaSpecification).with(more)
    }
}
