// Tandem — Apache-2.0

/// What a GPU does, in a line: what matters most first, since narrow terminals cut the end off.
struct GPULine {
    let line: StyledLine

    init(_ gpu: EnginesSnapshot.GPU, _ glyphs: TerminalGlyphs) {
        var line = StyledLine(gpu.isSimulated ? Shown.foreign(gpu.gpu) : "gpu \(Shown.foreign(gpu.gpu))", .faint)
        line.pad(to: max(9, line.width + 2))
        if let fault = gpu.fault {
            line.add("XID \(fault)", .bad)
            if !gpu.faultText.isEmpty { line.add(" \(Shown.foreign(gpu.faultText))", .bad) }
            line.add("  ")
        }
        func add(_ label: String, _ text: String?) {
            guard let text else { return }
            line.add("\(label) ", .faint)
            line.add(text, .strong)
            line.add("  ")
        }
        func share(_ name: String) -> String? { gpu.values[name].map { Shown.percent(min(max($0, 0), 100)) } }
        func number(_ name: String) -> String? { gpu.values[name].map { Shown.number(max(0, $0)) } }
        add(gpu.values["sm_active"] == nil ? "busy" : "SM", share("sm_active") ?? share("busy"))
        add("occupancy", share("sm_occupancy"))
        add("tensor", share("tensor_active"))
        add("DRAM", share("dram_active"))
        add("power", number("power_watts").map { $0 + " W" })
        if let used = gpu.values["memory_used_bytes"], let total = gpu.values["memory_total_bytes"] {
            add("memory", "\(Self.gibibytes(used)) of \(Self.gibibytes(total)) GiB")
        }
        add("steps/s", number("steps_per_second"))
        add("lag", share("lag"))
        if !gpu.clockLimits.isEmpty {
            line.add("clock held back: \(Shown.foreign(gpu.clockLimits.joined(separator: ", ")))  ", .warning)
        }
        if !gpu.note.isEmpty { line.add("\(Shown.foreign(gpu.note))  ", .faint) }
        if !gpu.isSimulated { line.add(Shown.foreign(gpu.name), .faint) }
        self.line = line
    }

    private static func gibibytes(_ bytes: Double) -> String { Shown.number(max(0, bytes) / 1_073_741_824) }
}
