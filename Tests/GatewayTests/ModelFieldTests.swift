// Tandem — Apache-2.0

import NIOCore
import Testing

@testable import Gateway

@Suite struct ModelFieldTests {
    private func model(_ body: String) -> String? { ModelField.value(in: ByteBuffer(string: body)) }

    @Test(
        arguments: [
            (#"{"model":"a"}"#, "a"), (#" { "prompt" : "x" , "model" : "a" } "#, "a"),
            (#"{"prompt":"\"model\":\"no\"","n":1.5e3,"model":"a/b:c"}"#, "a/b:c"),
            (#"{"x":{"model":"no"},"y":[{"model":"no"}],"model":"yes"}"#, "yes"),
            (#"{"x":"model","model":"a"}"#, "a"), (#"{"stop":["model"],"model":"a"}"#, "a"),
            (#"{"m\u006fdel":"a"}"#, "a"), (#"{"model":"é\u00e9\"\\"}"#, "éé\"\\"), (#"{"model":""}"#, ""),
            // What comes behind is for the one who reads the whole.
            (#"{"model":"a", nonsense"#, "a"),
        ])
    func isFound(body: String, name: String) {
        #expect(model(body) == name)
    }

    @Test(arguments: [
        "", " ", "{", "{}", "[]", #"["model","a"]"#, #"{"model":null}"#, #"{"model":5}"#, #"{"model":["a"]}"#,
        #"{"models":"a"}"#, #"{"Model":"a"}"#, #"{"model""#, #"{"model":"#, #"{"model":"a"#, #"{"model":"\"#,
        #"{"model":"\x"}"#, #"{"x":"model"}"#, #"{"x":{"model":"a"}}"#, #"{}{"model":"a"}"#, "\"model\"", "}]",
    ])
    func isNotThere(body: String) {
        #expect(model(body) == nil)
    }

    @Test func everyBeginningOfABodyIsSafe() {
        let body = #"{"a\\":["{\"",{"b":[1]}],"model":"n\u00e9\n"}"#
        for count in 0..<body.utf8.count { _ = model(String(decoding: body.utf8.prefix(count), as: UTF8.self)) }
        #expect(model(body) == "né\n")
    }

    @Test(arguments: [
        (nil, nil), ("", nil), ("model=a", "a"), ("x=1&model=a%2Fb+c&model=d", "a/b c"), ("models=a", nil),
        ("model", nil), ("model=", ""),
    ])
    func queries(query: String?, name: String?) {
        #expect(ModelField.value(inQuery: query) == name)
    }
}
