// Tandem — Apache-2.0

internal import CUDADriver

/// What an engine needs to compute on a GPU.
extension Diagnosis {
    static func cuda(_ facts: MachineFacts) -> [Finding] {
        switch facts.cuda {
        case .notAsked: return []
        case .silence:
            return [
                Finding(
                    "cuda-driver", .problem, "the CUDA driver does not answer: engines would wait for it for ever",
                    fix:
                        "is an MPS daemon wedged (mps-daemon below)? else look at dmesg for NVRM: Xid, and reset the GPU"
                )
            ]
        case .facts(let cuda):
            guard case .success(let driver) = cuda.driver else { return [driverFailure(cuda)] }
            let name = cuda.isDouble ? "a double of the driver, which computes on the CPU" : "the driver"
            return [
                Finding("cuda-driver", .ok, "\(driver.path): \(name), CUDA \(driver.version)"), devices(cuda),
                compiler(cuda), matrices(cuda), attachment(cuda, facts),
            ]
        }
    }

    private static func driverFailure(_ cuda: CUDAFacts) -> Finding {
        guard case .failure(let error) = cuda.driver else { return Finding("cuda-driver", .ok, "") }
        return Finding("cuda-driver", .problem, text(error), fix: error.remedy.isEmpty ? nil : error.remedy)
    }

    private static func devices(_ cuda: CUDAFacts) -> Finding {
        guard !cuda.devices.isEmpty else {
            return Finding(
                "cuda-devices", .problem, "CUDA shows no GPU",
                fix: "look at CUDA_VISIBLE_DEVICES and nvidia-smi -L; start containers with --gpus all")
        }
        let list = cuda.devices.map {
            "cuda:\($0.index) \($0.name), compute capability \($0.computeCapability), \($0.multiprocessors) "
                + "multiprocessors, \(mebibytes(UInt64($0.memoryBytes))) MiB"
        }.joined(separator: "; ")
        let old = cuda.devices.filter { $0.computeCapability < .oldest }
        guard let first = old.first else { return Finding("cuda-devices", .ok, list) }
        let isUseless = old.count == cuda.devices.count
        return Finding(
            "cuda-devices", isUseless ? .problem : .note,
            "\(list): cuda:\(first.index) is older than \(ComputeCapability.oldest), which engines need",
            fix: isUseless ? "use --device cpu" : "name another one with --device")
    }

    private static func compiler(_ cuda: CUDAFacts) -> Finding {
        switch (cuda.compiler, cuda.precompiledFolder) {
        case (.success(let library), _):
            return Finding("cuda-compiler", .ok, "NVRTC \(library.version), \(library.path)")
        case (.failure(let error), let folder?):
            return Finding(
                "cuda-compiler", .note, "\(text(error)); compiled kernels are in \(folder)", fix: error.remedy)
        case (.failure(let error), nil):
            return Finding("cuda-compiler", .problem, text(error), fix: error.remedy)
        }
    }

    private static func matrices(_ cuda: CUDAFacts) -> Finding {
        switch cuda.matrices {
        case .success(let library):
            return Finding("cuda-matrices", .ok, "cuBLASLt \(library.version), \(library.path)")
        case .failure(let error):
            return Finding(
                "cuda-matrices", .note, "\(text(error)): matrix products are slower without it", fix: error.remedy)
        }
    }

    /// Whether CUDA programs of this environment go through MPS, and whether that is as the daemon says.
    private static func attachment(_ cuda: CUDAFacts, _ facts: MachineFacts) -> Finding {
        if cuda.devices.contains(where: \.usesMPS) {
            return Finding("cuda-mps", .ok, "CUDA programs of this environment go through MPS")
        }
        guard facts.daemon != nil else {
            return Finding(
                "cuda-mps", .ok,
                "CUDA programs of this environment do not go through MPS; tandem's engines get a "
                    + "daemon of their own")
        }
        return Finding(
            "cuda-mps", .note,
            "a daemon is there, and CUDA programs of this environment do not go through it",
            fix: "set CUDA_MPS_PIPE_DIRECTORY to the daemon's directory, and run as its user")
    }

    /// What failed, without the remedy, which is shown apart.
    private static func text(_ error: CUDAError) -> String {
        var error = error
        error.remedy = ""
        return error.description
    }
}
