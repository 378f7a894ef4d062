// Tandem — Apache-2.0

/// What holds for the external engines of all models.
extension ServeConfiguration {
    /// Engines that are started by commands, over all models: their number, counted from the first engine of all.
    public var externalEngines: [Int] {
        var first = 0
        return models.flatMap { model -> [Int] in
            defer { first += model.engines }
            return model.external == nil ? [] : Array(first..<first + model.engines)
        }
    }

    /// The environment variable of a key.
    public static func variable(for key: String) -> String { SettingLayers.variable(for: key) }

    mutating func takeExternal(_ layers: SettingLayers) throws(ConfigurationError) {
        enginePortBase = try layers.integer("engine-port-base", in: 1...65535).map { UInt16($0) }
        if let timeout = try layers.duration("engine-start-timeout") {
            guard timeout >= .seconds(1) else {
                throw layers.given("engine-start-timeout")?.error("at least 1s")
                    ?? ConfigurationError(source: "engine-start-timeout", reason: "at least 1s")
            }
            engineStartTimeout = timeout
        }
        guard let last = externalEngines.last else {
            guard let given = layers.given("engine-port-base") else { return }
            throw given.error("it is for engines of --engine or --engine-command, and neither is given")
        }
        if let base = enginePortBase, let given = layers.given("engine-port-base") {
            let ports = Int(base)...Int(base) + last
            guard ports.upperBound <= 65535 else { throw given.error("there are no \(last + 1) ports from there on") }
            let engines = models.reduce(0) { $0 + $1.engines }
            let own = enginePorts.map { Int($0)..<Int($0) + engines } ?? 0..<0
            guard !ports.contains(Int(port)), !own.overlaps(Range(ports)) else {
                throw given.error(
                    "ports \(ports.lowerBound) to \(ports.upperBound) overlap with --port or --engine-ports")
            }
        }
        let taken = models.compactMap(\.external).filter(\.limitsMemory)
            .reduce(0) { $0 + $1.memoryFraction.totalTenThousandths }
        guard taken <= 10_000 else {
            throw ConfigurationError(
                source: "\(layers.file?.name ?? ""): models",
                reason: "the engines of all models together would take \(taken / 100) % of the GPU's memory: give each "
                    + "model an engine-memory-fraction")
        }
    }
}
