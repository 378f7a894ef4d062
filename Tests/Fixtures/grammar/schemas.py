"""The schemas of the tests: those that are supported, and those that must be refused."""


def obj(props, required=None, **more):
    schema = {"type": "object", "properties": props}
    if required is not None:
        schema["required"] = required
    schema.update(more)
    return schema


S, I, N, B = {"type": "string"}, {"type": "integer"}, {"type": "number"}, {"type": "boolean"}

SCHEMAS = []


def add(*schemas):
    SCHEMAS.extend(schemas)


# Types, alone and in lists.
add(True, {}, S, I, N, B, {"type": "null"}, {"type": "array"}, {"type": "object"})
add({"type": ["string", "null"]}, {"type": ["integer", "boolean"]}, {"type": ["number", "string", "null"]},
    {"type": ["array", "object"]}, {"type": ["integer", "number"]})
# Annotations are ignored.
add({"title": "t", "description": "d", "default": 1, "examples": [2], "$comment": "c", "type": "integer"},
    {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "https://example.com/s", "type": "boolean"},
    {"type": "string", "readOnly": True, "writeOnly": False, "deprecated": True},
    {"type": "string", "contentEncoding": "base64", "contentMediaType": "text/plain"})
# Literals.
add({"enum": ["red", "green", "blue"]}, {"enum": [1, "1", True, None, 1.5]}, {"const": "x"}, {"const": 5},
    {"const": None}, {"const": False}, {"const": {"a": [1, {"b": None}]}}, {"const": []}, {"const": {}},
    {"enum": [[1, 2], {"k": "v"}, []]}, {"type": "string", "enum": ["a", 1, "b"]},
    {"type": "integer", "enum": [1, 2.5, 3]}, {"enum": ["é", "\"q\"", "back\\slash", "tab\t", "\u0001"]},
    {"enum": ["a", "ab", "abc", "abcd"], "minLength": 2, "maxLength": 3}, {"enum": [1, 5, 10, 15], "minimum": 5},
    {"enum": [3, 4, 6, 9], "multipleOf": 3}, {"enum": ["cat", "car", "dog"], "pattern": "^ca"},
    {"const": "z", "enum": ["x", "z"]}, {"enum": [-1, -10, 100000000000]}, {"const": "日本語 😀"})
# Strings.
for low, high in [(0, 0), (1, None), (3, None), (None, 1), (None, 4), (2, 5), (4, 4), (1, 300)]:
    schema = {"type": "string"}
    if low is not None:
        schema["minLength"] = low
    if high is not None:
        schema["maxLength"] = high
    add(schema)
for pattern in ["^[a-z]+$", "^[A-Z]{2}[0-9]{3,5}$", "abc", "^x", "y$", "^(red|blue)$", "^a|b$", "^$", "[0-9]",
                "^[^a-c]*$", "^\\d{3}-\\d{4}$", "^\\w+\\s\\w+$", "^[äöü]+$", "^(?:a|b)*c?$", "^.{2,4}$", "^\\S+$",
                "^[\\u00e0-\\u00ff]{1,3}$", "^\"q\"$", "^\\\\$", "^(ab){2}$", "^a.c$", "^[\\]\\-x]+$", "^(a$)|(^b)$"]:
    if pattern != "^(a$)|(^b)$":
        add({"type": "string", "pattern": pattern})
add({"type": "string", "pattern": "^[a-z]*$", "minLength": 2}, {"type": "string", "pattern": "^[a-z]*$", "maxLength": 3},
    {"type": "string", "pattern": "^(ab)*$", "minLength": 3, "maxLength": 7},
    {"type": "string", "pattern": "e", "maxLength": 4}, {"pattern": "^a+$"}, {"minLength": 2}, {"maxLength": 2},
    {"allOf": [{"pattern": "^a"}, {"pattern": "b$"}], "type": "string", "maxLength": 5},
    {"type": "string", "pattern": "^p-[0-9]+$", "minLength": 5})
for name in ["date", "time", "date-time", "duration", "uuid", "ipv4", "ipv6", "hostname", "email", "uri", "json-pointer"]:
    add({"type": "string", "format": name})
