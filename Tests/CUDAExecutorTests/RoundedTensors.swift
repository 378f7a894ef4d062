// Tandem — Apache-2.0

@testable import CUDAExecutor
@testable import Weights

/// Another source's tensors with the numbers that the GPU has of them: matrices rounded to bfloat16, vectors as they are.
///
/// `@unchecked Sendable`: it holds raw memory, which nothing changes after the initialiser and which is freed with it.
final class RoundedTensors: TensorSource, @unchecked Sendable {
    let path: String
    let tensors: [TensorDescription]
    private let source: any TensorSource
    private let places: [String: Int]
    private let matrices: [String: UnsafeMutableRawBufferPointer]

    init(_ source: any TensorSource) {
        self.source = source
        path = source.path
        var matrices: [String: UnsafeMutableRawBufferPointer] = [:]
        tensors = source.tensors.map { tensor in
            guard tensor.shape.count > 1 else { return tensor }
            let floats = source.floats(of: tensor)
            let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: floats.count * 2, alignment: 64)
            for (index, value) in floats.enumerated() {
                bytes.storeBytes(of: bfloat16(value), toByteOffset: index * 2, as: UInt16.self)
            }
            matrices[tensor.name] = bytes
            return TensorDescription(
                name: tensor.name, type: .bf16, shape: tensor.shape, offset: 0, byteCount: bytes.count)
        }
        self.matrices = matrices
        places = Dictionary(uniqueKeysWithValues: tensors.enumerated().map { ($1.name, $0) })
    }

    deinit { for bytes in matrices.values { bytes.deallocate() } }

    func tensor(named name: String) -> TensorDescription? { places[name].map { tensors[$0] } }

    func refusal(ofTensorNamed name: String) -> WeightsError? { source.refusal(ofTensorNamed: name) }

    func bytes(of tensor: TensorDescription) -> UnsafeRawBufferPointer {
        if let bytes = matrices[tensor.name] { return UnsafeRawBufferPointer(bytes) }
        return source.tensor(named: tensor.name).map(source.bytes(of:)) ?? UnsafeRawBufferPointer(start: nil, count: 0)
    }
}
