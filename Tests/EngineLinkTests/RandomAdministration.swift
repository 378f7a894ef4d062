// Tandem — Apache-2.0

import EngineLink
import TestSupport

extension SeededGenerator {
    /// Every command and every kind of answer.
    mutating func administration() -> [LinkMessage] {
        [
            .adminCommand(.status),
            .adminCommand(.drain(engine: integer(), isForced: flag())),
            .adminCommand(.resume(engine: integer())),
            .adminCommand(.restart(engine: integer(), isForced: flag())),
            .adminCommand(.restartAll(isForced: flag())),
            .adminReply(.status(supervisorStatus())),
            .adminReply(.accepted(string())),
            .adminReply(.refused(string())),
        ]
    }

    private mutating func flag() -> Bool { next() % 2 == 0 }

    private mutating func supervisorStatus() -> SupervisorStatus {
        SupervisorStatus(
            version: string(), pid: integer(), uptime: integer(), host: string(), port: integer(),
            isSecure: flag(), runDirectory: string(), isStopping: flag(), gateway: child(),
            engines: array {
                EngineStatus(
                    index: $0.integer(), model: $0.string(), processIndex: $0.integer(), process: $0.child(),
                    cores: $0.array { $0.integer() }, device: $0.string(),
                    memory: MemoryStatus(
                        now: $0.optional { $0.integer() }, highWater: $0.optional { $0.integer() },
                        plan: $0.optional { $0.integer() }, isAbovePlan: $0.flag()))
            },
            rollingRestart: optional {
                RollingRestartStatus(
                    state: RollingRestartStatus.State.allCases[$0.count(2)], restarted: $0.array { $0.integer() },
                    current: $0.optional { $0.integer() }, pending: $0.array { $0.integer() }, detail: $0.string())
            },
            sharing: optional {
                SharingStatus(
                    phase: $0.string(), daemonPid: $0.integer(), serverPids: $0.array { $0.integer() },
                    clients: $0.optional { $0.integer() },
                    rungs: $0.array { SharingStatus.Rung(name: $0.string(), count: $0.integer()) })
            },
            simulatedDevice: optional {
                SimulatedDeviceStatus(
                    name: $0.string(), sharing: $0.string(), phase: $0.string(), pid: $0.integer(),
                    restarts: $0.integer(), clients: $0.integer(), memoryBytes: $0.integer(), usedBytes: $0.integer(),
                    steps: $0.integer(), lagMillionths: $0.integer(), isLate: $0.flag())
            })
    }

    private mutating func child() -> ChildStatus {
        ChildStatus(
            state: ChildStatus.State.allCases[count(8)], pid: integer(), uptime: optional { $0.integer() },
            restarts: integer(), deathsInARow: integer(), lastExit: string(), nextAttempt: optional { $0.integer() })
    }
}