add({"type": "string", "format": "date", "pattern": "^20"}, {"type": "string", "format": "hostname", "maxLength": 8},
    {"format": "ipv4", "type": ["string", "null"]})
# Integers.
for bounds in [{"minimum": 0}, {"maximum": 0}, {"minimum": 1, "maximum": 10}, {"minimum": -5, "maximum": 5},
               {"minimum": -120, "maximum": -7}, {"exclusiveMinimum": 0}, {"exclusiveMaximum": 100},
               {"exclusiveMinimum": -1, "exclusiveMaximum": 1}, {"minimum": 18, "maximum": 120},
               {"minimum": 999, "maximum": 1001}, {"minimum": 0.5, "maximum": 3.5}, {"minimum": -3.5, "maximum": -0.5},
               {"minimum": 1, "exclusiveMinimum": 1, "maximum": 3}, {"minimum": 5, "maximum": 5},
               {"minimum": 1000000000000}, {"maximum": -4000000000}, {"minimum": 0, "maximum": 255},
               {"minimum": 1900, "maximum": 2099}, {"minimum": -2147483648, "maximum": 2147483647},
               {"minimum": -9007199254740993, "maximum": 9007199254740993}, {"minimum": 7, "maximum": 10000}]:
    add({"type": "integer", **bounds})
add({"type": "integer", "multipleOf": 5}, {"type": "integer", "multipleOf": 7, "minimum": 10, "maximum": 100},
    {"type": "number", "multipleOf": 2}, {"type": "integer", "multipleOf": 1}, {"multipleOf": 10, "minimum": 0, "type": "integer"},
    {"allOf": [{"multipleOf": 2}, {"multipleOf": 3}], "type": "integer", "minimum": -20, "maximum": 20})
# Numbers.
for bounds in [{"minimum": 0}, {"maximum": 1}, {"minimum": 0, "maximum": 1}, {"minimum": -1.5, "maximum": 2.25},
               {"exclusiveMinimum": 0}, {"exclusiveMinimum": 0, "exclusiveMaximum": 1},
               {"minimum": 0.1, "maximum": 0.3}, {"minimum": -0.5, "maximum": -0.25}, {"minimum": 9.99, "maximum": 10.01},
               {"exclusiveMaximum": -3}, {"minimum": 2.5, "maximum": 2.5}, {"minimum": 100.5},
               {"exclusiveMinimum": 1.05, "exclusiveMaximum": 1.1}, {"minimum": -273.15, "maximum": 1000}]:
    add({"type": "number", **bounds})
add({"minimum": 3}, {"maximum": 10.5, "type": ["number", "null"]})
# Arrays.
add({"type": "array", "items": I}, {"type": "array", "items": S, "minItems": 1}, {"type": "array", "items": B, "maxItems": 2},
    {"type": "array", "items": N, "minItems": 2, "maxItems": 4}, {"type": "array", "maxItems": 0},
    {"type": "array", "minItems": 1}, {"type": "array", "prefixItems": [S, I]},
    {"type": "array", "prefixItems": [S, I], "items": False}, {"type": "array", "prefixItems": [S, I], "items": B},
    {"type": "array", "prefixItems": [S, I], "minItems": 2, "items": False},
    {"type": "array", "prefixItems": [I, I, I], "maxItems": 2}, {"type": "array", "items": [S, I]},
    {"type": "array", "items": [S, I], "additionalItems": False}, {"type": "array", "items": [S], "additionalItems": I},
    {"type": "array", "items": {"type": "array", "items": I}}, {"type": "array", "items": False},
    {"items": I}, {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 3, "maxItems": 3},
    {"type": "array", "items": I, "uniqueItems": False}, {"type": "array", "items": I, "uniqueItems": True, "maxItems": 1},
    {"type": "array", "prefixItems": [{"const": "add"}, N, N], "minItems": 3, "items": False},
    {"type": "array", "items": obj({"x": I}, ["x"]), "maxItems": 3}, {"type": "array", "prefixItems": [True, False]},
    {"type": "array", "items": {"type": ["string", "null"]}, "minItems": 1, "maxItems": 5})
