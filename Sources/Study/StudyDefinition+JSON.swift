// Tandem — Apache-2.0

internal import JSON
internal import LanguageModel

extension StudyDefinition {
    /// Reads the definition file of a figure.
    ///
    /// - Parameter name: for messages: the file's path.
    /// - Throws: ``StudyError`` naming the member at fault.
    public init(json bytes: some Collection<UInt8>, name: String) throws(StudyError) {
        let value: JSONValue
        do {
            value = try JSONParser.parse(bytes, limits: JSONLimits(maximumDepth: 8, maximumBytes: 1 << 20))
        } catch {
            throw StudyError(subject: name, reason: "is no definition of a figure: \(error)")
        }
        try self.init(value, name: name)
    }

    /// - Throws: ``StudyError`` naming the member at fault.
    init(_ value: JSONValue, name: String) throws(StudyError) {
        var fields = try StudyFields(value, path: name)
        let figure = try fields.string("figure")
        guard !figure.isEmpty, figure.utf8.count <= 32, figure.utf8.allSatisfy(Self.isPlain) else {
            throw fields.wrong("figure", "must be a name of up to 32 letters, digits, - and _")
        }
        let phase = try fields.choice("phase", Phase.self)
        var hosts: [Host] = []
        for (index, value) in try fields.array("hosts").enumerated() {
            hosts.append(try Host(StudyFields(value, path: "\(name), host \(index + 1)")))
        }
        var arms: [StudyArm] = []
        for (index, value) in try fields.array("arms").enumerated() {
            arms.append(try StudyArm(StudyFields(value, path: "\(name), arm \(index + 1)")))
        }
        self.init(
            figure: figure, title: try fields.string("title"), question: try fields.string("question"), phase: phase,
            models: try fields.strings("models"), contexts: try fields.integers("contexts", 1...(1 << 20)),
            batches: try fields.integers("batches", 1...(1 << 20)),
            outputTokens: try fields.optionalInteger("output_tokens", 1...(1 << 20)) ?? 0,
            loads: try fields.numbers("loads", 1e-6...1e9),
            arrivalSeconds: try fields.optionalNumber("arrival_seconds", 1...86400),
            latencyTarget: try fields.optionalNumber("latency_target", 1e-6...1e6),
            conventions: try fields.choices("conventions", Convention.self, default: [.total]),
            ablations: try fields.choices("ablations", Ablation.self, default: [.full]),
            caches: try fields.choices("caches", Cache.self, default: [.memory]), hosts: hosts, arms: arms,
            repetitions: try fields.optionalInteger("repetitions", 1...1000) ?? 3,
            device: try fields.string("device"))
        try fields.end()
        try validate(name)
    }

    /// - Throws: ``StudyError`` if there is nothing to measure, or something twice.
    func validate(_ name: String) throws(StudyError) {
        func empty(_ what: String) -> StudyError {
            StudyError(subject: name, reason: "\"\(what)\" is empty: there is nothing to measure")
        }
        if models.isEmpty { throw empty("models") }
        if contexts.isEmpty { throw empty("contexts") }
        try unique(models, "models", name)
        try unique(contexts.map(String.init), "contexts", name)
        guard phase != .resources else { return }
        if arms.isEmpty { throw empty("arms") }
        if conventions.isEmpty { throw empty("conventions") }
        if ablations.isEmpty { throw empty("ablations") }
        if caches.isEmpty { throw empty("caches") }
        if phase == .serving {
            if loads.isEmpty { throw empty("loads") }
            if outputTokens < 1 { throw StudyError(subject: name, reason: "\"output_tokens\" is missing") }
        } else if batches.isEmpty {
            throw empty("batches")
        }
        try unique(arms.map(\.id), "arms", name)
        try unique(hosts.map(\.name), "hosts", name)
        try unique(batches.map(String.init), "batches", name)
        try unique(loads.map { "\($0)" }, "loads", name)
    }

