// Tandem — Apache-2.0

/// Whether it can be shown what a GPU does. Nothing depends on it, so that nothing here is a problem.
extension Diagnosis {
    static func monitor(_ facts: MachineFacts) -> [Finding] {
        switch facts.monitor {
        case nil: []
        case .found(let text, let hasActivity): [Finding("gpu-monitor", hasActivity ? .ok : .note, text)]
        case .missing(let reason):
            [
                Finding(
                    "gpu-monitor", .note, "what the GPU does cannot be shown: \(reason)",
                    fix: "install the driver's libnvidia-ml, or name it with TANDEM_NVML; in containers ask for the "
                        + "capability utility (NVIDIA_DRIVER_CAPABILITIES=compute,utility)")
            ]
        case .silence:
            [
                Finding(
                    "gpu-monitor", .note, "what the GPU does cannot be shown: NVML does not answer",
                    fix: "does nvidia-smi answer? else look at dmesg for NVRM: Xid")
            ]
        }
    }
}
