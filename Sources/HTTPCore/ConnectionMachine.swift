// Tandem — Apache-2.0

import NIOCore

/// The decisions of one connection: what its bytes mean, what to do next, and when to give up. A plain value without
/// I/O or clock; ``ConnectionHandler`` feeds it and does what it says.
struct ConnectionMachine {
    /// What to do next.
    enum Step {
        /// Nothing until more bytes arrive, or the answer in hand is given and taken.
        case wait
        /// Tell the client to send the body.
        case sendContinue
        /// Hand a request out; ``responseEnded(keepAlive:now:)`` must follow.
        case request(RequestHead, body: ByteBuffer)
        /// Answer with an error, then close as after ``responseEnded(keepAlive:now:)`` with false.
        case reject(HTTPRejection, RequestHead?)
    }

    /// What a deadline that has passed asks for.
    enum Expiry {
        case nothing
        case close
        case reject(HTTPRejection, RequestHead?)
        /// The client does not take what it is sent.
        case stalled
    }

    private enum Phase {
        /// Nothing of the next request has arrived.
        case idle(since: NIODeadline)
        case head(since: NIODeadline)
        case body(RequestHead, since: NIODeadline, received: Int, lastByte: NIODeadline)
        /// A request is handed out.
        case exchange
        /// The last answer is given; what still arrives is dropped.
        case lingering(since: NIODeadline)
    }

    /// Bytes of further requests that are read while one is in hand.
    static let maximumPipelinedBytes = 64 * 1024

    /// Bytes given to the connection that the system has not taken yet.
    private(set) var waitingBytes = 0
    private var lastOutboundProgress: NIODeadline
    private var phase: Phase
    private var input = ByteBuffer()
    private var scanned = 0
    private var decoder = ChunkedBodyDecoder()
    private var isFirstRequest = true
    private var mayBeginWithEmptyLine = true
    private(set) var isDraining = false
    private let limits: HTTPLimits

    init(limits: HTTPLimits, now: NIODeadline) {
        self.limits = limits
        phase = .idle(since: now)
        lastOutboundProgress = now
    }

    /// Whether more bytes are welcome.
    var wantsRead: Bool {
        if case .exchange = phase { return input.readableBytes < Self.maximumPipelinedBytes }
        return input.readableBytes == 0 || waitingBytes < limits.outboundHighWater
    }

    /// Whether the connection ends as soon as nothing waits to be sent.
    var isLingering: Bool {
        if case .lingering = phase { return true }
        return false
    }

    // MARK: - Inbound

    /// Takes bytes of the client.
    mutating func receive(_ bytes: ByteBuffer, now: NIODeadline) {
        switch phase {
        case .lingering: return
        case .body(let head, let since, let received, _):
            phase = .body(head, since: since, received: received + bytes.readableBytes, lastByte: now)
        case .idle, .head, .exchange: break
        }
        if input.readableBytes == 0 {
            input = bytes
        } else {
            if input.readerIndex > 0 { input.discardReadBytes() }
            input.writeImmutableBuffer(bytes)
        }
    }

    /// Bytes of a body that has not arrived whole.
    var unfinishedBodyBytes: Int {
        guard case .body = phase else { return 0 }
        return input.readableBytes + decoder.body.readableBytes
    }

    /// Gives up a body that has not arrived whole.
    mutating func refuseBody(_ rejection: HTTPRejection, now: NIODeadline) -> Step {
        guard case .body(let head, _, _, _) = phase else { return .wait }
        return reject(rejection, head, now: now)
    }

    /// What to do next; to be asked again until it says ``Step/wait``.
    ///
    /// - Parameter wantsBody: whether a request's body is waited for.
    mutating func next(now: NIODeadline, wantsBody: (RequestHead) -> Bool = { _ in true }) -> Step {
        do throws(HTTPRejection) {
            while true {
                switch phase {
                case .exchange, .lingering:
                    return .wait
                case .idle:
                    skipEmptyLine()
                    // A client that sends requests without taking the answers waits.
                    guard input.readableBytes > 0, waitingBytes < limits.outboundHighWater else { return .wait }
                    phase = .head(since: now)
                case .head:
                    guard var head = try takeHead() else { return .wait }
                    if head.framing != .none, !wantsBody(head) {
                        // What arrives of it is in the way of a next request.
                        head.wantsKeepAlive = false
                        phase = .exchange
                        return .request(head, body: ByteBuffer())
                    }
                    if let step = begin(head, now: now) { return step }
                    if case .length(let length) = head.framing, length > limits.maximumBodyBytes {
                        return reject(ChunkedBodyDecoder.tooLarge(limits), head, now: now)
                    }
                    if head.expectsContinue, input.readableBytes == 0 { return .sendContinue }
                case .body(let head, _, _, _):
                    do {
                        guard let body = try takeBody(head) else { return .wait }
                        phase = .exchange
                        return .request(head, body: body)
                    } catch {
                        return reject(error, head, now: now)
                    }
                }
            }
        } catch {
            return reject(error, nil, now: now)
        }
    }

