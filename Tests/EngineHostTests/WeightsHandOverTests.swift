// Tandem — Apache-2.0

import CTandemSystem
import CUDAExecutor
import EngineLink
import Foundation
import Processes
import Requests
import Synchronization
import TestSupport
import Testing

@testable import EngineHost

/// An engine's questions to whoever listens where the owner of weights should.
@Suite(.timeLimit(.minutes(5))) struct WeightsHandOverTests {
    /// What a peer does with one connection.
    enum Act: Sendable {
        case hangUp
        case send([UInt8], with: Int32 = -1)
    }

    /// A listener that does one act for each connection, on a thread of its own, and keeps what it has sent to open.
    final class Peer: Sendable {
        let path: String
        private let listener: Int32
        private let connections = Mutex<[Int32]>([])

        init(_ acts: [Act]) throws {
            path = "/tmp/tandem-weights-\(UUID().uuidString.prefix(8)).sock"
            listener = try UnixSocket.listen(path, type: .packets)
            Thread.detachNewThread { [self] in
                for act in acts {
                    var entry = pollfd(fd: listener, events: Int16(POLLIN), revents: 0)
                    while tandem_poll(&entry, 1, -1) == -EINTR {}
                    guard let connection = UnixSocket.accept(listener) else { return }
                    guard case .send(let bytes, let descriptor) = act else {
                        close(connection)
                        continue
                    }
                    // First, because whoever has the bytes may want the connection to end at once.
                    connections.withLock { $0.append(connection) }
                    _ = UnixSocket.send(bytes, with: descriptor, to: connection)
                }
            }
        }

        func hangUp() {
            connections.withLock { connections in
                for connection in connections { close(connection) }
                connections = []
            }
        }

        deinit {
            hangUp()
            close(listener)
            unlink(path)
        }
    }

    static let descriptor = SharedWeights(
        sharing: "descriptor", model: Digest128(high: 1, low: 2), layout: 3, byteCount: 4, mappedBytes: 5,
        device: "GPU-1")
    static let handle = SharedWeights(
        sharing: "handle", model: Digest128(high: 1, low: 2), layout: 3, byteCount: 4, mappedBytes: 5, device: "GPU-1",
        handle: Array(repeating: 7, count: 64))

    static func bytes(_ message: WeightsMessage) -> [UInt8] { Array(message.text.utf8) }

    static func find(_ acts: [Act]) throws -> (WeightSupply, WeightsClient, Peer) {
        let peer = try Peer(acts)
        let client = WeightsClient(path: peer.path, now: EngineHost.monotonicNanoseconds)
        return (client.find(), client, peer)
    }

    static func reason(_ acts: [Act]) throws -> String {
        switch try find(acts).0 {
        case .none(let reason): return reason
        case .offered(_, let descriptor):
            if descriptor >= 0 { close(descriptor) }
            return "offered"
        }
    }

    @Test func aDescriptorComesWithTheOffer() throws {
        let file = tandem_memfd_create("tandem-test")
        try #require(file >= 0)
        defer { close(file) }
        try #require(pwrite(file, "weights", 7, 0) == 7)
        let (supply, _, _) = try Self.find([.send(Self.bytes(.ready(Self.descriptor)), with: file)])
        guard case .offered(let offer, let descriptor) = supply else {
            Issue.record("nothing was offered: \(supply)")
            return
        }
        defer { close(descriptor) }
        #expect(offer.message == Self.descriptor)
        var read = [UInt8](repeating: 0, count: 7)
        #expect(descriptor != file && pread(descriptor, &read, 7, 0) == 7 && read == Array("weights".utf8))
        // It does not leak into children.
        #expect(fcntl(descriptor, F_GETFD) & FD_CLOEXEC != 0)
    }

    @Test func anOwnerThatDiesIsAskedAgain() throws {
        let (supply, _, _) = try Self.find([.hangUp, .hangUp, .send(Self.bytes(.ready(Self.handle)))])
        guard case .offered(let offer, let descriptor) = supply else {
            Issue.record("nothing was offered: \(supply)")
            return
        }
        #expect(descriptor == -1 && offer.message == Self.handle)
    }

    @Test func aRefusalIsPassedOn() throws {
        #expect(try Self.reason([.send(Self.bytes(.refused(reason: "the GPU is full")))]) == "the GPU is full")
    }

    @Test func whatIsNoOfferIsRefused() throws {
        let whole = Self.bytes(.ready(Self.descriptor))
        let file = tandem_memfd_create("tandem-test")
        try #require(file >= 0)
        defer { close(file) }
        var unknown = Self.descriptor
        unknown.sharing = "pigeon"
        for act in [
            Act.send(Array("garbage".utf8)), .send(Array("garbage".utf8), with: file), .send(Array(whole.dropLast(9))),
            .send(Array(whole.dropLast(9)), with: file),
            // A descriptor too few, and one too many.
            .send(whole), .send(Self.bytes(.ready(Self.handle)), with: file),
            .send(Self.bytes(.ready(unknown))), .send(Self.bytes(.ready(unknown)), with: file),
        ] {
            let reason = try Self.reason([act])
            #expect(!reason.isEmpty && reason != "offered", "\(act)")
        }
    }

    /// A message that is too long ends the connection, as an owner that dies does.
    @Test func aMessageThatIsTooLongIsNotTaken() throws {
        let long = [UInt8](repeating: UInt8(ascii: "x"), count: WeightsMessage.longest + 1)
        #expect(try Self.reason([.send(long), .send(Self.bytes(.refused(reason: "second")))]) == "second")
    }

    @Test func nobodyIsWaitedForForEver() {
        let time = Mutex<UInt64>(0)
        let client = WeightsClient(
            path: "/tmp/tandem-weights-nobody.sock",
            limits: WeightsClient.Limits(absence: 60_000, total: 900_000, pause: 1)
        ) {
            time.withLock { time in
                time += 10_000_000_000
                return time
            }
        }
        guard case .none(let reason) = client.find() else {
            Issue.record("somebody was found")
            return
        }
        #expect(reason.contains("does not run"))
    }

    @Test func theEndOfAHandlesOwnerIsHeard() async throws {
        let (supply, client, peer) = try Self.find([.send(Self.bytes(.ready(Self.handle)))])
        guard case .offered = supply else {
            Issue.record("nothing was offered: \(supply)")
            return
        }
        let ends = Inbox<Bool>()
        #expect(client.watch { ends.put(true) })
        peer.hangUp()
        #expect(await ends.next() == true)
    }
}
