// Tandem — Apache-2.0

internal import JSON
internal import LanguageModel

/// A line of a study's file: an object with one member, whose name says what it is.
public enum StudyRecord: Sendable, Equatable {
    case header(StudyHeader)
    case measurement(StudyMeasurement)
    case count(StudyCount)

    /// The version of the format, which every header names.
    static let format = 1

    /// One line of JSON, with its end.
    public var line: [UInt8] {
        var writer = JSONWriter()
        writer.beginObject()
        switch self {
        case .header(let header):
            writer.key("header")
            header.write(&writer)
        case .measurement(let measurement):
            writer.key("measurement")
            measurement.write(&writer)
        case .count(let count):
            writer.key("count")
            count.write(&writer)
        }
        writer.endObject()
        return writer.bytes + [UInt8(ascii: "\n")]
    }

    /// - Throws: ``StudyError`` whose subject is `name`.
    init(line: some Collection<UInt8>, name: String) throws(StudyError) {
        let value: JSONValue
        do {
            value = try JSONParser.parse(line, limits: JSONLimits(maximumDepth: 10, maximumBytes: 1 << 20))
        } catch {
            throw StudyError(subject: name, reason: "is no JSON: \(error)")
        }
        var fields = try StudyFields(value, path: name)
        if let header = try fields.fields("header") {
            self = .header(try StudyHeader(header, name: name))
        } else if let measurement = try fields.fields("measurement") {
            self = .measurement(try StudyMeasurement(measurement))
        } else if let count = try fields.fields("count") {
            self = .count(try StudyCount(count))
        } else {
            throw StudyError(subject: name, reason: "holds neither a header nor a measurement nor a count")
        }
        try fields.end()
    }
}

extension StudyHeader {
    init(_ fields: StudyFields, name: String) throws(StudyError) {
        var fields = fields
        let format = try fields.integer("format", 0...1_000_000)
        guard format == StudyRecord.format else {
            throw fields.wrong(
                "format", "is \(format); this version of tandem reads \(StudyRecord.format): measure again")
        }
        let kind = try fields.choice("kind", Kind.self)
        guard let definition = fields.value("definition") else { throw fields.wrong("definition", "is missing") }
        self.init(
            kind: kind, device: try fields.string("device"), deviceTitle: try fields.string("device_title"),
            machine: try fields.string("machine"), date: try fields.string("date"),
            version: try fields.string("version"), revision: try fields.optionalString("revision"),
            versions: try fields.texts("versions"), parameters: try fields.texts("parameters"),
            definition: try StudyDefinition(definition, name: name + ", \"definition\""))
        try fields.end()
    }

    func write(_ writer: inout JSONWriter) {
        writer.beginObject()
        writer.member("format", StudyRecord.format)
        writer.member("kind", kind.rawValue)
        writer.member("device", device)
        writer.member("device_title", deviceTitle)
        writer.member("machine", machine)
        writer.member("date", date)
        writer.member("version", version)
        if let revision { writer.member("revision", revision) }
        writer.texts("versions", versions)
        writer.texts("parameters", parameters)
        writer.key("definition")
        definition.write(&writer)
        writer.endObject()
    }
}

extension StudyCell {
    init(_ fields: StudyFields) throws(StudyError) {
        var fields = fields
        self.init(
            figure: try fields.string("figure"), model: try fields.string("model"),
            phase: try fields.choice("phase", StudyDefinition.Phase.self),
            context: try fields.integer("context", 1...(1 << 20)),
            batch: try fields.optionalInteger("batch", 1...(1 << 20)),
            load: try fields.optionalNumber("load", 1e-6...1e9),
            convention: try fields.choice("convention", StudyDefinition.Convention.self),
            ablation: try fields.choice("ablation", Ablation.self),
            cache: try fields.choice("cache", StudyDefinition.Cache.self), host: try fields.optionalString("host"),
            arm: try fields.string("arm"))
        try fields.end()
    }

    func write(_ writer: inout JSONWriter) {
        writer.beginObject()
        writer.member("figure", figure)
        writer.member("model", model)
        writer.member("phase", phase.rawValue)
        writer.member("context", context)
        if let batch { writer.member("batch", batch) }
        writer.member("load", load)
        writer.member("convention", convention.rawValue)
        writer.member("ablation", ablation.rawValue)
        writer.member("cache", cache.rawValue)
        if let host { writer.member("host", host) }
        writer.member("arm", arm)
        writer.endObject()
    }
}

