// Tandem — Apache-2.0

internal import EngineLink

/// What administrators ask for.
extension SupervisorState {
    /// Whether the engines of a process get requests.
    func isServing(_ index: Int) -> Bool {
        engines[index].condition == .ready && administration.orders[index] == nil
    }

    /// Whether another process of the same model gets requests.
    func othersServe(than index: Int) -> Bool {
        group(of: .engine(index)).map { groups[$0].engines.contains { $0 != index && isServing($0) } } ?? false
    }

    /// Takes a command and says what comes of it. What it asks for happens later; nothing waits here.
    mutating func administer(
        _ command: AdminCommand, at now: Duration, _ actions: inout [SupervisorAction]
    ) -> AdminReply {
        guard phase == .serving else { return .refused("the server is stopping") }
        // Before, a start that fails ends the program.
        guard wasAnnounced else { return .refused("the server is still starting") }
        switch command {
        case .status:
            // Answered by whoever knows the rest of it.
            return .refused("the status is not to be had here")
        case .drain(let engine, let isForced):
            guard let index = index(engine) else { return unknown(engine) }
            return drain(index, isForced: isForced, at: now, &actions)
        case .resume(let engine):
            guard let index = index(engine) else { return unknown(engine) }
            return resume(index, &actions)
        case .restart(let engine, let isForced):
            guard let index = index(engine) else { return unknown(engine) }
            return restart(index, isForced: isForced, at: now, &actions)
        case .restartAll(let isForced):
            return restartAll(isForced: isForced, at: now, &actions)
        }
    }

    /// The process of an engine: what an administrator asks of an engine happens to all of its process.
    private func index(_ engine: UInt32) -> Int? {
        Int(exactly: engine).flatMap { placement.process(of: $0) }
    }

    private func unknown(_ engine: UInt32) -> AdminReply {
        .refused(
            "there is no engine \(engine): "
                + (placement.engineCount == 1 ? "the only one is 0" : "they are 0 to \(placement.engineCount - 1)"))
    }

    /// The model of an engine by name; the only one needs none.
    private func model(of index: Int) -> String {
        groups.count > 1 ? group(of: .engine(index)).map { groups[$0].name } ?? "its model" : "the model"
    }

    // MARK: - One engine process

    private mutating func drain(
        _ index: Int, isForced: Bool, at now: Duration, _ actions: inout [SupervisorAction]
    ) -> AdminReply {
        let title = title(.engine(index))
        switch administration.orders[index] {
        case .drain: return .accepted("\(title) is drained already")
        case .end: return .refused("\(title) is being restarted")
        case nil: break
        }
        if let refusal = rollingRefusal { return refusal }
        let isServing = isServing(index)
        guard isForced || !isServing || othersServe(than: index) else {
            return .refused(
                "\(title) is the only one that serves \(model(of: index)): requests would wait, and fail after a "
                    + "while; --force drains it all the same")
        }
        administration.orders[index] = .drain(since: now)
        actions.append(.log(.info, "\(title) is drained on request: it gets no new requests"))
        return .accepted(
            isServing
                ? "\(title) finishes what it has and gets nothing new"
                : "\(title) does not serve now, and will get no requests when it is ready")
    }

    private mutating func resume(_ index: Int, _ actions: inout [SupervisorAction]) -> AdminReply {
        let title = title(.engine(index))
        switch administration.orders[index] {
        case .end: return .refused("\(title) is being restarted, and serves when it is ready")
        case nil: return .accepted("\(title) is not drained")
        case .drain: break
        }
        administration.orders[index] = nil
        engines[index].isIdle = false
        actions.append(.log(.info, "\(title) is resumed on request"))
        return .accepted(
            engines[index].condition == .ready ? "\(title) serves again" : "\(title) serves when it is ready")
    }

    private mutating func restart(
        _ index: Int, isForced: Bool, at now: Duration, _ actions: inout [SupervisorAction]
    ) -> AdminReply {
        let title = title(.engine(index))
        if case .end = administration.orders[index] { return .refused("\(title) is being restarted already") }
        if let refusal = rollingRefusal { return refusal }
        switch engines[index].condition {
        case .killed: return .refused("\(title) was killed because it hangs, and is started again")
        case .idle: return .refused("\(title) does not run")
        case .waiting:
            administration.orders[index] = nil
            actions.append(.log(.info, "\(title) is started on request"))
            start(.engine(index), at: now, &actions)
            return .accepted("\(title) is started now")
        case .ready: break
        default: return .refused("\(title) is starting already")
        }
        guard isForced || !isServing(index) || othersServe(than: index) else {
            return .refused(
                "\(title) is the only one that serves \(model(of: index)): requests would wait until it is ready "
                    + "again; --force restarts it all the same")
        }
        end(index, .request, at: now, &actions)
        return .accepted("\(title) finishes what it has and is started again")
    }

