// Tandem — Apache-2.0

import EngineLink
import NIOCore
import Requests
import TestSupport
import Testing

@Suite struct LinkCodecTests {
    @Test func everyMessageSurvivesTheRoundTrip() throws {
        for seed in 0..<200 {
            var generator = SeededGenerator(seed: UInt64(seed))
            let messages = generator.everyMessage()
            var buffer = ByteBuffer()
            for message in messages { LinkCodec.encode(message, into: &buffer) }
            var reader = LinkFrameReader()
            reader.append(buffer)
            for message in messages { #expect(try reader.next() == message) }
            #expect(try reader.next() == nil)
            #expect(!reader.holdsPartOfFrame)
        }
    }

    @Test func framesAreFoundInPiecesOfAnySize() throws {
        var generator = SeededGenerator(seed: 7)
        let messages = generator.everyMessage() + generator.everyMessage()
        let bytes = messages.flatMap { LinkCodec.frame($0) }
        for pieceSize in [1, 2, 3, 7, 64, bytes.count] {
            var reader = LinkFrameReader()
            var received: [LinkMessage] = []
            for start in stride(from: 0, to: bytes.count, by: pieceSize) {
                reader.append(Array(bytes[start..<min(start + pieceSize, bytes.count)]))
                while let message = try reader.next() { received.append(message) }
            }
            #expect(received == messages)
        }
    }

    @Test func commonStepIsCompact() {
        let outputs = (0..<64).map { SequenceOutput(id: UInt64($0), tokens: [TokenID($0)]) }
        let frame = LinkCodec.frame(.stepOutput(StepOutput(step: 9, outputs: outputs)))
        #expect(frame.count == 4 + 1 + 8 + 4 + 64 * 13)
    }

    /// Cut at every byte, with the length field made true, every body is refused and nothing traps.
    @Test func truncatedFramesAreRefused() throws {
        for seed in 0..<20 {
            var generator = SeededGenerator(seed: UInt64(1000 + seed))
            for message in generator.everyMessage() {
                let body = Array(LinkCodec.frame(message).dropFirst(4))
                for length in 0..<body.count {
                    let error = #expect(throws: LinkError.self) {
                        try LinkCodec.decode(frame: ByteBuffer(bytes: body[..<length]))
                    }
                    #expect(error?.code == .malformed)
                }
                let error = #expect(throws: LinkError.self) {
                    try LinkCodec.decode(frame: ByteBuffer(bytes: body + [0]))
                }
                #expect(error?.message.contains("too many") == true)
            }
        }
    }

    /// Whatever bytes arrive, they are a message or an error.
    @Test func mutatedFramesNeverTrap() {
        var generator = SeededGenerator(seed: 42)
        var refused = 0
        for _ in 0..<60 {
            for message in generator.everyMessage() {
                var body = Array(LinkCodec.frame(message).dropFirst(4))
                for _ in 0..<20 {
                    let index = generator.count(UInt64(body.count - 1))
                    body[index] = [0, 1, 0x7F, 0x80, 0xFF, generator.integer()][generator.count(5)]
                    do {
                        _ = try LinkCodec.decode(frame: ByteBuffer(bytes: body))
                    } catch {
                        refused += 1
                    }
                }
            }
        }
        #expect(refused > 1000)
    }

    @Test func announcedCountsAreCheckedBeforeTheyAreAllocated() {
        // A step output that announces 4 billion sequences.
        var body = ByteBuffer(bytes: [7])
        body.writeInteger(UInt64(1), endianness: .little)
        body.writeInteger(UInt32.max, endianness: .little)
        let error = #expect(throws: LinkError.self) { try LinkCodec.decode(frame: body) }
        #expect(error?.code == .malformed)
        #expect(error?.message.contains("stepOutput, field outputs: 4294967295 elements") == true)
    }

    @Test func errorsNameFrameAndField() {
        var body = ByteBuffer(bytes: [6])
        body.writeInteger(UInt64(1), endianness: .little)
        body.writeInteger(UInt16(1), endianness: .little)
        let error = #expect(throws: LinkError.self) { try LinkCodec.decode(frame: body) }
        #expect(error?.message == "engine link: frame resume, field credits: 4 bytes are needed, 2 remain")
        #expect(throws: LinkError(code: .malformed, message: "engine link: unknown frame type 99")) {
            try LinkCodec.decode(frame: ByteBuffer(bytes: [99]))
        }
    }

    @Test func invalidTextIsRefused() {
        var body = ByteBuffer(bytes: [9, 1])
        body.writeInteger(UInt32(2), endianness: .little)
        body.writeBytes([0xC3, 0x28])
        let error = #expect(throws: LinkError.self) { try LinkCodec.decode(frame: body) }
        #expect(error?.message == "engine link: frame error, field message: not valid UTF-8")
    }

    @Test func helloOfAnotherVersionIsToldFromABrokenOne() {
        for type: UInt8 in [1, 2, 14, 15] {
            var body = ByteBuffer(bytes: [type])
            body.writeInteger(engineLinkVersion + 1, endianness: .little)
            body.writeString("whatever a later version says")
            let error = #expect(throws: LinkError.self) { try LinkCodec.decode(frame: body) }
            #expect(error?.code == .version)
        }
    }

    @Test func longFramesAreRefusedBeforeTheyArrive() throws {
        var reader = LinkFrameReader(maximumFrameBytes: 100)
        reader.append([101, 0, 0, 0])
        let error = #expect(throws: LinkError.self) { try reader.next() }
        #expect(error?.code == .tooLong)
        // And the stream stays lost.
        reader.append(LinkCodec.frame(.drain))
        #expect(throws: LinkError.self) { try reader.next() }
    }
}
