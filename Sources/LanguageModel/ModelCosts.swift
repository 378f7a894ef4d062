// Tandem — Apache-2.0

public import Weights

/// What a model costs, derived from its description. Ablated parts cost nothing.
extension DecoderDescription {
    /// Numbers that were learned: all tensors' elements, a tied head counted once; an ablation does not change it.
    public var parameterCount: Int {
        roles.reduce(0) { $0 + elements($1) }
    }

    /// Multiplications and additions to process one token, two per weight of a matrix and, for attention, four per
    /// query element and visible key.
    ///
    /// - Parameters:
    ///   - head: whether the logits are computed too.
    ///   - context: how many keys the token sees; 0 leaves attention out.
    public func flopsPerToken(head: Bool, context: Int = 0) -> Int {
        var matrices = 0
        var attention = 0
        for (index, layer) in layers.enumerated() {
            for role in computedRoles(ofLayer: index) where expectedShape(role).count == 2 {
                matrices += elements(role)
            }
            if computesAttention {
                attention += 4 * queryHeads * headDimension * min(context, layer.window ?? context)
            }
        }
        if head { matrices += hiddenSize * vocabularySize }
        return 2 * matrices + attention
    }

    /// Bytes of weights that a step reads at least once, as the file stores them: the computed parts of all layers, the
    /// last norm and the head. Rows of the embedding that are looked up are not counted.
    ///
    /// - Parameter source: the model's tensors; those it lacks count as nothing.
    public func weightBytesPerStep(in source: any TensorSource) -> Int {
        var roles: [TensorRole] = [.outputNorm, tiedHead ? .tokenEmbedding : .output]
        for index in layers.indices { roles += computedRoles(ofLayer: index) }
        return roles.reduce(0) { $0 + (source.tensor(named: tensorName($1))?.byteCount ?? 0) }
    }

    /// Bytes of keys and values that one token takes in all layers, for as long as no window has passed it. An ablation
    /// does not change it: the caches are there.
    ///
    /// - Parameter elementBytes: bytes of one stored number, 2 for f16.
    public func kvBytesPerToken(elementBytes: Int) -> Int {
        layers.count * 2 * keyValueHeads * headDimension * elementBytes
    }

    /// Bytes of keys and values that attention reads for one token.
    ///
    /// - Parameters:
    ///   - context: how many keys the token sees; a layer with a window reads no more than that.
    ///   - elementBytes: bytes of one stored number, 2 for f16.
    public func kvBytesRead(context: Int, elementBytes: Int) -> Int {
        guard computesAttention else { return 0 }
        let keys = layers.reduce(0) { $0 + min(context, $1.window ?? context) }
        return keys * 2 * keyValueHeads * headDimension * elementBytes
    }

    private func computedRoles(ofLayer index: Int) -> [TensorRole] {
        (computesAttention ? attentionRoles(ofLayer: index) : [])
            + (computesFeedForward ? feedForwardRoles(ofLayer: index) : [])
    }

    private func elements(_ role: TensorRole) -> Int {
        expectedShape(role).reduce(1, *)
    }
}