# Objects.
add(obj({"a": I}), obj({"a": I}, ["a"]), obj({"a": I, "b": S, "c": B}, ["b"]), obj({"a": I, "b": S, "c": B}, ["a", "c"]),
    obj({"a": I, "b": S}, [], additionalProperties=False), obj({"a": I}, ["a"], additionalProperties=True),
    obj({"a": I}, additionalProperties=S), obj({"a": I}, ["a"], additionalProperties=I),
    {"type": "object", "additionalProperties": I}, {"type": "object", "additionalProperties": False},
    {"type": "object", "additionalProperties": {"type": "array", "items": N}},
    {"type": "object", "required": ["x"]}, {"type": "object", "required": ["x", "y"], "additionalProperties": I},
    {"properties": {"a": I}}, {"properties": {"a": I}, "required": ["a"]}, {"required": ["k"]},
    obj({"a": True, "b": False}), obj({}, []), obj({"a/b": I, "c~d": S, "é": B, "q\"": I, "": N}, [""]),
    obj({"type": S, "properties": I, "enum": B}, ["type"]), obj({"nested": obj({"deep": obj({"x": I}, ["x"])}, ["deep"])}, ["nested"]),
    obj({"a": I, "ab": S, "abc": B}, ["ab"], additionalProperties=N), obj({"n": {"type": ["null", "integer"]}}, ["n"]),
    obj({"name": S, "age": {"type": "integer", "minimum": 0, "maximum": 150}, "tags": {"type": "array", "items": S}},
        ["name", "age"], additionalProperties=False))
add(obj({"a": I, "b": I, "c": I}, minProperties=1), obj({"a": I, "b": I, "c": I}, minProperties=2),
    obj({"a": I, "b": I, "c": I}, maxProperties=1), obj({"a": I, "b": I, "c": I}, ["b"], minProperties=2, maxProperties=2),
    {"type": "object", "minProperties": 1}, {"type": "object", "maxProperties": 2, "additionalProperties": I},
    {"type": "object", "maxProperties": 0}, obj({"a": I}, additionalProperties=B, minProperties=2),
    obj({"a": I}, ["a"], additionalProperties=B, maxProperties=2), {"minProperties": 1, "type": "object", "additionalProperties": S})
add({"type": "object", "patternProperties": {"^x-": S}, "additionalProperties": False},
    {"type": "object", "patternProperties": {"^x-": S}, "additionalProperties": I},
    {"type": "object", "patternProperties": {"^[a-z]+$": I, "^k": {"minimum": 10}}, "additionalProperties": False},
    obj({"id": I}, ["id"], patternProperties={"^i": {"maximum": 5}}, additionalProperties=False),
    obj({"id": I}, patternProperties={"_at$": {"type": "string", "format": "date"}}, additionalProperties=False),
    {"type": "object", "patternProperties": {"^[0-9]+$": B}})
