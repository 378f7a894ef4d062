// Tandem — Apache-2.0

import EngineLink
import HTTPCore
import NIOCore
import Routing

/// Engines that a supervisor starts by commands of others: its roster says where they are, and they are asked whether
/// they compute.
extension ProxyShard {
    /// Takes a roster; one that is not newer, or that comes from elsewhere than a supervisor, is none of its business.
    func update(_ roster: Roster) {
        guard configuration.upstreams == nil, roster.generation > rosterGeneration || rosterGeneration == 0 else {
            return
        }
        rosterGeneration = roster.generation
        entries = roster.engines.filter { $0.address.hasPrefix("http:") }
        let living = entries.filter(Self.isThere)
        let gone = endpoints.filter { endpoint in !living.contains { Self.names($0, endpoint) } }
        endpoints.removeAll { endpoint in gone.contains { $0 === endpoint } }
        for endpoint in gone {
            let reason = entries.first { $0.index == endpoint.index }?.reason ?? ""
            endpoint.shutdown(reason: reason.isEmpty ? "its process ended" : reason)
        }
        for entry in living {
            if let endpoint = endpoints.first(where: { Self.names(entry, $0) }) {
                endpoint.admit(entry.state)
            } else if let address = try? HTTPEndpoint(entry.address) {
                let endpoint = endpoint(entry, address)
                endpoints.append(endpoint)
                endpoint.probe()
                endpoint.admit(entry.state)
            } else {
                log("engine \(entry.index): \(entry.address) is no address of a server")
            }
        }
        endpoints.sort { $0.index < $1.index }
        endpointsChanged()
        if endpoints.allSatisfy({ $0.hasAnswer || $0.supervision?.mayServe == false }) { settledPromise.succeed() }
    }

    private func endpoint(_ entry: RosterEntry, _ address: HTTPEndpoint) -> ProxyEndpoint {
        let reports = configuration.supervisorReports
        return ProxyEndpoint(
            index: Int(entry.index), address: address, eventLoop: eventLoop, settings: settings,
            dispatcher: dispatcher, delegate: self,
            supervision: ProxyEndpoint.Supervision(
                pid: entry.pid, mayServe: entry.state == .ready,
                // Of one that is ready already, another gateway has seen it compute.
                needsProof: entry.state == .starting && reports.isProver(eventLoop),
                report: { [eventLoop] in reports.send($0, of: eventLoop) },
                resumed: { [eventLoop] in reports.resumed(entry.pid, on: eventLoop) }))
    }

    private static func isThere(_ entry: RosterEntry) -> Bool {
        guard entry.pid != 0 else { return false }
        switch entry.state {
        case .starting, .ready, .draining: return true
        case .restarting, .failed: return false
        }
    }

    private static func names(_ entry: RosterEntry, _ endpoint: ProxyEndpoint) -> Bool {
        entry.index == endpoint.index && entry.pid == endpoint.supervision?.pid
            && entry.address == "\(endpoint.address)"
    }

    private func endpoint(of entry: RosterEntry) -> ProxyEndpoint? { endpoints.first { $0.index == entry.index } }

    var supervisedSummary: String {
        entries.map { entry in
            let reason = [endpoint(of: entry)?.reason, entry.reason].compactMap(\.self).first { !$0.isEmpty }
            return "engine \(entry.index) \(entry.state)" + (reason.map { " (\($0))" } ?? "")
        }.joined(separator: ", ")
    }

    var supervisedReports: [EngineReport] {
        let views = dispatcher.views
        return entries.map { entry in
            let endpoint = endpoint(of: entry)
            let view = endpoint?.upstream.flatMap { upstream in views.first { $0.id == upstream.engine } }
            let reason = endpoint?.reason ?? ""
            return EngineReport(
                index: Int(entry.index), model: remembered[Int(entry.index)]?.first?.name ?? "",
                address: entry.address, state: entry.state, isServing: endpoint?.isServing ?? false, pid: entry.pid,
                restarts: entry.restarts, reason: reason.isEmpty ? entry.reason : reason, hello: nil,
                statistics: nil, outstandingRequests: view?.outstandingRequests ?? 0,
                outstandingTokens: view?.outstandingTokens ?? 0)
        }
    }

    /// A request waits for an engine that is away if that has the model, or has never said what it has.
    ///
    /// - Throws: 404 if none of them has.
    func checkSupervised(_ model: String, engine: Int?) throws(APIError) {
        let candidates = entries.map { Int($0.index) }.filter { engine == nil || $0 == engine }
        let known = candidates.map { remembered[$0] }
        guard !known.contains(where: { $0?.contains { $0.name == model } ?? true }) else { return }
        throw .modelNotFound(model, known: known.flatMap { $0 ?? [] }.map(\.name))
    }

    func endpointDoubted(_ endpoint: ProxyEndpoint, _ reason: String) {
        metrics.events.note(.silent, endpoint.index, model: endpoint.models?.first?.name ?? "", reason: reason)
    }

    func endpointProved(_ endpoint: ProxyEndpoint) {
        metrics.events.note(.ready, endpoint.index, model: endpoint.models?.first?.name ?? "")
    }
}
