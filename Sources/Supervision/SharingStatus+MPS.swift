// Tandem — Apache-2.0

internal import EngineLink
internal import MPS

extension SharingStatus {
    /// What administrators are told of MPS.
    init(_ status: MPSController.Status, limits: String) {
        var phase = status.phase.rawValue
        if let rung = status.rung { phase += ", recovery: \(Self.name(rung).replacing("_", with: " "))" }
        if !status.isAdmitting { phase += ", no engine may start" }
        self.init(
            phase: phase, daemonPid: status.daemon ?? 0, serverPids: status.servers,
            clients: UInt32(clamping: status.clients.count),
            rungs: RecoveryRung.allCases.map {
                Rung(name: Self.name($0), count: UInt32(clamping: status.counts[$0] ?? 0))
            },
            limits: limits)
    }

    private static func name(_ rung: RecoveryRung) -> String {
        switch rung {
        case .terminateClient: "terminate_client"
        case .killEngine: "kill_engine"
        case .killGroup: "kill_group"
        case .quit: "quit"
        case .killServer: "kill_server"
        case .killDaemon: "kill_daemon"
        case .cleanDirectory: "clean_directory"
        case .restart: "restart"
        }
    }
}
