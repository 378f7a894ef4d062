// Tandem — Apache-2.0

import EngineLink
import Testing

@testable import Supervision

/// Drives a state machine and collects what it asks for.
struct AdministrationHarness {
    var state: SupervisorState
    var now = Duration.zero
    var nextPid: Int32 = 100
    private var nextConnection = 0

    /// All processes serve.
    ///
    /// - Parameters:
    ///   - models: how many engines each has.
    ///   - placement: in the place of models: of one model's engines, several of which are in a process.
    init(
        models: [Int] = [2], placement: EnginePlacement? = nil, memory: MemoryWatch = MemoryWatch(),
        isServing: Bool = true,
        sharing: SharingRules? = nil
    ) {
        let groups =
            placement?.groups(names: ["m0"]) ?? EngineGroup.groups(models.enumerated().map { ("m\($0)", $1) })
        let engines = placement?.engineCount ?? models.reduce(0, +)
        state = SupervisorState(
            addresses: (0..<engines).map { "a\($0)" }, placement: placement, groups: groups,
            shutdownTimeout: .seconds(30),
            hangLimits: HangLimits(silence: .zero, step: .zero), sharing: sharing, memory: memory)
        _ = send(.begin)
        if sharing != nil { _ = send(.sharing(.admit)) }
        guard isServing else { return }
        for child in state.children { _ = becomeReady(child) }
    }

    mutating func send(_ event: SupervisorEvent) -> [SupervisorAction] {
        var actions = state.handle(event, at: now)
        // A start succeeds at once.
        for case .start(let child) in actions {
            nextPid += 1
            actions += state.handle(.started(child, pid: nextPid), at: now)
        }
        return actions
    }

    /// It says that it serves, and proves it where that is asked.
    mutating func becomeReady(_ child: Child) -> [SupervisorAction] {
        let actions = send(.ready(child, detail: "cpu"))
        guard case .engine(let index) = child, state.sharing != nil else { return actions }
        return actions + send(.sharing(.proved(engine: index, failure: nil)))
    }

    /// The answer to a command, and what else is done; it is answered once, and to the one who asked.
    mutating func ask(_ command: AdminCommand) -> (reply: AdminReply?, actions: [SupervisorAction]) {
        nextConnection += 1
        let actions = send(.administer(command, connection: nextConnection))
        let replies = actions.compactMap {
            if case .answer(let reply, nextConnection) = $0 { reply } else { nil }
        }
        return (replies.count == 1 ? replies[0] : nil, actions)
    }

    /// A command that is to be accepted.
    mutating func order(_ command: AdminCommand) -> [SupervisorAction] {
        let (reply, actions) = ask(command)
        if case .accepted = reply { return actions }
        Issue.record("\(command) was not accepted: \(String(describing: reply))")
        return actions
    }

    mutating func refusal(of command: AdminCommand) -> String? {
        let (reply, actions) = ask(command)
        #expect(actions.steps.isEmpty && actions.sentRosters.isEmpty)
        guard case .refused(let text) = reply else { return nil }
        return text
    }

    /// The engine ends as it was told, and serves again.
    mutating func restart(_ index: Int) -> [SupervisorAction] {
        send(.ended(.engine(index), .exited(code: 0))) + becomeReady(.engine(index))
    }

    mutating func sendDeadline() -> [SupervisorAction] {
        guard let deadline = state.nextDeadline else { return [] }
        now = max(now, deadline)
        return send(.timePassed)
    }

    var status: SupervisorStatus {
        state.status(
            SupervisorFacts(version: "1", pid: 7, host: "h", port: 8, runDirectory: "/r", cores: [[0], [1]]), at: now)
    }

    var rosterStates: [RosterEntry.State] { state.currentRoster.engines.map(\.state) }
    var states: [ChildStatus.State] { status.engines.map(\.process.state) }
}

extension [SupervisorAction] {
    var sentRosters: [Roster] { compactMap { if case .sendRoster(let roster) = $0 { roster } else { nil } } }
    var logLines: [String] { compactMap { if case .log(_, let text) = $0 { text } else { nil } } }
    /// Without rosters, log lines and answers.
    var steps: [SupervisorAction] {
        filter {
            switch $0 {
            case .sendRoster, .log, .answer, .sharing: false
            default: true
            }
        }
    }
}
