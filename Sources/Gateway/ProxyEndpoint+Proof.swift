// Tandem — Apache-2.0

import EngineLink
import HTTPCore
import NIOCore

/// An engine that this server's supervisor started: it serves once it has computed something, and the supervisor has
/// said so. It has to prove itself again only after it was silent.
extension ProxyEndpoint {
    /// What the supervisor decides, and is told.
    struct Supervision {
        /// Of the process that this endpoint stands for.
        var pid: Int32
        /// Whether it gets requests, as far as the supervisor is concerned.
        var mayServe: Bool
        /// Whether it has to compute something first.
        var needsProof: Bool
        /// Whether it is to finish what it has.
        fileprivate var isDraining = false
        var report: (ExternalEngineReport) -> Void
        /// Called when it may have requests again.
        var resumed: () -> Void
        /// What was last said against it.
        fileprivate var told: String?

        init(
            pid: Int32, mayServe: Bool, needsProof: Bool, report: @escaping (ExternalEngineReport) -> Void,
            resumed: @escaping () -> Void
        ) {
            self.resumed = resumed
            self.pid = pid
            self.mayServe = mayServe
            self.needsProof = needsProof
            self.report = report
        }
    }

    /// Takes what the supervisor says of it now.
    func admit(_ state: RosterEntry.State) {
        guard let supervision else { return }
        let mayServe = state == .ready
        self.supervision?.mayServe = mayServe
        if mayServe != supervision.mayServe {
            if mayServe { probe() } else { retract() }
        }
        self.supervision?.isDraining = state == .draining
        if state == .ready, supervision.isDraining { supervision.resumed() }
        if state == .draining, !supervision.isDraining { tellWhenIdle() }
    }

    /// Says why it is not known to compute, once for each reason.
    func tellDoubt(_ reason: String) {
        guard let supervision, supervision.needsProof, supervision.told != reason else { return }
        self.supervision?.told = reason
        supervision.report(report(.doubt, reason))
    }

    /// It was silent: whether it computes is open again.
    func doubt(_ reason: String) {
        guard let supervision, !supervision.needsProof else { return }
        self.supervision?.needsProof = true
        delegate.endpointDoubted(self, reason)
        tellDoubt(reason)
    }

    private func report(_ finding: ExternalEngineReport.Finding, _ detail: String = "") -> ExternalEngineReport {
        ExternalEngineReport(
            engineIndex: UInt32(clamping: index), pid: supervision?.pid ?? 0, finding: finding, detail: detail)
    }

    /// How often is looked whether it has finished what it had.
    private static let idlePeriod = TimeAmount.milliseconds(100)

    /// Says when it has finished what it had, unless it gets something new before.
    private func tellWhenIdle() {
        guard let supervision, supervision.isDraining, !isRetired else { return }
        guard !isIdle else { return supervision.report(report(.idle)) }
        eventLoop.assumeIsolated().scheduleTask(in: Self.idlePeriod) { [weak self] in self?.tellWhenIdle() }
    }

    /// Lets it compute one token.
    func prove(_ models: [ModelCard]?) {
        ask(ComputeProbe.questions(model: models?.first?.name)[...], models, unsuited: "")
    }

    private func ask(_ questions: ArraySlice<ComputeProbe.Question>, _ models: [ModelCard]?, unsuited: String) {
        guard let question = questions.first else {
            failed("it computes nothing that it could be asked for: \(unsuited)")
            return
        }
        tellDoubt("it has not answered POST \(question.path)")
        // By the client of requests, which is as patient as they are: the first token may have to be compiled for.
        ask(question.path, question.body, by: client) { [weak self] result in
            guard let self, !self.isRetired else { return }
            switch result {
            case .failure(let error):
                self.proofFailed(error)
            case .success(let response):
                let verdict = ComputeProbe.verdict(
                    on: question, status: response.head.status.code, body: response.body)
                switch verdict {
                case .computes: self.proved(models)
                case .unsuited(let reason): self.ask(questions.dropFirst(), models, unsuited: reason)
                case .fails(let reason): self.failed(reason)
                }
            }
        }
    }

    private func proved(_ models: [ModelCard]?) {
        guard let supervision else { return }
        self.supervision?.needsProof = false
        self.supervision?.told = nil
        supervision.report(report(.computes, models?.first?.name ?? ""))
        if supervision.mayServe { delegate.endpointProved(self) }
        serves(models)
    }

    private func failed(_ reason: String) {
        delegate.log("engine \(index) at \(address) does not compute: \(reason)")
        tellDoubt(reason)
        down(reason)
    }

    private func proofFailed(_ error: HTTPClientError) {
        tellDoubt(error.message)
        unanswered(error)
    }
}
