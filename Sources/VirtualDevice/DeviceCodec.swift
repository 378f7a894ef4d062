// Tandem — Apache-2.0

import LanguageModel

/// Why a packet is no message.
public struct DeviceProtocolError: Error, Sendable, Equatable, CustomStringConvertible {
    public var message: String

    public init(message: String) {
        self.message = message
    }

    public var description: String { "virtual device: \(message)" }
}

/// A message in bytes, and back. One message is one packet, so it has no length of its own; numbers are little-endian.
public enum DeviceCodec {
    /// No message is longer.
    public static let largestMessage = 16384

    private enum Kind: UInt8 {
        case hello = 1
        case allocate = 2
        case submit = 3
        case welcome = 129
        case granted = 130
        case done = 131
        case failed = 132
        case report = 193
        case dropped = 194
        case drop = 195
    }

    public static func bytes(_ message: ClientMessage) -> [UInt8] {
        var writer = PacketWriter()
        switch message {
        case .hello(let hello):
            writer.integer(Kind.hello.rawValue)
            writer.integer(virtualDeviceVersion)
            writer.integer(hello.pid)
            writer.integer(hello.engine)
            writer.integer(hello.percent)
            writer.model(hello.model)
        case .allocate(let bytes):
            writer.integer(Kind.allocate.rawValue)
            writer.integer(bytes)
        case .submit(let step, let work):
            writer.integer(Kind.submit.rawValue)
            writer.integer(step)
            for value in [work.decoding, work.context, work.prompts, work.promptLength] {
                writer.integer(value.bitPattern)
            }
        }
        return writer.bytes
    }

    public static func bytes(_ message: DeviceMessage) -> [UInt8] {
        var writer = PacketWriter()
        switch message {
        case .welcome(let welcome):
            writer.integer(Kind.welcome.rawValue)
            writer.text(welcome.name)
            writer.integer(welcome.memoryBytes)
            writer.flag(welcome.usesMPS)
        case .granted(let free):
            writer.integer(Kind.granted.rawValue)
            writer.integer(free)
        case .done(let done):
            writer.integer(Kind.done.rawValue)
            for value in [done.step, done.attention, done.mlp, done.rest] { writer.integer(value) }
        case .failed(let failure):
            writer.integer(Kind.failed.rawValue)
            writer.integer(failure.code)
            writer.flag(failure.concernsAll)
            writer.text(failure.message)
        }
        return writer.bytes
    }

    public static func bytes(_ notice: DeviceNotice) -> [UInt8] {
        var writer = PacketWriter()
        switch notice {
        case .report(let report):
            writer.integer(Kind.report.rawValue)
            writer.integer(report.clients)
            writer.integer(report.memoryBytes)
            writer.integer(report.usedBytes)
            writer.integer(report.steps)
            writer.integer(report.lagMillionths)
            writer.flag(report.isLate)
            writer.flag(report.isFaulted)
        case .dropped(let engine):
            writer.integer(Kind.dropped.rawValue)
            writer.integer(engine)
        }
        return writer.bytes
    }

    public static func bytes(_ order: DeviceOrder) -> [UInt8] {
        var writer = PacketWriter()
        switch order {
        case .drop(let engine):
            writer.integer(Kind.drop.rawValue)
            writer.integer(engine)
        }
        return writer.bytes
    }

    public static func clientMessage(_ bytes: [UInt8]) throws(DeviceProtocolError) -> ClientMessage {
        var reader = PacketReader(bytes)
        let message: ClientMessage
        switch try kind(&reader) {
        case .hello:
            let version: UInt16 = try reader.integer("version")
            guard version == virtualDeviceVersion else {
                throw DeviceProtocolError(
                    message: "the client speaks version \(version), the device \(virtualDeviceVersion): both must be "
                        + "of one release")
            }
            let hello = ClientHello(
                pid: try reader.integer("pid"), engine: try reader.integer("engine"),
                percent: try reader.integer("percent"), model: try reader.model())
            guard hello.pid > 0, (1...100).contains(hello.percent) else { throw reader.malformed("pid or percent") }
            message = .hello(hello)
        case .allocate: message = .allocate(keyValueBytes: try reader.integer("keyValueBytes"))
        case .submit:
            message = .submit(
                step: try reader.integer("step"),
                work: StepWork(
                    decoding: try reader.amount("decoding", most: 1_048_576),
                    context: try reader.amount("context", most: 16_777_216),
                    prompts: try reader.amount("prompts", most: 1_048_576),
                    promptLength: try reader.amount("promptLength", most: 16_777_216)))
        default: throw DeviceProtocolError(message: "that is no message of a client")
        }
        try reader.end()
        return message
    }

