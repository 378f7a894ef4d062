// Tandem — Apache-2.0

import Configuration
import GPUModel
import LanguageModel

/// GPUs that are simulated, and the models whose times they show, by name.
enum SimulatedGPU {
    /// The model whose times and bytes are simulated.
    static func model(
        named name: String, source: String = "--simulated-model"
    ) throws(ConfigurationError) -> DecoderDescription {
        guard let model = BuiltInModel.named(name) else {
            throw ConfigurationError(
                source: source,
                reason: "\"\(name.prefix(64))\" is not known; known: "
                    + BuiltInModel.all.map(\.name).joined(separator: ", "))
        }
        return model.description
    }

    static func device(
        named name: String, source: String = "--device"
    ) throws(ConfigurationError) -> DeviceParameters {
        do {
            return try DeviceParameters.named(name)
        } catch {
            throw ConfigurationError(
                source: source,
                reason: "simulated GPU \"\(name.prefix(64))\" is not known; known: "
                    + DeviceParameters.published.map { "simulated:\($0.name)" }.joined(separator: ", "))
        }
    }
}
