// Tandem — Apache-2.0

import Glibc
public import InferenceEngine
public import LanguageModel
import Synchronization

extension GPULoop {
    /// Several loops of one process, each on a thread of its own, as engines of a server run.
    public struct Team: Sendable {
        public var model: DecoderDescription
        public var randomSeed: UInt64
        public var settings: Settings
        /// Of each loop's executor; all share the context, the kernels and the weights of the first.
        public var options: [CUDAExecutor.Options]
        public var warmUpSteps: Int
        public var windows: Int
        public var secondsPerWindow: Double
        /// A monotonic clock in nanoseconds.
        public var now: @Sendable () -> UInt64
        /// Called in each thread when all loops are warm: windows begin when it returns.
        public var begin: @Sendable () -> Void

        public init(
            model: DecoderDescription, randomSeed: UInt64, settings: Settings, options: [CUDAExecutor.Options],
            warmUpSteps: Int, windows: Int, secondsPerWindow: Double, now: @escaping @Sendable () -> UInt64,
            begin: @escaping @Sendable () -> Void
        ) {
            self.model = model
            self.randomSeed = randomSeed
            self.settings = settings
            self.options = options
            self.warmUpSteps = warmUpSteps
            self.windows = windows
            self.secondsPerWindow = secondsPerWindow
            self.now = now
            self.begin = begin
        }
    }

    /// What the loops of a team showed.
    public struct TeamResult: Sendable {
        /// Of each loop, by window.
        public var windows: [[Window]]
        /// What the first loop's executor says of itself.
        public var device: String
        public var usesMPS: Bool
        public var tokensPerStep: Int
    }

    /// Runs a team to its end. Blocks meanwhile.
    ///
    /// - Throws: the first error of any loop.
    public static func run(_ team: Team) throws(ExecutorError) -> TeamResult {
        let board = TeamBoard(team)
        var threads: [pthread_t] = []
        for place in team.options.indices {
            let context = Unmanaged.passRetained(TeamMember(board: board, place: place))
            var thread = pthread_t()
            let code = pthread_create(
                &thread, nil,
                { pointer in
                    pointer.map { Unmanaged<TeamMember>.fromOpaque($0).takeRetainedValue() }?.run()
                    return nil
                }, context.toOpaque())
            guard code == 0 else {
                context.release()
                board.fail(ExecutorError(kind: .fatal, message: "a thread for a loop could not be started"))
                break
            }
            threads.append(thread)
        }
        for thread in threads { pthread_join(thread, nil) }
        return try board.result()
    }
}

/// What the threads of a team share.
private final class TeamBoard: Sendable {
    struct State {
        /// Loops that are warm: they are made one after the other.
        var warm = 0
        var shared: SharedModel?
        var failure: ExecutorError?
        var result: GPULoop.TeamResult
    }

    let team: GPULoop.Team
    private let state: Mutex<State>

    init(_ team: GPULoop.Team) {
        self.team = team
        let windows = team.options.map { _ in [GPULoop.Window]() }
        state = Mutex(
            State(result: GPULoop.TeamResult(windows: windows, device: "", usesMPS: false, tokensPerStep: 0)))
    }

    func fail(_ error: ExecutorError) { state.withLock { if $0.failure == nil { $0.failure = error } } }

    func update(_ body: (inout State) -> Void) { state.withLock { body(&$0) } }

    /// Waits until so many loops are warm.
    ///
    /// - Returns: what they share; false if one of them failed.
    func wait(until count: Int) -> (goes: Bool, shared: SharedModel?) {
        while true {
            let (warm, failed, shared) = state.withLock { ($0.warm, $0.failure != nil, $0.shared) }
            if failed { return (false, nil) }
            if warm >= count { return (true, shared) }
            usleep(500)
        }
    }

    func result() throws(ExecutorError) -> GPULoop.TeamResult {
        let (failure, result) = state.withLock { ($0.failure, $0.result) }
        if let failure { throw failure }
        return result
    }
}

/// One thread of a team.
private final class TeamMember: Sendable {
    let board: TeamBoard
    let place: Int

    init(board: TeamBoard, place: Int) {
        self.board = board
        self.place = place
    }

    func run() {
        do throws(ExecutorError) {
            try work()
        } catch {
            board.fail(error)
        }
    }

    private func work() throws(ExecutorError) {
        let (team, place) = (board.team, place)
        let turn = board.wait(until: place)
        guard turn.goes else { return }
        let executor: CUDAExecutor
        if let shared = turn.shared {
            executor = try CUDAExecutor(beside: shared, options: team.options[place])
        } else {
            executor = try CUDAExecutor(
                model: team.model, randomSeed: team.randomSeed, options: team.options[place])
        }
        defer { executor.shutdown() }
        let loop = try GPULoop(executor, model: team.model, settings: team.settings, now: team.now)
        try loop.warmUp(steps: team.warmUpSteps)
        let shared = executor.shared
        let (device, usesMPS) = (executor.capabilities.device, executor.usesMPS)
        let tokens = loop.tokensPerStep
        board.update { state in
            state.warm += 1
            guard place == 0 else { return }
            state.shared = shared
            state.result.device = device
            state.result.usesMPS = usesMPS
            state.result.tokensPerStep = tokens
        }
        guard board.wait(until: team.options.count).goes else { return }
        team.begin()
        for _ in 0..<team.windows {
            let window = try loop.run(seconds: team.secondsPerWindow)
            board.update { $0.result.windows[place].append(window) }
        }
    }
}
