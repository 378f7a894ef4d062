// Tandem — Apache-2.0

extension MPSMachine {
    /// How long things may take.
    public struct Limits: Sendable {
        public var start = Duration.seconds(10)
        public var initialize = Duration.seconds(60)
        public var terminateClient = Duration.seconds(5)
        public var killEngine = Duration.seconds(5)
        /// Until all engines ended and the daemon lists no client.
        public var killGroup = Duration.seconds(15)
        public var quit = Duration.seconds(5)
        public var killServer = Duration.seconds(3)
        public var killDaemon = Duration.seconds(5)
        /// Between queries when all is well: each makes the daemon write to its log.
        public var probe = Duration.seconds(20)
        /// Between queries while something is waited for.
        public var retry = Duration.milliseconds(500)
        /// Queries in a row without an answer until the daemon counts as wedged.
        public var unansweredQueries = 3
        /// Wait before the first restart; it doubles from there.
        public var firstDelay = Duration.milliseconds(100)
        public var maximumDelay = Duration.seconds(10)
        public var restartsUntilFailed = 5
        public var failedDelay = Duration.seconds(30)
        /// Having served so long makes earlier restarts forgotten.
        public var healthyAfter = Duration.seconds(60)

        /// - Parameter scale: factor on all times.
        public init(scale: Double = 1) {
            let times: [WritableKeyPath<Limits, Duration>] = [
                \.start, \.initialize, \.terminateClient, \.killEngine, \.killGroup, \.quit, \.killServer, \.killDaemon,
                \.probe, \.retry, \.firstDelay, \.maximumDelay, \.failedDelay, \.healthyAfter,
            ]
            for time in times { self[keyPath: time] = self[keyPath: time] * scale }
        }
    }
}
