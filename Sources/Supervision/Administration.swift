// Tandem — Apache-2.0

/// What was asked of engines beside serving: by an administrator, by a rolling restart, or by the memory watch.
struct Administration: Equatable {
    /// What one engine was told.
    enum Order: Equatable {
        /// To take nothing new, finish what it has, and stay up.
        case drain(since: Duration)
        /// To finish what it has and end; then it is started again.
        case end(Ending)
    }

    /// An end that was asked for, which is therefore no death.
    struct Ending: Equatable {
        enum Stage: Equatable {
            /// It finishes what it has.
            case finishing
            /// It was told not to wait any more: what it still runs moves to another engine.
            case abandoning
            case killed
        }

        var reason: RestartReason
        var stage = Stage.finishing
        /// When the next stage is due.
        var deadline: Duration
    }

    /// One engine after the other.
    struct RollingRestart: Equatable {
        enum Stage: Equatable {
            /// It is not its turn yet: it, or another of its model, does not serve.
            case waiting(deadline: Duration)
            case ending
            /// It ended and is not ready yet.
            case returning(deadline: Duration)
        }

        struct Current: Equatable {
            var engine: Int
            var stage: Stage
        }

        enum State: Equatable {
            case running
            case done
            case stopped(why: String)
        }

        var state = State.running
        var isForced: Bool
        var restarted: [Int] = []
        var current: Current?
        var pending: [Int]
    }

    /// How long an engine that ends gets for what it runs if no other engine of its model serves: what waits for it is
    /// not held for ever.
    static let lastEngineDrain = Duration.seconds(5)
    /// How long a rolling restart waits for an engine to serve before it stops.
    static let returnLimit = Duration.seconds(300)
    /// Heartbeats of an engine tell that it has nothing to do only if they were sent after it had heard of a drain's
    /// beginning, and its gateways, too.
    static let settling = Duration.milliseconds(500)

    /// A value an engine; null for those that were told nothing.
    var orders: [Order?]
    var rollingRestart: RollingRestart?
}

/// Why an engine that serves is restarted.
enum RestartReason: Equatable {
    case request
    case rollingRestart
    case memory

    /// Follows `engine 0`.
    var text: String {
        switch self {
        case .request: "was restarted on request"
        case .rollingRestart: "was restarted by a rolling restart"
        case .memory: "was restarted for its memory"
        }
    }
}
