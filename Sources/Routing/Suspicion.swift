// Tandem — Apache-2.0

public import Requests

/// When a ``Suspicion`` arises and when it suffices.
public struct SuspicionLimits: Sendable, Equatable {
    /// Engines in a row that are lost with a sequence before any of them gave it a token: then it is a suspect.
    public var losses = 3
    /// Engines that are lost with it while it was the only one that can have been the cause.
    public var charges = 3
    /// What a charge weighs, in engines that were lost without it.
    public var chargesPerOtherLoss = 2
    /// Sequences that may be tried at once, when those before them did no harm.
    public var width = 64
    /// Engines that are lost within this time are lost for one reason.
    public var together = Duration.seconds(1)

    public init() {}
}

/// Finds the sequence that kills every engine it meets, among those that were merely there: a value without a clock or
/// I/O.
///
/// All that an engine ran goes on elsewhere when it is lost, its cause too, and all of them may be lost again together:
/// having been there proves nothing. So once a sequence has lost ``SuspicionLimits/losses`` engines in a row without a
/// token, there is an alarm, until no such sequence is left: whatever begins, begins alone, until it has got a token. The
/// more did since the last loss, the more begin at once, but suspects that were tried already are always alone. An engine
/// that is lost with the only one on trial, while every other sequence that runs has got a token where it is, is a charge
/// against that one. ``SuspicionLimits/charges`` of them convict, if they outweigh the engines that were lost meanwhile
/// without it: where engines die anyway, a sequence is innocent.
public struct Suspicion: Sendable {
    private struct Loss {
        var engine: EngineID
        var time: Duration
    }

    private struct Record {
        /// Engines that were lost with it.
        var losses: [Loss] = []
        var charges = 0
    }

    private let limits: SuspicionLimits
    /// Of sequences that lost an engine and got no token since.
    private var records: [RequestID: Record] = [:]
    private var suspects = 0
    /// Sequences that began during an alarm and got no token yet.
    public private(set) var onTrial: Set<RequestID> = []
    private var width = 1
    /// Engines that were lost of late.
    private var losses: [Loss] = []
    private static let rememberedLosses = 256
    /// When an engine was last lost while a sequence ran that was neither on trial nor had got a token.
    private var doubt: Duration?

    public init(limits: SuspicionLimits = SuspicionLimits()) {
        self.limits = limits
    }

    /// Whether there is nothing to tell it but of lost engines.
    public var isEmpty: Bool { records.isEmpty && onTrial.isEmpty }

    public var isAlarmed: Bool { suspects > 0 }

    /// How many engines a sequence lost in a row without a token.
    public func losses(of id: RequestID) -> Int { records[id]?.losses.count ?? 0 }

    public func isSuspect(_ id: RequestID) -> Bool { losses(of: id) >= limits.losses }

    /// Whether a sequence may be given to an engine now. Who lost most engines should be asked for first: that saves
    /// engines.
    public func mayBegin(_ id: RequestID) -> Bool {
        guard isAlarmed else { return true }
        let isAlone = wasTried(id) || onTrial.contains(where: wasTried)
        return onTrial.count < (isAlone ? 1 : width)
    }

    private func wasTried(_ id: RequestID) -> Bool { losses(of: id) > limits.losses }

    /// A sequence was given to an engine.
    public mutating func began(_ id: RequestID) {
        if isAlarmed { onTrial.insert(id) }
    }

    /// A sequence has got a token, or has ended: it does no harm.
    public mutating func cleared(_ id: RequestID) {
        drop(id)
        if onTrial.remove(id) != nil { width = min(limits.width, width + 1) }
    }

    /// A sequence was cancelled, or failed in another way.
    public mutating func forget(_ id: RequestID) {
        drop(id)
        onTrial.remove(id)
    }

    private mutating func drop(_ id: RequestID) {
        if isSuspect(id) { suspects -= 1 }
        records[id] = nil
    }

    /// A sequence is not computed for now, so that others would wait in vain.
    public mutating func suspend(_ id: RequestID) {
        onTrial.remove(id)
    }

    /// An engine was lost, or gave up what it had because it ends. If both come, they are one loss.
    ///
    /// - Parameters:
    ///   - sequences: what it had in hand.
    ///   - othersAreProven: whether every sequence that is not on trial, wherever it runs, those of this engine among
    ///     them, has got a token from its engine.
    /// - Returns: those that are not to be tried again. They are forgotten.
    public mutating func engineLost(
        _ engine: EngineID, with sequences: [RequestID], othersAreProven: Bool, at now: Duration
    ) -> [RequestID] {
        let loss = Loss(engine: engine, time: now)
        losses.append(loss)
        if losses.count > Self.rememberedLosses { losses.removeFirst() }
        if !othersAreProven { doubt = now }
        let tried = sequences.filter { onTrial.contains($0) }
        let isCharge = onTrial.count == 1 && tried.count == 1 && doubt.map { !isOne($0, now) } ?? true
        if !tried.isEmpty { width = 1 }
        onTrial.subtract(tried)
        for id in sequences where records[id]?.losses.last?.engine != engine {
            records[id, default: Record()].losses.append(loss)
            if isCharge, id == tried.first { records[id]?.charges += 1 }
            guard losses(of: id) == limits.losses else { continue }
            if !isAlarmed { width = 1 }
            suspects += 1
        }
        let convicted = tried.filter { id in
            guard let record = records[id], record.charges >= limits.charges else { return false }
            return record.charges > limits.chargesPerOtherLoss * lossesApart(from: record)
        }
        for id in convicted {
            let own = records[id]?.losses ?? []
            drop(id)
            // They had a cause, and say nothing about others.
            losses = losses.filter { loss in !own.contains { isOne($0.time, loss.time) } }
        }
        return convicted
    }

    /// How many engines were lost without a sequence since it lost its first one.
    private func lossesApart(from record: Record) -> Int {
        guard let first = record.losses.first else { return 0 }
        return losses.count { loss in
            loss.time >= first.time && !record.losses.contains { isOne($0.time, loss.time) }
        }
    }

    private func isOne(_ first: Duration, _ second: Duration) -> Bool {
        let apart = first - second
        return (apart < .zero ? .zero - apart : apart) <= limits.together
    }
}
