// Tandem — Apache-2.0

public import Requests

/// What the owner of a GPU's weights says to engines and to the supervisor: one packet, with a file descriptor beside
/// it if the memory is shared by one.
///
/// The text has a line for each field, so that a supervisor can hand it to the owner's successor on a command line.
public enum WeightsMessage: Sendable, Equatable {
    /// The weights are there.
    case ready(SharedWeights)
    /// There will be none; for people.
    case refused(reason: String)

    /// Bytes of the longest message.
    public static let longest = 4096
    private static let head = "tandem-weights 1"

    public var text: String {
        switch self {
        case .refused(let reason):
            let line = String(reason.map { $0.isNewline ? " " : $0 }).utf8.prefix(Self.longest - 64)
            return "\(Self.head)\nrefused \(String(decoding: line, as: UTF8.self))"
        case .ready(let weights):
            return """
                \(Self.head)
                ready \(weights.sharing)
                model \(weights.model)
                layout \(String(weights.layout, radix: 16))
                bytes \(weights.byteCount)
                mapped \(weights.mappedBytes)
                device \(weights.device)
                handle \(weights.handle.map { String($0, radix: 16) }.joined(separator: ","))
                """
        }
    }

    /// - Throws: ``LinkError`` for what is no message.
    public init(text: some Collection<UInt8>) throws(LinkError) {
        guard text.count <= Self.longest else { throw Self.error("has \(text.count) bytes") }
        let lines = String(decoding: text, as: UTF8.self).split(separator: "\n", omittingEmptySubsequences: false)
        guard lines.first.map(String.init) == Self.head, lines.count > 1 else {
            throw Self.error("begins with \"\(lines.first?.prefix(40) ?? "")\"; both sides must be the same version")
        }
        if lines[1].hasPrefix("refused ") {
            self = .refused(reason: String(lines[1].dropFirst(8)))
            return
        }
        func value(_ index: Int, _ name: String) throws(LinkError) -> Substring {
            guard lines.count == 8, lines[index].hasPrefix("\(name) ") else { throw Self.error("has no \(name)") }
            return lines[index].dropFirst(name.count + 1)
        }
        func size(_ index: Int, _ name: String) throws(LinkError) -> Int {
            guard let number = Int(try value(index, name)), (1...(1 << 50)).contains(number) else {
                throw Self.error("has no \(name)")
            }
            return number
        }
        let handle = try value(7, "handle").split(separator: ",").map { UInt8($0, radix: 16) }
        guard let model = Digest128(try value(2, "model")), let layout = UInt64(try value(3, "layout"), radix: 16),
            handle.allSatisfy({ $0 != nil })
        else { throw Self.error("has a digest or a handle that is none") }
        self = .ready(
            SharedWeights(
                sharing: String(try value(1, "ready")), model: model, layout: layout,
                byteCount: try size(4, "bytes"), mappedBytes: try size(5, "mapped"),
                device: String(try value(6, "device")), handle: handle.compactMap { $0 }))
    }

    private static func error(_ what: String) -> LinkError {
        LinkError(code: .malformed, message: "a message about weights \(what)")
    }
}

/// Weights that lie in a GPU's memory for all engines.
public struct SharedWeights: Sendable, Equatable {
    /// How the memory comes into another process: `descriptor` or `handle`.
    public var sharing: String
    /// Of the model with its ablation.
    public var model: Digest128
    /// Of the places of all numbers.
    public var layout: UInt64
    /// Bytes of the weights.
    public var byteCount: Int
    /// Bytes of the memory as it is mapped.
    public var mappedBytes: Int
    /// The GPU's UUID.
    public var device: String
    /// Names the memory; empty if a descriptor does.
    public var handle: [UInt8]

    public init(
        sharing: String, model: Digest128, layout: UInt64, byteCount: Int, mappedBytes: Int, device: String,
        handle: [UInt8] = []
    ) {
        self.sharing = sharing
        self.model = model
        self.layout = layout
        self.byteCount = byteCount
        self.mappedBytes = mappedBytes
        self.device = device
        self.handle = handle
    }
}

extension Digest128 {
    /// From 32 hexadecimal digits.
    fileprivate init?(_ text: Substring) {
        guard text.utf8.count == 32, let high = UInt64(text.prefix(16), radix: 16),
            let low = UInt64(text.suffix(16), radix: 16)
        else { return nil }
        self.init(high: high, low: low)
    }
}