    /// Asks an engine that is ready to end, to be started again.
    mutating func end(
        _ index: Int, _ reason: RestartReason, at now: Duration, _ actions: inout [SupervisorAction]
    ) {
        let limit =
            othersServe(than: index) ? shutdownTimeout : min(shutdownTimeout, Administration.lastEngineDrain)
        administration.orders[index] = .end(Administration.Ending(reason: reason, deadline: now + limit))
        actions.append(
            .log(
                .info,
                "\(title(.engine(index))) is to be restarted: it finishes what it has, for at most \(Self.text(limit))")
        )
        // First of all nobody sends it anything new.
        updateRoster(&actions)
        if mayEndNow(index) { actions.append(.terminate(.engine(index))) }
    }

    /// Starts an engine again whose end was asked for. False if it was not.
    mutating func endedAsOrdered(
        _ child: Child, _ exit: ChildExit, at now: Duration, _ actions: inout [SupervisorAction]
    ) -> Bool {
        guard case .engine(let index) = child, case .end(let ending) = administration.orders[index] else {
            return false
        }
        administration.orders[index] = nil
        var text = ending.reason.text
        if let hang = engines[index].hang {
            text += ", and killed: \(hang)"
        } else if !exit.isAnswerToTermination {
            text += ", and \(exit)"
        }
        engines[index].lastExit = text
        engines[index].restarts += 1
        start(child, at: now, &actions)
        return true
    }

    // MARK: - Time

    /// When ``administrationTimePassed(at:_:)`` has something to do next; null if nothing waits.
    var administrationDeadline: Duration? {
        guard phase == .serving else { return nil }
        // One that is no longer ready is ended by somebody else already.
        let endings = engines.indices.compactMap { index -> Duration? in
            guard case .end(let ending) = administration.orders[index], ending.stage != .killed,
                engines[index].condition == .ready
            else { return nil }
            return ending.deadline
        }
        var rolling: Duration?
        if let restart = administration.rollingRestart, restart.state == .running {
            switch restart.current?.stage {
            case .waiting(let deadline), .returning(let deadline): rolling = deadline
            case .ending, nil: break
            }
        }
        return (endings + [rolling].compactMap { $0 }).min()
    }

    mutating func administrationTimePassed(at now: Duration, _ actions: inout [SupervisorAction]) {
        guard phase == .serving else { return }
        for index in engines.indices {
            guard case .end(var ending) = administration.orders[index], ending.deadline <= now,
                engines[index].condition == .ready
            else { continue }
            let title = title(.engine(index))
            switch ending.stage {
            case .finishing:
                ending.stage = .abandoning
                ending.deadline = now + Self.killGrace
                actions.append(.log(.info, "\(title) has not finished what it has: the rest moves to another engine"))
                actions.append(.terminate(.engine(index)))
            case .abandoning:
                ending.stage = .killed
                engines[index].condition = .killed
                engines[index].hang = "it did not end in time"
                actions.append(.log(.warning, "\(title) does not end and is killed"))
                kill(index, at: now, &actions)
            case .killed: break
            }
            administration.orders[index] = .end(ending)
        }
    }
}

// MARK: - All engines

extension SupervisorState {
    private mutating func restartAll(
        isForced: Bool, at now: Duration, _ actions: inout [SupervisorAction]
    ) -> AdminReply {
        if let refusal = rollingRefusal { return refusal }
        let alone = groups.filter { $0.engines.count == 1 }
        if !isForced, let first = alone.first {
            let unit = placement.isShared ? "engine process" : "engine"
            let whose = groups.count == 1 ? "there is only one \(unit)" : "\(first.name) has only one \(unit)"
            return .refused(
                "\(whose): requests would wait until it is ready again; --force restarts it all the same")
        }
        administration.rollingRestart = Administration.RollingRestart(
            isForced: isForced, pending: Array(engines.indices))
        actions.append(.log(.info, "a rolling restart of \(units) begins"))
        advanceRollingRestart(at: now, &actions)
        return .accepted(
            engines.count == 1
                ? "\(title(.engine(0))) is restarted" : "\(units) are restarted, one after the other")
    }

