// Tandem — Apache-2.0

/// When a child that died is started again: soon at first, then ever later, and from the beginning once it ran well.
public struct RestartPolicy: Sendable, Equatable {
    /// The numbers of a policy.
    public struct Settings: Sendable, Equatable {
        /// Wait after the first death.
        public var firstDelay: Duration
        /// Wait after the second death; it doubles from there.
        public var initialDelay: Duration
        public var maximumDelay: Duration
        /// Having served so long makes earlier deaths forgotten: what then kills a child does not do so at once, and a
        /// pause would help nobody.
        public var healthyAfter: Duration
        /// Deaths in a row until the child counts as failed.
        public var deathsUntilFailed: Int
        /// Wait between the attempts with a child that counts as failed.
        public var failedDelay: Duration

        public init(
            firstDelay: Duration = .milliseconds(100),
            initialDelay: Duration = .milliseconds(200),
            maximumDelay: Duration = .seconds(10),
            healthyAfter: Duration = .seconds(5),
            deathsUntilFailed: Int = 10,
            failedDelay: Duration = .seconds(30)
        ) {
            self.firstDelay = firstDelay
            self.initialDelay = initialDelay
            self.maximumDelay = maximumDelay
            self.healthyAfter = healthyAfter
            self.deathsUntilFailed = deathsUntilFailed
            self.failedDelay = failedDelay
        }

        /// Longest wait if no engine of a model lives: requests are held for that long and some more.
        public static let lastEngineDelay = Duration.seconds(5)

        /// For engines.
        public static let engine = Settings()
        /// For the gateway, which holds nothing worth a pause: clients wait in the backlog.
        public static let gateway = Settings(firstDelay: .zero, initialDelay: .milliseconds(100))
    }

    /// What to do about a death.
    public struct Decision: Sendable, Equatable {
        public var delay: Duration
        /// True once the child died too often in a row: it is tried again, rarely.
        public var isFailed: Bool
    }

    private let settings: Settings
    /// Deaths since the last long run.
    public private(set) var deathsInARow = 0

    public init(settings: Settings = .engine) {
        self.settings = settings
    }

    /// Takes note of a death.
    ///
    /// - Parameter served: how long the child served before; zero if it never did.
    public mutating func died(after served: Duration) -> Decision {
        if served >= settings.healthyAfter { deathsInARow = 0 }
        deathsInARow += 1
        guard deathsInARow < settings.deathsUntilFailed else {
            return Decision(delay: settings.failedDelay, isFailed: true)
        }
        guard deathsInARow > 1 else { return Decision(delay: settings.firstDelay, isFailed: false) }
        var delay = settings.initialDelay
        for _ in 2..<deathsInARow {
            delay = min(delay * 2, settings.maximumDelay)
        }
        return Decision(delay: min(delay, settings.maximumDelay), isFailed: false)
    }
}
