// Tandem — Apache-2.0

public import Weights

extension DecoderDescription {
    /// Checks that a source holds every tensor of this model with the exact shape, and no tensor of a layer that this
    /// description does not mention: what is left out is computed wrongly.
    ///
    /// - Throws: ``LanguageModelError`` naming the first tensor that is missing, has another shape or is not known.
    public func validate(against source: any TensorSource) throws(LanguageModelError) {
        var known: Set<String> = []
        for role in roles {
            let name = tensorName(role)
            let expected = expectedShape(role)
            known.insert(name)
            guard let tensor = source.tensor(named: name) else {
                if let refusal = source.refusal(ofTensorNamed: name) { throw LanguageModelError(refusal) }
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
        for tensor in source.tensors where !known.contains(tensor.name) && mayChangeTheOutput(tensor.name) {
            throw LanguageModelError(
                path: source.path, subject: "tensor \(tensor.name.prefix(128))",
                reason: "models of the architecture \(architecture) have no such tensor here; not supported")
        }
    }

    private func mayChangeTheOutput(_ name: String) -> Bool {
        let layer: String
        switch tensorNaming {
        case .gguf: layer = "blk."
        case .huggingFace(let prefix): layer = "\(prefix)layers."
        }
        if name == biasOfHead { return true }
        guard name.hasPrefix(layer) else { return false }
        let index = name.dropFirst(layer.count).prefix { $0.isASCII && $0.isNumber }
        // Layers beyond the last predict further tokens and are not needed. Old files also store what follows from the
        // base of the rotary embedding.
        guard let number = Int(index), number < layers.count else { return false }
        return !name.hasSuffix(".rotary_emb.inv_freq") && !name.hasSuffix(".attn_rot_embd.weight")
    }

    private var biasOfHead: String {
        let name = tensorName(.output)
        return name.hasSuffix(".weight") ? name.dropLast("weight".count) + "bias" : name
    }
}