    /// New engines make new sockets: those that run are reached over connections that they have, but not by another
    /// gateway.
    mutating func directoryRestored(
        _ enginesCanRestart: Bool, at now: Duration, _ actions: inout [SupervisorAction]
    ) {
        // Whoever starts now has its socket there; who is drained stays so, over the connections that it has.
        let own = engines.indices.filter { index in
            let isUp = engines[index].condition == .ready || engines[index].condition == .proving
            return isUp && !isExternal(.engine(index)) && administration.orders[index] == nil
        }
        let restarts = enginesCanRestart && phase == .serving && rollingRefusal == nil && !own.isEmpty
        actions.append(
            .log(
                .warning,
                "the directory of the server's sockets was removed, by another program, and is made again; "
                    + (own.isEmpty
                        ? "engines that start have theirs in it"
                        : restarts
                            ? "engines restart one after the other, to have theirs in it"
                            : "restart the server when it suits, as the sockets of what runs are missing in it")))
        guard restarts else { return }
        administration.rollingRestart = Administration.RollingRestart(isForced: true, pending: own)
        advanceRollingRestart(at: now, &actions)
    }

    /// What is restarted one after the other.
    private var units: String { "\(engines.count) \(placement.isShared ? "engine processes" : "engines")" }

    /// Why nothing else is begun now.
    private var rollingRefusal: AdminReply? {
        guard let rolling = administration.rollingRestart, rolling.state == .running else { return nil }
        let current = rolling.current.map { ", \(placement.title($0.engine)) is at it" } ?? ""
        return .refused("a rolling restart runs: \(rolling.restarted.count) of \(units) are done\(current)")
    }

    /// Takes the next steps of a rolling restart that are due.
    mutating func advanceRollingRestart(at now: Duration, _ actions: inout [SupervisorAction]) {
        while let rolling = administration.rollingRestart, rolling.state == .running {
            guard phase == .serving else {
                return stopRollingRestart("the server was asked to stop", &actions)
            }
            guard let current = rolling.current else {
                guard let next = rolling.pending.first else {
                    administration.rollingRestart?.state = .done
                    actions.append(.log(.info, "the rolling restart is done"))
                    return
                }
                administration.rollingRestart?.pending.removeFirst()
                administration.rollingRestart?.current = Administration.RollingRestart.Current(
                    engine: next, stage: .waiting(deadline: now + Administration.returnLimit))
                continue
            }
            guard advance(current, isForced: rolling.isForced, at: now, &actions) else { return }
        }
    }

    /// - Returns: whether something changed.
    private mutating func advance(
        _ current: Administration.RollingRestart.Current, isForced: Bool, at now: Duration,
        _ actions: inout [SupervisorAction]
    ) -> Bool {
        let index = current.engine
        let title = title(.engine(index))
        switch current.stage {
        case .waiting(let deadline):
            switch engines[index].condition {
            case .ready:
                // It is being restarted by somebody else.
                if case .end = administration.orders[index] { break }
                guard isForced || othersServe(than: index) else { break }
                administration.rollingRestart?.current?.stage = .ending
                end(index, .rollingRestart, at: now, &actions)
                return true
            case .waiting:
                administration.orders[index] = nil
                administration.rollingRestart?.current?.stage = .returning(
                    deadline: now + Administration.returnLimit)
                start(.engine(index), at: now, &actions)
                return true
            default: break
            }
            guard deadline <= now else { return false }
            stopRollingRestart(
                engines[index].condition == .ready
                    ? "\(title) was not restarted: no other engine serves \(model(of: index))"
                    : "\(title) does not serve", &actions)
            return true
        case .ending:
            if case .end = administration.orders[index] { return false }
            administration.rollingRestart?.current?.stage = .returning(deadline: now + Administration.returnLimit)
            return true
        case .returning(let deadline):
            switch engines[index].condition {
            case .ready:
                administration.rollingRestart?.restarted.append(index)
                administration.rollingRestart?.current = nil
            case .waiting:
                stopRollingRestart("\(title) did not come back: it \(engines[index].lastExit)", &actions)
            default:
                guard deadline <= now else { return false }
                let limit = Self.text(Administration.returnLimit)
                stopRollingRestart("\(title) did not come back within \(limit)", &actions)
            }
            return true
        }
    }

    private mutating func stopRollingRestart(_ why: String, _ actions: inout [SupervisorAction]) {
        administration.rollingRestart?.state = .stopped(why: why)
        let rest = administration.rollingRestart?.pending ?? []
        let numbers = rest.flatMap { placement.engines[$0].map(String.init) }.joined(separator: ", ")
        let left = rest.isEmpty ? "" : "; left alone: \(numbers)"
        actions.append(
            .log(phase == .serving ? .error : .info, "the rolling restart stopped: \(why)\(left)"))
    }
}
