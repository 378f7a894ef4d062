// Tandem — Apache-2.0

public import NIOCore

/// Turns messages into frames and back.
///
/// A frame is a length (`u32`: the bytes that follow it), a type (`u8`) and a payload; all numbers are little-endian.
/// Arrays and strings carry their count as `u32` in front, strings are UTF-8. Frames of the same type mean the same
/// within one ``engineLinkVersion``; both hellos and both messages of
/// administrators begin with the version, so that a mismatch is told from a broken frame.
public enum LinkCodec {
    /// Longest frame that is accepted unless a reader is told otherwise, in bytes.
    public static let defaultMaximumFrameBytes = 64 << 20

    /// Bytes of a frame's length field.
    static let lengthBytes = 4

    /// Appends one frame.
    public static func encode(_ message: LinkMessage, into buffer: inout ByteBuffer) {
        let start = buffer.writerIndex
        buffer.writeInteger(UInt32(0), endianness: .little)
        buffer.writeInteger(FrameType(message).rawValue)
        switch message {
        case .clientHello(let hello): buffer.write(hello)
        case .engineHello(let hello): buffer.write(hello)
        case .submit(let request): buffer.write(request)
        case .cancel(let id), .pause(let id): buffer.writeInteger(id, endianness: .little)
        case .resume(let id, let credits):
            buffer.writeMultipleIntegers(id, credits, endianness: .little)
        case .stepOutput(let output): buffer.write(output)
        case .statistics(let statistics): buffer.write(statistics)
        case .error(let error): buffer.write(error)
        case .drain: break
        case .roster(let roster): buffer.write(roster)
        case .gatewayReady(let port): buffer.writeInteger(port, endianness: .little)
        case .heartbeat(let heartbeat): buffer.write(heartbeat)
        case .adminCommand(let command): buffer.write(command)
        case .adminReply(let reply): buffer.write(reply)
        case .engineReport(let report): buffer.write(report)
        }
        let length = buffer.writerIndex - start - lengthBytes
        buffer.setInteger(UInt32(truncatingIfNeeded: length), at: start, endianness: .little)
    }

    /// One message as a frame, for senders without NIO.
    public static func frame(_ message: LinkMessage) -> [UInt8] {
        var buffer = ByteBuffer()
        encode(message, into: &buffer)
        return Array(buffer.readableBytesView)
    }

    /// The message in a frame's body: what follows the length field.
    ///
    /// - Throws: ``LinkError`` of code ``LinkError/Code/malformed`` that names frame and field, or of code
    ///   ``LinkError/Code/version`` if a hello of another version arrives.
    public static func decode(frame: ByteBuffer) throws(LinkError) -> LinkMessage {
        var buffer = frame
        guard let code = buffer.readInteger(as: UInt8.self) else {
            throw LinkError(code: .malformed, message: "engine link: an empty frame")
        }
        guard let type = FrameType(rawValue: code) else {
            throw LinkError(code: .malformed, message: "engine link: unknown frame type \(code)")
        }
        var reader = FieldReader(buffer: buffer, frame: type)
        let message: LinkMessage =
            switch type {
            case .clientHello: .clientHello(try reader.clientHello())
            case .engineHello: .engineHello(try reader.engineHello())
            case .submit: .submit(try reader.engineRequest())
            case .cancel: .cancel(try reader.integer("id"))
            case .pause: .pause(try reader.integer("id"))
            case .resume: .resume(try reader.integer("id"), credits: try reader.integer("credits"))
            case .stepOutput: .stepOutput(try reader.stepOutput())
            case .statistics: .statistics(try reader.statistics())
            case .error: .error(try reader.linkError())
            case .drain: .drain
            case .roster: .roster(try reader.roster())
            case .gatewayReady: .gatewayReady(port: try reader.integer("port"))
            case .heartbeat: .heartbeat(try reader.heartbeat())
            case .adminCommand: .adminCommand(try reader.adminCommand())
            case .adminReply: .adminReply(try reader.adminReply())
            case .engineReport: .engineReport(try reader.engineReport())
            }
        try reader.end()
        return message
    }
}

/// The type byte of a frame.
enum FrameType: UInt8 {
    case clientHello = 1
    case engineHello = 2
    case submit = 3
    case cancel = 4
    case pause = 5
    case resume = 6
    case stepOutput = 7
    case statistics = 8
    case error = 9
    case drain = 10
    case roster = 11
    case gatewayReady = 12
    case heartbeat = 13
    case adminCommand = 14
    case adminReply = 15
    case engineReport = 16

    init(_ message: LinkMessage) {
        self =
            switch message {
            case .clientHello: .clientHello
            case .engineHello: .engineHello
            case .submit: .submit
            case .cancel: .cancel
            case .pause: .pause
            case .resume: .resume
            case .stepOutput: .stepOutput
            case .statistics: .statistics
            case .error: .error
            case .drain: .drain
            case .roster: .roster
            case .gatewayReady: .gatewayReady
            case .heartbeat: .heartbeat
            case .adminCommand: .adminCommand
            case .adminReply: .adminReply
            case .engineReport: .engineReport
            }
    }
}

/// Finds frames in a stream of bytes that arrives in pieces of any size.
///
/// After an error the stream is lost: ``next()`` throws the same error from then on.
public struct LinkFrameReader: Sendable {
    /// Longest frame that is accepted, in bytes after the length field.
    public var maximumFrameBytes: Int
    private var buffer = ByteBuffer()
    private var failure: LinkError?

    public init(maximumFrameBytes: Int = LinkCodec.defaultMaximumFrameBytes) {
        self.maximumFrameBytes = maximumFrameBytes
    }

    /// Adds bytes as they were read.
    public mutating func append(_ bytes: [UInt8]) {
        buffer.writeBytes(bytes)
    }

    /// Adds bytes as they were read; takes the buffer over without a copy when nothing waits.
    public mutating func append(_ bytes: ByteBuffer) {
        if buffer.readableBytes == 0 {
            buffer = bytes
        } else {
            buffer.discardReadBytes()
            buffer.writeImmutableBuffer(bytes)
        }
    }

    /// Whether part of a frame waits for the rest.
    public var holdsPartOfFrame: Bool { buffer.readableBytes > 0 }

    /// The next complete message, or `nil` if more bytes are needed.
    public mutating func next() throws(LinkError) -> LinkMessage? {
        if let failure { throw failure }
        do {
            return try decodeNext()
        } catch {
            failure = error
            buffer = ByteBuffer()
            throw error
        }
    }

    private mutating func decodeNext() throws(LinkError) -> LinkMessage? {
        guard let length: UInt32 = buffer.getInteger(at: buffer.readerIndex, endianness: .little) else { return nil }
        guard Int(length) <= maximumFrameBytes else {
            throw LinkError(
                code: .tooLong,
                message: "engine link: a frame of \(length) bytes is longer than the limit of \(maximumFrameBytes)"
            )
        }
        guard buffer.readableBytes >= LinkCodec.lengthBytes + Int(length) else { return nil }
        buffer.moveReaderIndex(forwardBy: LinkCodec.lengthBytes)
        guard let frame = buffer.readSlice(length: Int(length)) else { return nil }
        return try LinkCodec.decode(frame: frame)
    }
}
