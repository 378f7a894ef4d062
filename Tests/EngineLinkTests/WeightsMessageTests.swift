// Tandem — Apache-2.0

import EngineLink
import Requests
import Testing

@Suite struct WeightsMessageTests {
    private static let descriptor = SharedWeights(
        sharing: "descriptor", model: Digest128(high: 1, low: 0xFEDC_BA98_7654_3210), layout: .max,
        byteCount: 1_000_000,
        mappedBytes: 2 << 20, device: "GPU-12ab")
    private static let handle = SharedWeights(
        sharing: "handle", model: Digest128(high: 0, low: 0), layout: 0, byteCount: 1, mappedBytes: 1, device: "",
        handle: (0..<64).map { UInt8($0 * 4) })

    @Test func messagesAreReadAsTheyAreWritten() throws {
        for message in [
            WeightsMessage.ready(Self.descriptor), .ready(Self.handle), .refused(reason: "no memory"),
            .refused(reason: ""),
        ] {
            #expect(try WeightsMessage(text: message.text.utf8) == message)
        }
    }

    @Test func aReasonIsOneLineThatFits() throws {
        let message = WeightsMessage.refused(reason: "first\nsecond\r\n" + String(repeating: "ä", count: 4000))
        #expect(message.text.utf8.count <= WeightsMessage.longest)
        guard case .refused(let reason) = try WeightsMessage(text: message.text.utf8) else {
            Issue.record("it is no refusal any more")
            return
        }
        #expect(reason.hasPrefix("first second "))
    }

    @Test func whatIsCutOffIsRefused() {
        let text = Array(WeightsMessage.ready(Self.descriptor).text.utf8)
        for count in text.indices {
            #expect(throws: LinkError.self, "the first \(count) bytes") { try WeightsMessage(text: text[..<count]) }
        }
    }

    @Test(arguments: [
        "", "\n", "tandem-weights 2\nrefused no", "tandem-weights 1", "tandem-weights 1\nready descriptor",
        "HTTP/1.1 200 OK\r\n\r\n", String(repeating: "x", count: WeightsMessage.longest + 1),
    ])
    func whatIsNoMessageIsRefused(_ text: String) {
        #expect(throws: LinkError.self) { try WeightsMessage(text: text.utf8) }
    }

    @Test(arguments: [
        ("bytes 1000000", "bytes 0"), ("bytes 1000000", "bytes -1"), ("bytes 1000000", "bytes 9223372036854775807"),
        ("bytes 1000000", "bytes 1e6"), ("mapped 2097152", "mapped "),
        ("mapped 2097152", "mapped 99999999999999999999"),
        ("layout ffffffffffffffff", "layout 1ffffffffffffffff"), ("handle ", "handle 0,1,256"),
        ("handle ", "handle 0,x"), ("device GPU-12ab", "device GPU-12ab\ndevice GPU-12ab"), ("model 0", "model g"),
        ("model 0", "model 00"),
    ])
    func fieldsOutOfRangeAreRefused(_ field: String, _ replacement: String) throws {
        let text = WeightsMessage.ready(Self.descriptor).text
        let changed = text.replacing(field, with: replacement, maxReplacements: 1)
        try #require(changed != text)
        #expect(throws: LinkError.self, "\(replacement)") { try WeightsMessage(text: changed.utf8) }
    }

    /// Bytes changed at every place never crash, and are either refused or another message.
    @Test func changedBytesAreSurvived() {
        let text = Array(WeightsMessage.ready(Self.handle).text.utf8)
        for index in text.indices {
            for byte: UInt8 in [0, 10, 32, 45, 57, 102, 255] {
                var changed = text
                changed[index] = byte
                _ = try? WeightsMessage(text: changed)
            }
        }
        #expect((try? WeightsMessage(text: text)) == .ready(Self.handle))
    }
}
