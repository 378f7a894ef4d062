// Tandem — Apache-2.0

import NIOCore
import Requests
import Routing

/// What a dispatcher tells the owner of a sequence.
protocol WorkOwner<Work, Output>: AnyObject {
    associatedtype Work
    associatedtype Output
    /// The sequence as it must be submitted now: with what was generated before, if it goes on elsewhere.
    func work(choice: Int, id: RequestID) -> Work
    /// Whether the sequence may start again although the engine that ran it can hand over nothing.
    func maySubmitAgain(choice: Int) -> Bool
    /// Whether the client has got something of it, so that it has to go on and cannot begin anew.
    func hasSent(choice: Int) -> Bool
    /// How it lost its engine, if the owner knows better than the dispatcher.
    var lossReason: String? { get }
    /// Whether its client takes nothing at the moment: what starts, or starts again elsewhere, has to start paused.
    var isPaused: Bool { get }
    /// The sequence was sent to an engine, named by its ``Upstream/routingKey``.
    func placed(choice: Int, on engine: UInt64)
    /// Which session it belongs to, if it does to any: those of one go to the same engine while that costs little.
    var session: UInt64? { get }
    /// The ``Upstream/routingKey`` of the only engine that may have it, whatever happens; `nil` if any may.
    var onlyEngine: UInt64? { get }
    func receive(choice: Int, output: Output)
    /// The sequence cannot be served.
    func fail(choice: Int, error: APIError)
    /// The id that its answer carries; empty if nobody may know.
    var requestID: String { get }
}

extension WorkOwner {
    var requestID: String { "" }
    var lossReason: String? { nil }
    func hasSent(choice: Int) -> Bool { !maySubmitAgain(choice: choice) }
    func placed(choice: Int, on engine: UInt64) {}
    var session: UInt64? { nil }
    var onlyEngine: UInt64? { nil }
}

/// What a dispatcher has to know of what it dispatches.
protocol DispatchedWork {
    /// What it will cost its engine.
    var cost: TokenCost { get }
    /// Engines that cannot do it, because they have another model.
    var excluded: Set<EngineID> { get }
}

extension DispatchedWork {
    var excluded: Set<EngineID> { [] }
}

/// What a dispatcher has to know of what comes back.
protocol DispatchedOutput {
    var id: RequestID { get }
    /// Tokens that it brings.
    var newTokens: Int { get }
    /// Whether it is the last of its sequence, and how that ended.
    var end: DispatchEnd? { get }
}

/// How a sequence ended on its engine.
enum DispatchEnd {
    case finished
    /// It may go on elsewhere, if the kind of failure permits.
    case failed(RequestFailure)
    /// The engine could not be reached, or broke off: it goes on elsewhere, or waits until an engine serves.
    case lost(String)
}

/// Limits of a ``Dispatcher``.
struct DispatchLimits {
    /// Sequences that may be unfinished at once, running or waiting; more are refused with 429.
    var sequences = 4096
    /// How long a sequence waits for an engine when none serves.
    var hold: TimeAmount = .seconds(30)
    /// How often a sequence may be submitted.
    var attempts = 16
    /// How often, if an engine of ours fails with it and there is no other.
    var attemptsWithoutOther = 4
}

extension EngineRequest: DispatchedWork {
    var cost: TokenCost { TokenCost(prompt: tokens.count, new: maximumNewTokens - resumeOffset) }
}

extension SequenceOutput: DispatchedOutput {
    var newTokens: Int { tokens.count }

    var end: DispatchEnd? {
        switch finish {
        case nil: nil
        case .failed, .cancelled:
            .failed(
                failure
                    ?? RequestFailure(kind: .engine, message: "the engine gave the request up without a reason"))
        default: .finished
        }
    }
}
