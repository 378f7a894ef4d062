// Tandem — Apache-2.0

import GPUModel
import GPUModelValidation
import LanguageModel

// Prints docs/gpu-model.md: `swift run gpu-model-report > docs/gpu-model.md`. With `--choose`, how the parameters of
// sharing were chosen.
if CommandLine.arguments.dropFirst().first == "--choose" {
    for (parameters, error) in try Validation.choose().prefix(10) {
        print(
            "co-residency \(parameters.coResidency), latency occupancy \(parameters.latencyOccupancy), MPS "
                + "\(Table.number(parameters.mpsKernelSeconds * 1e6, 1)) us a kernel: mean error \(Table.points(error)) points"
        )
    }
} else {
    print(Table.wrapped(try GPUModelReport().text))
}
