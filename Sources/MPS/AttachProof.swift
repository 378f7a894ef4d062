// Tandem — Apache-2.0

/// Whether engines really share the GPU. A CUDA program that does not find the daemon runs on, by time slices and
/// without a word; so an engine gets no request before the daemon lists it.
public enum AttachProof {
    /// What is known of an engine.
    public struct Engine: Sendable, Hashable {
        public var process: ProcessIdentity
        /// In the environment of its processes.
        public var token: String
        /// What CUDA told the engine (device attribute 133, or the like); null if it did not ask.
        public var saysAttached: Bool?

        public init(process: ProcessIdentity, token: String, saysAttached: Bool? = nil) {
            self.process = process
            self.token = token
            self.saysAttached = saysAttached
        }
    }

    public enum Verdict: Sendable, Equatable, CustomStringConvertible {
        case attached
        /// It is not among the clients.
        case detached
        /// Nothing can be said, for this reason; to be treated like ``detached``.
        case unknown(String)

        public var description: String {
            switch self {
            case .attached: "it is a client of the MPS daemon"
            case .detached: "it is no client of the MPS daemon: it would run by time slices"
            case .unknown(let reason): "it cannot be told whether it is a client of the MPS daemon: \(reason)"
            }
        }
    }

    /// Judges every engine. `clients` must come from an answer seen to its end.
    public static func judge(
        _ engines: [Int: Engine], clients: [ControlClient], processes: ProcessTable = ProcessTable()
    ) -> [Int: Verdict] {
        // An engine may do its CUDA work in a child: its token finds it.
        let tokens = Set(
            clients.filter { $0.pid > 0 }.compactMap {
                processes.variable(ClientEnvironment.tokenVariable, of: $0.pid)
            })
        let pids = Set(clients.map(\.pid))
        let isBlind = pids.contains(0)
        return engines.mapValues { engine in
            guard processes.lives(engine.process) else { return .unknown("its process has ended") }
            let isListed = tokens.contains(engine.token)
            switch (isListed, engine.saysAttached) {
            case (true, false?): return .unknown("the daemon lists it, and CUDA tells it that it is not under MPS")
            case (true, _): return .attached
            case (false, _) where isBlind:
                return .unknown(
                    "the daemon lists clients with process id 0: it lives in another PID namespace; share it "
                        + "(hostPID, --pid=host), or let tandem start the daemon")
            case (false, true?): return .unknown("CUDA tells it that it is under MPS, of another daemon")
            case (false, _): return .detached
            }
        }
    }
}
