// Tandem — Apache-2.0

import NIOCore
import TestSupport
import Testing

@testable import HTTPCore

/// The generator of SplitMix64; every run sees the same bytes.
@Suite struct FuzzTests {
    private static let seeds = [
        "POST /a?b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nA: b\r\n\r\nabcGET /c HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nhe\r\n03\r\nllo\r\n0\r\nT: t\r\n\r\n",
        "GET http://x/a HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n\r\nHEAD / HTTP/1.1\r\nHost: x\r\n\r\n",
    ]
    /// What mutations are made of: bytes that mean something.
    private static let alphabet = Array("\r\n\t :;,0159aAfF+-xX/?#*%\u{0}\u{1}\u{7F}".utf8) + [0x80, 0xC3, 0xFF]

    /// All that a machine makes of bytes that come in pieces.
    private static func steps(_ bytes: [UInt8], pieces: [Int]) -> [String] {
        let now = NIODeadline.uptimeNanoseconds(1)
        var limits = HTTPLimits()
        limits.maximumBodyBytes = 64
        limits.maximumHeadBytes = 256
        var machine = ConnectionMachine(limits: limits, now: now)
        var steps: [String] = []
        var rest = bytes[...]
        var piece = 0
        while !rest.isEmpty {
            let count = pieces[piece % pieces.count]
            machine.receive(ByteBuffer(bytes: rest.prefix(count)), now: now)
            rest = rest.dropFirst(count)
            piece += 1
            steps: while true {
                switch machine.next(now: now) {
                case .wait: break steps
                case .sendContinue: steps.append("continue")
                case .request(let head, let body):
                    steps.append("\(head.method.rawValue) \(head.path) \(head.headers.fields) \(String(buffer: body))")
                    _ = machine.responseEnded(keepAlive: head.wantsKeepAlive, now: now)
                case .reject(let rejection, _): steps.append("\(rejection)")
                }
            }
        }
        return steps
    }

    @Test(arguments: UInt64(1)...8) func mutatedRequestsMeanTheSameInEveryFragmentation(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var accepted = 0
        var refused = 0
        for round in 0..<400 {
            var bytes = Array(Self.seeds[round % Self.seeds.count].utf8)
            for _ in 0..<Int.random(in: 0...3, using: &generator) {
                let position = Int.random(in: 0..<bytes.count, using: &generator)
                let byte = Self.alphabet.randomElement(using: &generator) ?? 0
                switch Int.random(in: 0..<3, using: &generator) {
                case 0: bytes[position] = byte
                case 1: bytes.insert(byte, at: position)
                default: bytes.remove(at: position)
                }
            }
            let whole = Self.steps(bytes, pieces: [bytes.count])
            let pieces = (0..<5).map { _ in Int.random(in: 1...20, using: &generator) }
            #expect(
                whole == Self.steps(bytes, pieces: [1]), "\(String(decoding: bytes, as: UTF8.self).debugDescription)")
            #expect(whole == Self.steps(bytes, pieces: pieces))
            // Nothing follows a refusal.
            #expect(whole.dropLast().allSatisfy { !$0.hasPrefix("HTTPRejection") })
            if whole.last?.hasPrefix("HTTPRejection") == true { refused += 1 } else { accepted += 1 }
        }
        // Both happen, else the test would show nothing.
        #expect(accepted > 50 && refused > 50)
    }
}
