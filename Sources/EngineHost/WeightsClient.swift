// Tandem — Apache-2.0

import CTandemSystem
import CUDAExecutor
import EngineLink
import Glibc
import Processes
import Synchronization

/// An engine's side of weights that another process holds for all engines of a GPU.
final class WeightsClient: Sendable {
    /// How long to wait, in milliseconds.
    struct Limits {
        /// For an owner to appear, or to come back.
        var absence: Int64 = 60_000
        /// For everything: an owner loads a model meanwhile.
        var total: Int64 = 900_000
        /// Between two attempts to reach it.
        var pause: Int64 = 20
    }

    private let path: String
    private let limits: Limits
    private let now: @Sendable () -> UInt64
    /// A connection whose end means that the memory is gone; -1 for none.
    private let connection = Mutex<Int32>(-1)

    /// - Parameters:
    ///   - path: the owner's socket.
    ///   - now: a monotonic clock in nanoseconds.
    init(path: String, limits: Limits = Limits(), now: @escaping @Sendable () -> UInt64) {
        self.path = path
        self.limits = limits
        self.now = now
    }

    deinit {
        let descriptor = connection.withLock { $0 }
        if descriptor >= 0 { close(descriptor) }
    }

    /// Asks until there is an answer, or for as long as the limits say. Blocks.
    func find() -> WeightSupply {
        let start = milliseconds
        var seen = start
        while true {
            let time = milliseconds
            if time - start > limits.total { return .none(reason: "their owner does not answer") }
            if time - seen > limits.absence { return .none(reason: "their owner does not run") }
            guard let descriptor = try? UnixSocket.connect(path, type: .packets) else {
                wait(-1, limits.pause)
                continue
            }
            let answer = answer(descriptor, until: start + limits.total)
            seen = milliseconds
            if let answer { return answer }
            wait(-1, limits.pause)
        }
    }

    /// What the owner says; null if it went away before.
    private func answer(_ descriptor: Int32, until end: Int64) -> WeightSupply? {
        var keeps = false
        defer { if !keeps { close(descriptor) } }
        guard wait(descriptor, max(0, end - milliseconds)) else { return nil }
        guard
            case (.bytes(let bytes), let carried) = UnixSocket.receiveWithDescriptor(
                descriptor, limit: WeightsMessage.longest)
        else { return nil }
        let message: WeightsMessage
        do throws(LinkError) {
            message = try WeightsMessage(text: bytes)
        } catch {
            if carried >= 0 { close(carried) }
            return .none(reason: error.message)
        }
        guard case .ready(let weights) = message, let offer = WeightOffer(weights) else {
            if carried >= 0 { close(carried) }
            if case .refused(let reason) = message { return .none(reason: reason) }
            return .none(reason: "their owner shares them in a way that is unknown here")
        }
        guard (offer.sharing == .descriptor) == (carried >= 0) else {
            if carried >= 0 { close(carried) }
            return .none(reason: "their owner's message has no descriptor, or one too many")
        }
        if offer.sharing == .handle {
            keeps = true
            connection.withLock { $0 = descriptor }
        }
        return .offered(offer, descriptor: carried)
    }

    /// Calls `body` on a thread of its own when the owner is gone, if the memory is gone with it. False if no thread can
    /// be had.
    func watch(_ body: @escaping @Sendable () -> Void) -> Bool {
        let descriptor = connection.withLock { $0 }
        guard descriptor >= 0 else { return true }
        let watch = Watch {
            // The owner says nothing more: whatever is to be read is the end.
            self.wait(descriptor, -1)
            body()
        }
        let context = Unmanaged.passRetained(watch)
        var thread = pthread_t()
        let code = pthread_create(
            &thread, nil,
            { pointer in
                pointer.map { Unmanaged<Watch>.fromOpaque($0).takeRetainedValue() }?.body()
                return nil
            }, context.toOpaque())
        guard code == 0 else {
            context.release()
            return false
        }
        pthread_detach(thread)
        return true
    }

    private final class Watch: Sendable {
        let body: @Sendable () -> Void

        init(_ body: @escaping @Sendable () -> Void) {
            self.body = body
        }
    }

    private var milliseconds: Int64 { Int64(now() / 1_000_000) }

    /// Whether a descriptor is readable within so many milliseconds; -1 waits for ever.
    @discardableResult
    private func wait(_ descriptor: Int32, _ limit: Int64) -> Bool {
        var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        while true {
            let count = tandem_poll(&entry, 1, limit < 0 ? -1 : limit * 1_000_000)
            if count == -EINTR { continue }
            return count > 0
        }
    }
}

extension WeightOffer {
    /// Null for a way of sharing that is not known here.
    init?(_ weights: SharedWeights) {
        guard let sharing = WeightSharing(rawValue: weights.sharing) else { return nil }
        self.init(
            identity: WeightIdentity(
                model: weights.model, layout: weights.layout, byteCount: weights.byteCount, device: weights.device),
            sharing: sharing, mappedBytes: weights.mappedBytes, handle: weights.handle)
    }

    var message: SharedWeights {
        SharedWeights(
            sharing: sharing.rawValue, model: identity.model, layout: identity.layout, byteCount: identity.byteCount,
            mappedBytes: mappedBytes, device: identity.device, handle: handle)
    }
}