# Several schemas.
add({"anyOf": [S, I]}, {"anyOf": [{"type": "null"}, obj({"a": I}, ["a"])]}, {"anyOf": [{"const": 1}, {"const": "one"}]},
    {"anyOf": [{"minimum": 10}, {"maximum": -10}], "type": "integer"},
    {"type": "object", "properties": {"k": I}, "anyOf": [{"required": ["k"]}, {"required": ["l"], "properties": {"l": S}}]},
    {"anyOf": [obj({"a": I}, ["a"], additionalProperties=False), obj({"b": S}, ["b"], additionalProperties=False)]},
    {"anyOf": [{"type": "array", "items": I}, {"type": "array", "items": S}]}, {"anyOf": [False, B]}, {"anyOf": [True, B]},
    {"oneOf": [S, I]}, {"oneOf": [{"type": "null"}, N]},
    {"oneOf": [obj({"kind": {"const": "a"}, "x": I}, ["kind", "x"]), obj({"kind": {"const": "b"}, "y": S}, ["kind", "y"])]},
    {"oneOf": [{"type": "integer", "maximum": 0}, {"type": "integer", "exclusiveMinimum": 0}]},
    {"oneOf": [{"enum": ["a", "b"]}, {"enum": ["c"]}, {"type": "integer"}]},
    {"oneOf": [{"type": "string", "pattern": "^a"}, {"type": "string", "pattern": "^b"}]},
    {"oneOf": [{"type": "string", "maxLength": 2}, {"type": "string", "minLength": 3}]},
    {"oneOf": [{"type": "array", "maxItems": 1, "items": I}, {"type": "array", "minItems": 2, "items": I}]},
    {"oneOf": [obj({"a": I}, ["a"], additionalProperties=False), obj({"b": S}, ["b"], additionalProperties=False)]},
    {"oneOf": [obj({"k": {"enum": [1, 2]}}, ["k"]), obj({"k": {"enum": [3]}}, ["k"]), {"type": "boolean"}],
     "discriminator": {"propertyName": "k"}},
    {"allOf": [{"type": "integer"}, {"minimum": 3}, {"maximum": 8}]},
    {"allOf": [obj({"a": I}, ["a"]), obj({"b": S}, ["b"])]},
    {"allOf": [obj({"a": I}, ["a"]), obj({"a": {"minimum": 5}})]}, {"allOf": [{"anyOf": [S, I]}, {"anyOf": [I, B]}]},
    {"allOf": [{"type": ["string", "integer"]}, {"type": ["integer", "null"]}]},
    {"allOf": [{"enum": [1, 2, 3]}, {"enum": [2, 3, 4]}]}, {"allOf": [{"items": I}, {"minItems": 1}], "type": "array"},
    {"allOf": [{"prefixItems": [I]}, {"items": {"minimum": 0, "type": "integer"}}], "type": "array"},
    {"allOf": [{"type": "object", "additionalProperties": I}, obj({"a": {"minimum": 0}}, ["a"])]},
    {"allOf": [{"minLength": 2}, {"maxLength": 3}], "type": "string"}, {"type": "integer", "allOf": [True]})
