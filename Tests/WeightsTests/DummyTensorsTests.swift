// Tandem — Apache-2.0

import Testing
import Weights

/// Tensors of made-up numbers.
@Suite struct DummyTensorsTests {
    private let shapes: [(name: String, shape: [Int])] = [
        ("embedding", [64, 101]), ("norm", [64]), ("odd", [7]), ("one", [1, 1, 1, 1]),
    ]

    @Test(arguments: [TensorType.f32, .f16, .bf16]) func numbersAreUniformAndSmall(type: TensorType) throws {
        let source = try DummyTensors(path: "config.json", shapes: shapes, type: type)
        #expect(source.path == "config.json")
        #expect(source.tensors.map(\.name) == shapes.map(\.name))
        #expect(source.tensors.map(\.shape) == shapes.map(\.shape))
        #expect(source.tensors.allSatisfy { $0.type == type })
        let embedding = try #require(source.tensor(named: "embedding"))
        let numbers = source.floats(of: embedding)
        #expect(numbers.count == 6464)
        // Half precision has no number between 0.001 and the next above it that it could round to.
        #expect(numbers.allSatisfy { $0.magnitude <= 0.001001 })
        // Each tenth of the range has its tenth of the numbers: 646 expected, 24 standard deviation.
        for tenth in 0..<10 {
            let range = (Float(tenth) - 5) * 0.0002..<(Float(tenth) - 4) * 0.0002
            #expect((520...780).contains(numbers.count { range.contains($0) }), "\(range)")
        }
        let pairs = zip(numbers, numbers.dropFirst())
        let correlation = pairs.reduce(Float(0)) { $0 + $1.0 * $1.1 } / numbers.reduce(0) { $0 + $1 * $1 }
        #expect(correlation.magnitude < 0.06)
        #expect(source.tensor(named: "other") == nil)
        #expect(source.refusal(ofTensorNamed: "other") == nil)
    }

    @Test func tensorsArePrefixesOfOneSequence() throws {
        let source = try DummyTensors(path: "config.json", shapes: shapes)
        #expect(source.tensors.allSatisfy { $0.type == .bf16 })
        let numbers = source.floats(of: source.tensors[0])
        for tensor in source.tensors {
            #expect(source.floats(of: tensor) == Array(numbers[..<tensor.elementCount]))
        }
        // The same in any other model, and of course in the next run.
        let other = try DummyTensors(path: "other.json", shapes: [("small", [3])])
        #expect(other.floats(of: other.tensors[0]) == Array(numbers[..<3]))
    }

    @Test func formatsRoundTheSameNumbers() throws {
        let exact = try DummyTensors(path: "config.json", shapes: shapes, type: .f32)
        let numbers = exact.floats(of: exact.tensors[0])
        for (type, error) in [(TensorType.f16, Float(0x1p-11)), (.bf16, 0x1p-8)] {
            let source = try DummyTensors(path: "config.json", shapes: shapes, type: type)
            let rounded = source.floats(of: source.tensors[0])
            // Half precision has a fixed step below 2^-14.
            #expect(zip(numbers, rounded).allSatisfy { ($0 - $1).magnitude <= max($0.magnitude * error, 0x1p-25) })
        }
    }

    @Test func whatCannotBeIsRefused() {
        let wrong: [([(name: String, shape: [Int])], TensorType, String)] = [
            ([("w", [0])], .bf16, "\"w\""), ([("w", [-1])], .bf16, "\"w\""), ([("w", [])], .bf16, "0 dimensions"),
            ([("w", [1, 1, 1, 1, 1])], .bf16, "5 dimensions"), ([("w", [1 << 31, 4])], .bf16, "elements"),
            ([("w", [.max, .max])], .bf16, "elements"), ([("w", [1]), ("w", [1])], .bf16, "twice"),
            ([("w", [32])], .q8_0, "Q8_0"),
        ]
        for (shapes, type, word) in wrong {
            let error = #expect(throws: WeightsError.self) {
                try DummyTensors(path: "config.json", shapes: shapes, type: type)
            }
            #expect(error?.path == "config.json")
            #expect(error?.reason.contains(word) == true, "\(String(describing: error))")
        }
    }
}
