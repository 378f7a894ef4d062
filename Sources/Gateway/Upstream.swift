// Tandem — Apache-2.0

import EngineLink
import Requests
import Routing

/// An engine as the gateway uses it: sequences in, outputs out. All calls and callbacks happen on the event loop of the
/// dispatcher that owns it.
protocol Upstream<Work>: AnyObject {
    associatedtype Work
    var engine: EngineID { get }
    /// How a sequence that this engine lost can go on elsewhere.
    var resumeCapability: ResumeCapability { get }
    /// How the router learns what it has in its prefix cache.
    var prefixKnowledge: PrefixKnowledge { get }
    /// The same on every event loop, and for an engine that comes back under another id.
    var routingKey: UInt64 { get }
    func start(_ work: Work)
    func cancel(_ id: RequestID)
    func pause(_ id: RequestID)
    func resume(_ id: RequestID)
}

extension Upstream {
    var prefixKnowledge: PrefixKnowledge { .guessed }
    var routingKey: UInt64 { engine.rawValue }
}

/// What an engine accepts as the state of a sequence that another one began.
enum ResumeCapability {
    /// Prompt and generated token ids: the continuation equals the undisturbed run.
    case tokens
    /// What was said so far, as a prompt; whether that does, its owner knows.
    case text
    /// Nothing: a sequence can only be started anew, while none of it was sent.
    case none
}

/// An engine behind an engine link.
final class LinkUpstream: Upstream {
    let engine: EngineID
    /// Where it stands in the roster.
    let index: UInt32
    let hello: EngineHello
    private let send: (LinkMessage) -> Void

    /// - Parameter send: hands a message to the link; a broken link drops it and reports its loss separately.
    init(engine: EngineID, index: UInt32, hello: EngineHello, send: @escaping (LinkMessage) -> Void) {
        self.engine = engine
        self.index = index
        self.hello = hello
        self.send = send
    }

    var resumeCapability: ResumeCapability { .tokens }
    var prefixKnowledge: PrefixKnowledge { .told }
    var routingKey: UInt64 { UInt64(index) }

    func start(_ request: EngineRequest) { send(.submit(request)) }
    func cancel(_ id: RequestID) { send(.cancel(id)) }
    func pause(_ id: RequestID) { send(.pause(id)) }
    func resume(_ id: RequestID) { send(.resume(id, credits: .max)) }
}