    public static func deviceMessage(_ bytes: [UInt8]) throws(DeviceProtocolError) -> DeviceMessage {
        var reader = PacketReader(bytes)
        let message: DeviceMessage
        switch try kind(&reader) {
        case .welcome:
            message = .welcome(
                DeviceWelcome(
                    name: try reader.text("name"), memoryBytes: try reader.integer("memoryBytes"),
                    usesMPS: try reader.flag("usesMPS")))
        case .granted: message = .granted(freeBytes: try reader.integer("freeBytes"))
        case .done:
            message = .done(
                StepDone(
                    step: try reader.integer("step"), attention: try reader.integer("attention"),
                    mlp: try reader.integer("mlp"), rest: try reader.integer("rest")))
        case .failed:
            message = .failed(
                DeviceFailure(
                    code: try reader.integer("code"), concernsAll: try reader.flag("concernsAll"),
                    message: try reader.text("message")))
        default: throw DeviceProtocolError(message: "that is no message of a device")
        }
        try reader.end()
        return message
    }

    public static func notice(_ bytes: [UInt8]) throws(DeviceProtocolError) -> DeviceNotice {
        var reader = PacketReader(bytes)
        let notice: DeviceNotice
        switch try kind(&reader) {
        case .report:
            notice = .report(
                DeviceReport(
                    clients: try reader.integer("clients"), memoryBytes: try reader.integer("memoryBytes"),
                    usedBytes: try reader.integer("usedBytes"), steps: try reader.integer("steps"),
                    lagMillionths: try reader.integer("lagMillionths"), isLate: try reader.flag("isLate"),
                    isFaulted: try reader.flag("isFaulted")))
        case .dropped: notice = .dropped(engine: try reader.integer("engine"))
        default: throw DeviceProtocolError(message: "that is nothing a supervisor is told")
        }
        try reader.end()
        return notice
    }

    public static func order(_ bytes: [UInt8]) throws(DeviceProtocolError) -> DeviceOrder {
        var reader = PacketReader(bytes)
        guard case .drop = try kind(&reader) else { throw DeviceProtocolError(message: "that is no order") }
        let order = DeviceOrder.drop(engine: try reader.integer("engine"))
        try reader.end()
        return order
    }

    private static func kind(_ reader: inout PacketReader) throws(DeviceProtocolError) -> Kind {
        let code: UInt8 = try reader.integer("kind")
        guard let kind = Kind(rawValue: code) else { throw DeviceProtocolError(message: "unknown kind \(code)") }
        return kind
    }
}

private struct PacketWriter {
    var bytes: [UInt8] = []

    mutating func integer(_ value: some FixedWidthInteger) {
        withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }

    mutating func flag(_ value: Bool) { bytes.append(value ? 1 : 0) }

    /// At most as long as a reader takes it.
    mutating func text(_ value: String) {
        var short = ""
        for character in value where short.utf8.count + character.utf8.count <= PacketReader.longestText {
            short.append(character)
        }
        integer(UInt16(short.utf8.count))
        bytes.append(contentsOf: short.utf8)
    }

