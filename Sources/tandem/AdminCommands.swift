// Tandem — Apache-2.0

import ArgumentParser
import EngineLink
import Glibc
import Supervision

/// Commands to a running server.
struct AdminCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "admin",
        abstract: "Drain, resume or restart engines of a running server (no request is lost); its simulated GPU.",
        discussion: """
            Example:
              tandem admin drain 1
              tandem admin resume 1
              tandem admin restart 0
              tandem admin restart --all
            """,
        subcommands: [Drain.self, Resume.self, Restart.self, Device.self])

    struct Drain: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Let an engine finish what it has, give it nothing new, and keep it running.")

        @Argument(help: "Number of the engine.")
        var engine: UInt32

        @Flag(help: "Even if no other engine serves its model.")
        var force = false

        @OptionGroup var waiting: Waiting
        @OptionGroup var server: RunningServer

        func run() throws {
            let name = "tandem admin drain"
            var client = try server.client(name)
            try client.order(.drain(engine: engine, isForced: force), name)
            try waiting.wait(&client, name) { status in
                guard let process = status.process(of: engine) else { return .failed("there is no such engine") }
                switch process.state {
                case .draining: return .going
                case .drained: return .done("engine \(engine) is drained")
                case .ready, .ending: return .failed("engine \(engine) was told something else meanwhile")
                default: return .done("engine \(engine) does not run, and will get no requests when it is ready")
                }
            }
        }
    }

    struct Resume: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Let a drained engine serve again.")

        @Argument(help: "Number of the engine.")
        var engine: UInt32

        @OptionGroup var server: RunningServer

        func run() throws {
            var client = try server.client("tandem admin resume")
            try client.order(.resume(engine: engine), "tandem admin resume")
        }
    }

    struct Restart: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Let an engine finish what it has, and start it again; --all: one after the other.")

        @Argument(help: "Number of the engine.")
        var engine: UInt32?

        @Flag(help: "All engines, each when the one before is ready again.")
        var all = false

        @Flag(help: "Even if no other engine serves the model meanwhile.")
        var force = false

        @OptionGroup var waiting: Waiting
        @OptionGroup var server: RunningServer

        func validate() throws {
            guard all != (engine != nil) else {
                throw ValidationError("give the number of an engine, or --all")
            }
        }

        func run() throws {
            let name = "tandem admin restart"
            var client = try server.client(name)
            if let engine {
                try client.order(.restart(engine: engine, isForced: force), name)
                try waiting.wait(&client, name) { Self.progress($0, of: engine) }
            } else {
                try client.order(.restartAll(isForced: force), name)
                try waiting.wait(&client, name) { Self.progress($0) }
            }
        }

        private static func progress(_ status: SupervisorStatus, of engine: UInt32) -> Waiting.Progress {
            guard let process = status.process(of: engine) else { return .failed("there is no such engine") }
            switch process.state {
            case .ready: return .done("engine \(engine) is ready")
            case .waiting, .failed, .down: return .failed("engine \(engine) did not come back: \(process.lastExit)")
            default: return status.isStopping ? .failed("the server is stopping") : .going
            }
        }

        private static func progress(_ status: SupervisorStatus) -> Waiting.Progress {
            guard let rolling = status.rollingRestart else { return .failed("no rolling restart is known") }
            switch rolling.state {
            case .running: return .going
            case .done: return .done("\(rolling.restarted.count) engines were restarted")
            case .stopped: return .failed("the rolling restart stopped: \(rolling.detail)")
            }
        }
    }
}

/// Waits until what was asked for has come about.
struct Waiting: ParsableArguments {
    enum Progress {
        case going
        case done(String)
        case failed(String)
    }

    @Flag(help: "Do not wait until it is done.")
    var noWait = false

    /// Asks a few times a second; what it leads to is decided in the server, whether or not anybody waits.
    func wait(
        _ client: inout AdminClient, _ name: String, _ progress: (SupervisorStatus) -> Progress
    ) throws {
        guard !noWait else { return }
        while true {
            switch progress(try client.status(name)) {
            case .going: usleep(100_000)
            case .done(let text):
                Process.write(text + "\n", to: STDOUT_FILENO)
                return
            case .failed(let text):
                Process.log("\(name): \(text)")
                throw ExitCode(1)
            }
        }
    }
}

extension AdminClient {
    /// Sends a command and prints what is answered; ends the program if it is refused.
    fileprivate mutating func order(_ command: AdminCommand, _ name: String) throws {
        switch try answer(command, name) {
        case .accepted(let text): Process.write(text + "\n", to: STDOUT_FILENO)
        case .refused(let text):
            Process.log("\(name): \(text)")
            throw ExitCode(1)
        case .status:
            Process.log("\(name): the server answered something else")
            throw ExitCode(1)
        }
    }
}

extension SupervisorStatus {
    fileprivate func process(of engine: UInt32) -> ChildStatus? {
        engines.first { $0.index == engine }?.process
    }
}
