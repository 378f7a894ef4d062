// Tandem — Apache-2.0

import LanguageModel

/// A small model of any shape.
func smallModel(
    hidden: Int = 64, intermediate: Int = 160, queryHeads: Int = 4, keyValueHeads: Int = 2, head: Int = 16,
    vocabulary: Int = 100, layers: Int = 2, fileLayout: RotaryDescription.FileLayout = .halfSplit,
    feature: (inout LayerDescription, Int) -> Void = { _, _ in }
) -> DecoderDescription {
    var model = DecoderDescription(
        architecture: "llama", name: "small", vocabularySize: vocabulary, hiddenSize: hidden,
        intermediateSize: intermediate, queryHeads: queryHeads, keyValueHeads: keyValueHeads, headDimension: head,
        contextLength: 256, normEpsilon: 1e-5, tiedHead: true,
        ropes: [RotaryDescription(base: 10000, dimensions: head, fileLayout: fileLayout)],
        layers: Array(repeating: LayerDescription(attentionScale: 1 / Float(head).squareRoot()), count: layers))
    for index in model.layers.indices { feature(&model.layers[index], index) }
    return model
}

func float(_ word: UInt16) -> Float { Float(bitPattern: UInt32(word) << 16) }
