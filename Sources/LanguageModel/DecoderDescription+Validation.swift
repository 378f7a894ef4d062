// Tandem — Apache-2.0

public import Weights

extension DecoderDescription {
    /// Checks that a source holds every tensor of this model with the exact shape.
    ///
    /// - Throws: ``LanguageModelError`` naming the first tensor that is missing or has another shape.
    public func validate(against source: any TensorSource) throws(LanguageModelError) {
        for role in roles {
            let name = tensorName(role)
            let expected = expectedShape(role)
            guard let tensor = source.tensor(named: name) else {
                throw LanguageModelError(
                    path: source.path, subject: "tensor \(name)",
                    reason: "missing; the model needs it with the shape \(expected)")
            }
            guard tensor.shape == expected else {
                throw LanguageModelError(
                    path: source.path, subject: "tensor \(name)",
                    reason: "expected the shape \(expected), found \(tensor.shape)")
            }
        }
    }
}