extension StudyMeasurement {
    init(_ fields: StudyFields) throws(StudyError) {
        var fields = fields
        guard let cell = try fields.fields("cell") else { throw fields.wrong("cell", "is missing") }
        // Seeds have 64 bits, and JSON's numbers need not.
        guard let seed = UInt64(try fields.string("seed")) else { throw fields.wrong("seed", "must be a number") }
        self.init(
            cell: try StudyCell(cell), repetition: try fields.integer("repetition", 0...1000), seed: seed,
            failure: try fields.optionalString("failure"), seconds: try fields.number("seconds"))
        promptTokensPerSecond = try fields.optionalNumber("prompt_tokens_per_second")
        generatedTokensPerSecond = try fields.optionalNumber("generated_tokens_per_second")
        stepsPerSecond = try fields.optionalNumber("steps_per_second")
        requestsPerSecond = try fields.optionalNumber("requests_per_second")
        timeToFirstToken = try fields.fields("time_to_first_token").map(Latency.init)
        interTokenLatency = try fields.fields("inter_token_latency").map(Latency.init)
        endToEnd = try fields.fields("end_to_end").map(Latency.init)
        deviceBusyShare = try fields.optionalNumber("device_busy_share", 0...1)
        stepTime = try fields.fields("step_time").map(StepTime.init)
        cacheTokensPerEngine = try fields.optionalInteger("cache_tokens_per_engine", 0...(1 << 50))
        sequencesPerEngine = try fields.optionalNumber("sequences_per_engine")
        completed = try fields.optionalInteger("completed", 0...(1 << 50))
        failed = try fields.optionalInteger("failed", 0...(1 << 50))
        notes = try fields.strings("notes")
        try fields.end()
        guard failure != nil || throughput != nil else {
            throw fields.wrong("failure", "is missing, and so is the throughput")
        }
    }

    func write(_ writer: inout JSONWriter) {
        writer.beginObject()
        writer.key("cell")
        cell.write(&writer)
        writer.member("repetition", repetition)
        writer.member("seed", String(seed))
        writer.member("prompt_tokens_per_second", promptTokensPerSecond)
        writer.member("generated_tokens_per_second", generatedTokensPerSecond)
        writer.member("steps_per_second", stepsPerSecond)
        writer.member("requests_per_second", requestsPerSecond)
        for (key, latency) in [
            ("time_to_first_token", timeToFirstToken), ("inter_token_latency", interTokenLatency),
            ("end_to_end", endToEnd),
        ] {
            guard let latency else { continue }
            writer.key(key)
            latency.write(&writer)
        }
        writer.member("device_busy_share", deviceBusyShare)
        if let stepTime {
            writer.key("step_time")
            stepTime.write(&writer)
        }
        if let cacheTokensPerEngine { writer.member("cache_tokens_per_engine", cacheTokensPerEngine) }
        writer.member("sequences_per_engine", sequencesPerEngine)
        if let completed { writer.member("completed", completed) }
        if let failed { writer.member("failed", failed) }
        if let failure { writer.member("failure", failure) }
        if !notes.isEmpty { writer.strings("notes", notes) }
        writer.member("seconds", seconds)
        writer.endObject()
    }
}

extension StudyMeasurement.Latency {
    init(_ fields: StudyFields) throws(StudyError) {
        var fields = fields
        self.init(
            mean: try fields.number("mean"), p50: try fields.number("p50"), p90: try fields.number("p90"),
            p99: try fields.number("p99"))
        try fields.end()
    }

    func write(_ writer: inout JSONWriter) {
        writer.beginObject()
        writer.member("mean", mean)
        writer.member("p50", p50)
        writer.member("p90", p90)
        writer.member("p99", p99)
        writer.endObject()
    }
}

extension StudyMeasurement.StepTime {
    init(_ fields: StudyFields) throws(StudyError) {
        var fields = fields
        self.init(
            attention: try fields.number("attention"), feedForward: try fields.number("mlp"),
            rest: try fields.number("rest"), host: try fields.number("host"))
        try fields.end()
    }

    func write(_ writer: inout JSONWriter) {
        writer.beginObject()
        writer.member("attention", attention)
        writer.member("mlp", feedForward)
        writer.member("rest", rest)
        writer.member("host", host)
        writer.endObject()
    }
}

extension StudyCount {
    init(_ fields: StudyFields) throws(StudyError) {
        var fields = fields
        self.init(
            model: try fields.string("model"), context: try fields.integer("context", 1...(1 << 20)),
            part: try fields.string("part"), phase: try fields.string("phase"),
            operations: try fields.number("operations", 0...1e30), bytes: try fields.number("bytes", 0...1e30),
            operationsGrowth: try fields.number("operations_growth", -10...10),
            bytesGrowth: try fields.number("bytes_growth", -10...10))
        try fields.end()
    }

    func write(_ writer: inout JSONWriter) {
        writer.beginObject()
        writer.member("model", model)
        writer.member("context", context)
        writer.member("part", part)
        writer.member("phase", phase)
        writer.member("operations", operations)
        writer.member("bytes", bytes)
        writer.member("operations_growth", operationsGrowth)
        writer.member("bytes_growth", bytesGrowth)
        writer.endObject()
    }
}