# References and recursion.
add({"$ref": "#/$defs/p", "$defs": {"p": {"type": "integer", "minimum": 0}}},
    {"definitions": {"n": S}, "type": "object", "properties": {"x": {"$ref": "#/definitions/n"}}, "required": ["x"]},
    {"$ref": "#/$defs/a~1b/items", "$defs": {"a/b": {"items": B}}}, {"$ref": "#/$defs/t%20t", "$defs": {"t t": I}},
    {"$ref": "#/$defs/p", "$defs": {"p": I}, "minimum": 5},
    obj({"v": I, "next": {"anyOf": [{"type": "null"}, {"$ref": "#"}]}}, ["v", "next"], additionalProperties=False),
    obj({"value": I, "children": {"type": "array", "items": {"$ref": "#"}, "maxItems": 2}}, ["value"], additionalProperties=False),
    {"$ref": "#/$defs/list", "$defs": {"list": {"type": "array", "items": {"anyOf": [I, {"$ref": "#/$defs/list"}]}, "maxItems": 2}}},
    {"anyOf": [I, {"type": "array", "items": {"$ref": "#"}, "maxItems": 2}]},
    {"$defs": {"leaf": obj({"k": {"const": "leaf"}, "n": I}, ["k", "n"]),
               "node": obj({"k": {"const": "node"}, "l": {"$ref": "#/$defs/tree"}, "r": {"$ref": "#/$defs/tree"}}, ["k", "l", "r"]),
               "tree": {"oneOf": [{"$ref": "#/$defs/leaf"}, {"$ref": "#/$defs/node"}]}}, "$ref": "#/$defs/tree"},
    {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/c"}, "c": I}, "$ref": "#/$defs/a"},
    obj({"a": {"$ref": "#/properties/b"}, "b": {"type": "string", "maxLength": 3}}, ["a"]))
# What users send.
add(obj({"name": S, "email": {"type": "string", "format": "email"}, "born": {"type": "string", "format": "date"}}, ["name", "email"],
        additionalProperties=False),
    obj({"location": S, "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]}}, ["location"]),
    obj({"steps": {"type": "array", "items": obj({"explanation": S, "output": S}, ["explanation", "output"], additionalProperties=False)},
         "final_answer": S}, ["steps", "final_answer"], additionalProperties=False),
    {"$defs": {"Color": {"enum": ["r", "g"], "title": "Color", "type": "string"},
               "Item": {"properties": {"price": {"exclusiveMinimum": 0, "title": "Price", "type": "number"},
                                       "color": {"anyOf": [{"$ref": "#/$defs/Color"}, {"type": "null"}], "default": None}},
                        "required": ["price"], "title": "Item", "type": "object"}},
     "properties": {"items": {"items": {"$ref": "#/$defs/Item"}, "title": "Items", "type": "array", "minItems": 1},
                    "note": {"anyOf": [{"type": "string", "maxLength": 20}, {"type": "null"}], "default": None}},
     "required": ["items"], "title": "Order", "type": "object"},
    obj({"rating": {"type": "integer", "minimum": 1, "maximum": 5}, "score": {"type": "number", "minimum": 0, "maximum": 1},
         "ok": B, "why": {"type": "string", "minLength": 1, "maxLength": 200}}, ["rating", "score", "ok"], additionalProperties=False),
    {"type": "array", "minItems": 1, "maxItems": 3, "items": {"anyOf": [
        obj({"tool": {"const": "search"}, "query": S}, ["tool", "query"], additionalProperties=False),
        obj({"tool": {"const": "add"}, "a": I, "b": I}, ["tool", "a", "b"], additionalProperties=False)]}},
    obj({"matrix": {"type": "array", "items": {"type": "array", "items": N, "minItems": 2, "maxItems": 2}, "minItems": 2, "maxItems": 2}},
        ["matrix"]),
    obj({"zip": {"type": "string", "pattern": "^[0-9]{5}(-[0-9]{4})?$"}, "phone": {"type": "string", "pattern": "^\\+?[0-9 ]{7,15}$"}},
        ["zip"], additionalProperties=False))

# Instances by hand where a generator would write what the grammar does not: formats are described narrowly.
BY_HAND = {
    "date": ["2024-02-29", "1999-12-31", "0001-01-01"],
    "time": ["23:59:59Z", "00:00:00.123+05:30"],
    "date-time": ["2024-02-29T12:00:00Z", "1985-04-12T23:20:50.52Z"],
    "duration": ["P1Y2M3D", "PT1H", "P4W", "P1DT2H30M"],
    "uuid": ["123e4567-e89b-12d3-a456-426614174000"],
    "ipv4": ["0.0.0.0", "192.168.1.255", "10.1.99.9"],
    "ipv6": ["::", "::1", "1:2:3:4:5:6:7:8", "fe80::1:2", "1::8", "1:2:3:4:5:6:7::"],
    "hostname": ["example.com", "a.b.c", "my-host.example.org"],
    "email": ["a@b.c", "first.last+tag@mail.example.com"],
    "uri": ["http://example.com/a/b?x=1#f", "urn:isbn:0451450523", "mailto:a@b.c", "https://h:80/"],
    "json-pointer": ["", "/a/b", "/a~1b/~0"],
}

# Schemas that must be refused: kind and place of the error.
REFUSED = [
    ({"not": S}, "unsupported", "#/not"), ({"if": S, "then": I}, "unsupported", "#/if"),
    ({"type": "array", "uniqueItems": True}, "unsupported", "#/uniqueItems"),
    ({"contains": I}, "unsupported", "#/contains"), ({"dependentRequired": {}}, "unsupported", "#/dependentRequired"),
    ({"dependentSchemas": {}}, "unsupported", "#/dependentSchemas"), ({"propertyNames": {}}, "unsupported", "#/propertyNames"),
    ({"unevaluatedProperties": False}, "unsupported", "#/unevaluatedProperties"),
    ({"unevaluatedItems": False}, "unsupported", "#/unevaluatedItems"), ({"$anchor": "a"}, "unsupported", "#/$anchor"),
    ({"$dynamicRef": "#a"}, "unsupported", "#/$dynamicRef"), ({"$ref": "other.json"}, "unsupported", "#/$ref"),
    ({"$ref": "#foo"}, "unsupported", "#/$ref"), ({"frobnicate": 1}, "unsupported", "#/frobnicate"),
    ({"type": "string", "format": "colour"}, "unsupported", "#/format"), ({"multipleOf": 0.01}, "unsupported", "#/multipleOf"),
    ({"multipleOf": 5000}, "unsupported", "#/multipleOf"), (obj({"a": {"not": {}}}), "unsupported", "#/properties/a/not"),
    (obj({"a/b": {"x": 1}}), "unsupported", "#/properties/a~1b/x"), ({"items": {"anyOf": [I, {"if": I}]}}, "unsupported", "#/items/anyOf/1/if"),
    ({"type": "string", "pattern": "(?=a)"}, "unsupported", "#/pattern"), ({"type": "string", "pattern": "\\bword"}, "unsupported", "#/pattern"),
    ({"type": "string", "pattern": "(a)\\1"}, "unsupported", "#/pattern"), ({"pattern": "["}, "malformed", "#/pattern"),
    ({"oneOf": [S, {"type": "string", "minLength": 2}]}, "unsupported", "#/oneOf"),
    ({"oneOf": [obj({"a": I}, ["a"]), obj({"b": S}, ["b"])]}, "unsupported", "#/oneOf"),
    ({"oneOf": [I, N]}, "unsupported", "#/oneOf"), ({"type": "object", "minProperties": 2}, "unsupported", "#/minProperties"),
    ({"type": "number", "minimum": 0.1234567890123456}, "unsupported", "#/minimum"),
    ({"type": "integer", "minimum": 1e25}, "unsupported", "#/minimum"), ({"properties": {"a": {"$id": "x"}}}, "unsupported", "#/properties/a/$id"),
    ({"type": "text"}, "malformed", "#/type"), ({"type": []}, "malformed", "#/type"), ({"properties": []}, "malformed", "#/properties"),
    ({"required": "a"}, "malformed", "#/required"), ({"minLength": -1}, "malformed", "#/minLength"), ({"minLength": 1.5}, "malformed", "#/minLength"),
    ({"enum": "a"}, "malformed", "#/enum"), ({"anyOf": []}, "malformed", "#/anyOf"), ({"anyOf": {}}, "malformed", "#/anyOf"),
    ({"items": 5}, "malformed", "#/items"), ({"$ref": "#/$defs/x"}, "malformed", "#/$ref"), ({"minimum": "1"}, "malformed", "#/minimum"),
    ({"exclusiveMinimum": True, "minimum": 1}, "malformed", "#/exclusiveMinimum"), ({"$ref": 1}, "malformed", "#/$ref"),
    ({"$ref": "#"}, "malformed", "#"), ({"anyOf": [{"$ref": "#"}]}, "malformed", "#"),
    ({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, "malformed", "#/$defs/a"),
    (False, "empty", "#"), ({"enum": []}, "empty", "#"), ({"type": "string", "enum": [1]}, "empty", "#"),
    ({"type": "string", "minLength": 3, "maxLength": 2}, "empty", "#"), ({"type": "integer", "minimum": 2, "maximum": 1}, "empty", "#"),
    ({"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 2}, "empty", "#"),
    ({"type": "array", "items": False, "minItems": 1}, "empty", "#"), ({"allOf": [S, I]}, "empty", "#"),
    (obj({"a": False}, ["a"]), "empty", "#"), (obj({"next": {"$ref": "#"}}, ["next"]), "empty", "#"),
    ({"type": "array", "items": {"$ref": "#"}, "minItems": 1}, "empty", "#"), ({"type": "object", "required": ["a"], "maxProperties": 0}, "empty", "#"),
    ({"allOf": [{"pattern": "^a"}, {"pattern": "^b"}], "type": "string"}, "empty", "#"),
    ({"type": "object", "required": ["x"], "additionalProperties": False}, "empty", "#"),
    ({"type": "string", "maxLength": 1000000}, "tooComplex", "#/maxLength"),
    ({"type": "string", "pattern": "^(a|b)*a(a|b){25}$"}, "tooComplex", "#/pattern"),
    ({"allOf": [{"anyOf": [{"const": i} for i in range(40)]}, {"anyOf": [{"const": i} for i in range(40)]}]}, "tooComplex", "#/allOf/1"),
    ({"type": "object", "patternProperties": {f"^{c}": {} for c in "abcde"}}, "tooComplex", "#/patternProperties"),
]
