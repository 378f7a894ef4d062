// Tandem — Apache-2.0

import Foundation
import TestSupport
import Testing
import Weights

/// Directories of models.
@Suite struct SafetensorsModelTests {
    private func withDirectory(_ files: [String: [UInt8]], _ body: (String) throws -> Void) throws {
        let directory = FileManager.default.temporaryDirectory.appendingPathComponent("weights-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        for (name, bytes) in files { try Data(bytes).write(to: directory.appendingPathComponent(name)) }
        try body(directory.path)
    }

    private func file(_ tensors: [(String, [Float])]) -> [UInt8] {
        var builder = SafetensorsBuilder()
        for (name, values) in tensors { builder.addTensor(name, shape: [values.count], values: values) }
        return builder.build()
    }

    private func index(_ map: String) -> [UInt8] { Array("{\"metadata\":{},\"weight_map\":\(map)}".utf8) }

    @Test(arguments: [
        ("qwen2-tied", 26, 320), ("qwen2-untied", 27, 320), ("llama-tied", 20, 320), ("llama3-rope-untied", 21, 320),
        ("gemma3-text", 80, 320), ("qwen3-tied", 24, 320), ("qwen3-untied", 25, 320),
    ]) func tinyCheckpointsAreRead(name: String, count: Int, vocabulary: Int) throws {
        let directory = ModelFixture.fixturePath("tiny/\(name)")
        let model = try SafetensorsModel(directory: directory)
        #expect(model.path == directory)
        #expect(model.tensors.count == count)
        #expect(model.tensors.allSatisfy { $0.type == .bf16 })
        let embedding = try #require(model.tensor(named: "model.embed_tokens.weight"))
        #expect(embedding.shape.last == vocabulary)
        for tensor in model.tensors {
            let numbers = model.floats(of: tensor)
            #expect(numbers.count == tensor.elementCount)
            #expect(numbers.allSatisfy { $0.magnitude < 10 }, "\(tensor.name)")
            #expect(Set(numbers).count > 1, "\(tensor.name)")
        }
    }

    @Test func shardsAreReadAsTheIndexSays() throws {
        let files = [
            "model.safetensors.index.json": index(
                "{\"a\":\"two.safetensors\",\"b\":\"one.safetensors\",\"c\":\"two.safetensors\"}"),
            "one.safetensors": file([("b", [2, 3]), ("c", [7])]),
            "two.safetensors": file([("c", [4]), ("a", [1]), ("unlisted", [9])]),
        ]
        try withDirectory(files) { directory in
            let model = try SafetensorsModel(directory: directory)
            #expect(model.tensors.map(\.name) == ["c", "a", "b"])
            #expect(model.tensors.map { model.floats(of: $0) } == [[4], [1], [2, 3]])
            #expect(model.tensor(named: "b").map { model.floats(of: $0) } == [2, 3])
            #expect(model.tensor(named: "unlisted") == nil)
        }
    }

    @Test func oneFileGoesBeforeAnIndex() throws {
        let files = [
            "model.safetensors": file([("a", [1])]), "model.safetensors.index.json": index("{\"b\":\"x.safetensors\"}"),
        ]
        try withDirectory(files) { directory in
            let model = try SafetensorsModel(directory: directory)
            #expect(model.tensors.map(\.name) == ["a"])
        }
    }

    @Test func refusalsComeWithTheShard() throws {
        var builder = SafetensorsBuilder()
        builder.addTensor("ids", dtype: "I64", shape: "[1]", bytes: [UInt8](repeating: 0, count: 8))
        let files = [
            "model.safetensors.index.json": index("{\"ids\":\"one.safetensors\"}"), "one.safetensors": builder.build(),
        ]
        try withDirectory(files) { directory in
            let model = try SafetensorsModel(directory: directory)
            #expect(model.tensor(named: "ids") == nil)
            #expect(model.refusal(ofTensorNamed: "ids")?.path == directory + "/one.safetensors")
            #expect(model.refusal(ofTensorNamed: "other") == nil)
        }
    }

    private func expectRefusal(
        _ files: [String: [UInt8]], of name: String, _ words: String..., location: SourceLocation = #_sourceLocation
    ) throws {
        try withDirectory(files) { directory in
            let error = #expect(throws: WeightsError.self, sourceLocation: location) {
                try SafetensorsModel(directory: directory)
            }
            guard let error else { return }
            #expect(error.path == directory + name, sourceLocation: location)
            for word in words { #expect(error.reason.contains(word), "\(error)", sourceLocation: location) }
        }
    }

    @Test func directoriesThatHoldNoModel() throws {
        try expectRefusal([:], of: "", "model.safetensors", "model.safetensors.index.json")
        try expectRefusal(["model.safetensors": [1, 2, 3]], of: "/model.safetensors", "3 bytes")
        #expect(throws: WeightsError.self) { try SafetensorsModel(directory: "/nonexistent") }
    }

    @Test func indicesThatCannotBe() throws {
        let name = "model.safetensors.index.json"
        try expectRefusal([name: Array("{".utf8)], of: "/\(name)", "key")
        try expectRefusal([name: Array("{}".utf8)], of: "/\(name)", "weight_map")
        try expectRefusal([name: Array("[]".utf8)], of: "/\(name)", "weight_map")
        try expectRefusal([name: index("{}")], of: "/\(name)", "0 files")
        try expectRefusal([name: index("{\"a\":1}")], of: "/\(name)", "\"a\"", "integer")
        try expectRefusal([name: index("{\"a\":\"one.safetensors\"}")], of: "/one.safetensors", "No such file")
        try expectRefusal(
            [name: index("{\"a\":\"one.safetensors\"}"), "one.safetensors": file([("b", [1])])], of: "/one.safetensors",
            "no tensor \"a\"")
        let escapes = [
            "../model.safetensors", "/etc/x.safetensors", "x/y.safetensors", "..", "", ".", "..safetensors",
            "x\\u0000.safetensors", "/\\u0301.safetensors", "one.bin",
        ]
        for escape in escapes {
            try expectRefusal([name: index("{\"a\":\"\(escape)\"}")], of: "/\(name)", "\"a\"", "same directory")
        }
    }
}