    /// The answer to the request in hand is complete.
    ///
    /// - Returns: whether the connection stays open.
    mutating func responseEnded(keepAlive: Bool, now: NIODeadline) -> Bool {
        guard keepAlive, !isDraining else {
            linger(now: now)
            return false
        }
        isFirstRequest = false
        mayBeginWithEmptyLine = true
        phase = .idle(since: now)
        return true
    }

    /// Lets the request in hand, or arriving, be the last.
    ///
    /// - Returns: whether there is none, so that the connection is to be closed at once.
    mutating func drain(now: NIODeadline) -> Bool {
        isDraining = true
        guard case .idle = phase, input.readableBytes == 0 else { return false }
        if waitingBytes > 0 { linger(now: now) }
        return waitingBytes == 0
    }

    // MARK: - Outbound

    /// Bytes were given to the connection.
    mutating func outboundQueued(_ count: Int, now: @autoclosure () -> NIODeadline) {
        if waitingBytes == 0 { lastOutboundProgress = now() }
        waitingBytes += count
    }

    /// The system has taken bytes.
    mutating func outboundWritten(_ count: Int, now: NIODeadline) {
        waitingBytes -= count
        lastOutboundProgress = now
    }

    // MARK: - Time

    /// When ``expire(now:)`` is to be asked.
    var deadline: NIODeadline? {
        let inbound: NIODeadline? =
            switch phase {
            // While an answer is still being sent the connection is not idle.
            case .idle where waitingBytes > 0: nil
            case .idle(let since) where isFirstRequest: since + limits.headerTimeout
            case .idle(let since): max(since, lastOutboundProgress) + limits.keepAliveTimeout
            case .head(let since): since + limits.headerTimeout
            case .body(_, let since, let received, let lastByte):
                min(lastByte, since + .seconds(Int64(received / max(1, limits.minimumBodyRate))))
                    + limits.bodySilenceTimeout
            case .exchange: nil
            // Lingering is for what the client sends; what it is sent has its own time.
            case .lingering(let since): waitingBytes == 0 ? since + limits.lingerTimeout : nil
            }
        let outbound = waitingBytes > 0 ? lastOutboundProgress + limits.responseStallTimeout : nil
        guard let inbound, let outbound else { return inbound ?? outbound }
        return min(inbound, outbound)
    }

    /// What to do if the deadline has passed.
    mutating func expire(now: NIODeadline) -> Expiry {
        guard let deadline, deadline <= now else { return .nothing }
        if waitingBytes > 0, lastOutboundProgress + limits.responseStallTimeout <= now { return .stalled }
        let head: RequestHead?
        let what: String
        switch phase {
        case .idle, .exchange, .lingering: return .close
        case .head: (head, what) = (nil, "head")
        case .body(let arrived, _, _, _): (head, what) = (arrived, "body")
        }
        linger(now: now)
        return .reject(
            HTTPRejection(status: .requestTimeout, reason: "the request's \(what) did not arrive in time"), head)
    }

    // MARK: - Parts

    private mutating func linger(now: NIODeadline) {
        phase = .lingering(since: now)
        input = ByteBuffer()
        decoder = ChunkedBodyDecoder()
    }

    private mutating func reject(_ rejection: HTTPRejection, _ head: RequestHead?, now: NIODeadline) -> Step {
        linger(now: now)
        return .reject(rejection, head)
    }

    /// Clients of old send an empty line after a body (RFC 9112, section 2.2); one is forgiven.
    private mutating func skipEmptyLine() {
        guard mayBeginWithEmptyLine, input.readableBytes >= 2 else { return }
        if input.getInteger(at: input.readerIndex, as: UInt16.self) == 0x0D0A { input.moveReaderIndex(forwardBy: 2) }
        mayBeginWithEmptyLine = false
    }

    private mutating func takeHead() throws(HTTPRejection) -> RequestHead? {
        // The empty line may come in two pieces.
        if mayBeginWithEmptyLine, input.readableBytes == 1, input.readableBytesUInt8Span[0] == 0x0D { return nil }
        skipEmptyLine()
        guard input.readableBytes > 0 else { return nil }
        var scanned = scanned
        defer { self.scanned = scanned }
        let end = try RequestHeadParser.end(of: input.readableBytesUInt8Span, scanned: &scanned, limits: limits)
        guard let end else { return nil }
        scanned = 0
        let head = try RequestHeadParser.parse(input.readableBytesUInt8Span.extracting(0..<end), limits: limits)
        input.moveReaderIndex(forwardBy: end)
        return head
    }

    /// Goes on to the body, or hands out a request that has none.
    private mutating func begin(_ head: RequestHead, now: NIODeadline) -> Step? {
        if case .none = head.framing {
            phase = .exchange
            return .request(head, body: ByteBuffer())
        }
        phase = .body(head, since: now, received: input.readableBytes, lastByte: now)
        return nil
    }

    private mutating func takeBody(_ head: RequestHead) throws(HTTPRejection) -> ByteBuffer? {
        switch head.framing {
        case .none:
            return ByteBuffer()
        case .length(let length):
            return input.readSlice(length: length)
        case .chunked:
            guard try decoder.decode(&input, limits: limits) else { return nil }
            defer { decoder = ChunkedBodyDecoder() }
            return decoder.body
        }
    }
}
