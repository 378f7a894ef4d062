// Tandem — Apache-2.0

import LanguageModel

/// Uses a model's description that was accepted.
enum ModelUse {
    static func use(_ model: DecoderDescription) {
        _ = model.parameterCount
        _ = model.flopsPerToken(head: true, context: model.contextLength)
        _ = model.kvBytesPerToken(elementBytes: 4)
        _ = model.kvBytesRead(context: model.contextLength, elementBytes: 4)
    }
}