    mutating func model(_ model: ClientModel) {
        text(model.name)
        integer(model.vocabularySize)
        integer(model.hiddenSize)
        integer(model.intermediateSize)
        integer(model.queryHeads)
        integer(model.keyValueHeads)
        integer(model.headDimension)
        flag(model.tiedHead)
        integer(UInt8(Ablation.allCases.firstIndex(of: model.ablation) ?? 0))
        integer(UInt16(clamping: model.layers.count))
        for layer in model.layers {
            let flags = [
                layer.queryKeyValueBias, layer.queryKeyNorm, layer.postAttentionNorm, layer.postFeedForwardNorm,
                layer.window != nil,
            ]
            integer(flags.enumerated().reduce(UInt8(0)) { $0 | ($1.element ? 1 << UInt8($1.offset) : 0) })
            integer(layer.window ?? 0)
        }
    }
}

/// Takes fields out of a packet from anywhere: nothing is believed, and nothing is read beyond the end.
private struct PacketReader {
    static let longestText = 2048

    private let bytes: [UInt8]
    private var position = 0

    init(_ bytes: [UInt8]) {
        self.bytes = bytes
    }

    func malformed(_ field: StaticString) -> DeviceProtocolError {
        DeviceProtocolError(message: "the packet's \(field) is malformed or missing")
    }

    func end() throws(DeviceProtocolError) {
        guard position == bytes.count else {
            throw DeviceProtocolError(message: "\(bytes.count - position) bytes too many")
        }
    }

    mutating func integer<Value: FixedWidthInteger>(
        _ field: StaticString, as: Value.Type = Value.self
    ) throws(DeviceProtocolError) -> Value {
        let size = MemoryLayout<Value>.size
        guard bytes.count - position >= size else { throw malformed(field) }
        var value: Value = 0
        for index in 0..<size { value |= Value(truncatingIfNeeded: bytes[position + index]) << Value(8 * index) }
        position += size
        return value
    }

    mutating func flag(_ field: StaticString) throws(DeviceProtocolError) -> Bool {
        let value: UInt8 = try integer(field)
        guard value <= 1 else { throw malformed(field) }
        return value == 1
    }

    /// A number from 0 to `most`.
    mutating func amount(_ field: StaticString, most: Double) throws(DeviceProtocolError) -> Double {
        let value = Double(bitPattern: try integer(field))
        guard value.isFinite, value >= 0, value <= most else { throw malformed(field) }
        return value
    }

    mutating func text(_ field: StaticString) throws(DeviceProtocolError) -> String {
        let count = Int(try integer(field, as: UInt16.self))
        guard count <= Self.longestText, bytes.count - position >= count,
            let text = String(validating: bytes[position..<position + count], as: UTF8.self)
        else { throw malformed(field) }
        position += count
        return text
    }

    mutating func model() throws(DeviceProtocolError) -> ClientModel {
        var model = ClientModel(
            name: try text("name"), vocabularySize: try integer("vocabularySize"),
            hiddenSize: try integer("hiddenSize"), intermediateSize: try integer("intermediateSize"),
            queryHeads: try integer("queryHeads"), keyValueHeads: try integer("keyValueHeads"),
            headDimension: try integer("headDimension"), tiedHead: try flag("tiedHead"), ablation: try ablation(),
            layers: [])
        let count = Int(try integer("layers", as: UInt16.self))
        guard count <= ClientModel.mostLayers else { throw malformed("layers") }
        for _ in 0..<count {
            let flags: UInt8 = try integer("layer")
            let window: UInt32 = try integer("window")
            guard flags < 32 else { throw malformed("layer") }
            model.layers.append(
                ClientModel.Layer(
                    queryKeyValueBias: flags & 1 != 0, queryKeyNorm: flags & 2 != 0,
                    postAttentionNorm: flags & 4 != 0, postFeedForwardNorm: flags & 8 != 0,
                    window: flags & 16 != 0 ? window : nil))
        }
        guard model.isUsable else { throw malformed("model") }
        return model
    }

    private mutating func ablation() throws(DeviceProtocolError) -> Ablation {
        let index = Int(try integer("ablation", as: UInt8.self))
        guard Ablation.allCases.indices.contains(index) else { throw malformed("ablation") }
        return Ablation.allCases[index]
    }
}