    private func unique(_ values: [String], _ what: String, _ name: String) throws(StudyError) {
        var seen: Set<String> = []
        for value in values where !seen.insert(value).inserted {
            throw StudyError(subject: name, reason: "\"\(what)\" has \(value) twice")
        }
    }

    private static func isPlain(_ byte: UInt8) -> Bool {
        let letter = byte | 0x20
        return (0x61...0x7A).contains(letter) || (0x30...0x39).contains(byte) || byte == 0x2D || byte == 0x5F
    }

    /// Writes the definition as one JSON object.
    func write(_ writer: inout JSONWriter) {
        writer.beginObject()
        for (key, text) in [("figure", figure), ("title", title), ("question", question), ("phase", phase.rawValue)] {
            writer.key(key)
            writer.string(text)
        }
        writer.strings("models", models)
        writer.integers("contexts", contexts)
        if !batches.isEmpty { writer.integers("batches", batches) }
        if outputTokens > 0 { writer.member("output_tokens", outputTokens) }
        if !loads.isEmpty {
            writer.key("loads")
            writer.beginArray()
            for load in loads { writer.number(load) }
            writer.endArray()
        }
        writer.member("arrival_seconds", arrivalSeconds)
        writer.member("latency_target", latencyTarget)
        writer.strings("conventions", conventions.map(\.rawValue))
        writer.strings("ablations", ablations.map(\.rawValue))
        writer.strings("caches", caches.map(\.rawValue))
        if !hosts.isEmpty {
            writer.key("hosts")
            writer.beginArray()
            for host in hosts { host.write(&writer) }
            writer.endArray()
        }
        if !arms.isEmpty {
            writer.key("arms")
            writer.beginArray()
            for arm in arms { arm.write(&writer) }
            writer.endArray()
        }
        writer.member("repetitions", repetitions)
        writer.member("device", device)
        writer.endObject()
    }
}

extension StudyDefinition.Host {
    init(_ fields: StudyFields) throws(StudyError) {
        var fields = fields
        self.init(
            name: try fields.string("name"),
            secondsPerStep: try fields.number("seconds_per_step", 0...60),
            secondsPerSequence: try fields.number("seconds_per_sequence", 0...60),
            frontEndPerRequest: try fields.optionalNumber("front_end_per_request", 0...60) ?? 0,
            frontEndPerPromptToken: try fields.optionalNumber("front_end_per_prompt_token", 0...60) ?? 0,
            source: try fields.string("source"))
        try fields.end()
    }

    func write(_ writer: inout JSONWriter) {
        writer.beginObject()
        writer.member("name", name)
        writer.member("seconds_per_step", secondsPerStep)
        writer.member("seconds_per_sequence", secondsPerSequence)
        if frontEndPerRequest > 0 { writer.member("front_end_per_request", frontEndPerRequest) }
        if frontEndPerPromptToken > 0 { writer.member("front_end_per_prompt_token", frontEndPerPromptToken) }
        writer.member("source", source)
        writer.endObject()
    }
}

extension StudyArm {
    init(_ fields: StudyFields) throws(StudyError) {
        var fields = fields
        self.init(
            id: try fields.string("id"), title: try fields.string("title"),
            engines: try fields.integer("engines", 1...64), sharing: try fields.choice("sharing", Sharing.self),
            isAsynchronous: try fields.bool("asynchronous"), cores: try fields.optionalInteger("cores", 1...4096),
            command: try fields.optionalString("command"))
        try fields.end()
        guard engines == 1 || sharing != .alone else {
            throw fields.wrong("sharing", "is \"alone\", and there are \(engines) engines; say how they share")
        }
    }

    func write(_ writer: inout JSONWriter) {
        writer.beginObject()
        writer.member("id", id)
        writer.member("title", title)
        writer.member("engines", engines)
        writer.member("sharing", sharing.rawValue)
        writer.key("asynchronous")
        writer.bool(isAsynchronous)
        if let cores { writer.member("cores", cores) }
        if let command { writer.member("command", command) }
        writer.endObject()
    }
}
