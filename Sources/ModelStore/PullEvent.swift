// Tandem — Apache-2.0

/// How far a file is.
public struct FetchProgress: Sendable, Equatable {
    /// Its path in the repository.
    public var file: String
    /// Bytes that are here.
    public var received: UInt64
    public var total: UInt64
    /// Bytes that were here when this pull began.
    public var resumedAt: UInt64
    /// Time since then.
    public var nanoseconds: UInt64

    public init(file: String, received: UInt64, total: UInt64, resumedAt: UInt64 = 0, nanoseconds: UInt64) {
        self.file = file
        self.received = received
        self.total = total
        self.resumedAt = resumedAt
        self.nanoseconds = nanoseconds
    }

    /// Bytes a second; null before there is something to measure.
    public var rate: UInt64? {
        guard nanoseconds >= 500_000_000, received > resumedAt else { return nil }
        return UInt64(Double(received - resumedAt) / (Double(nanoseconds) / 1e9))
    }

    /// Seconds until the rest is here.
    public var secondsLeft: UInt64? {
        guard let rate, rate > 0, received <= total else { return nil }
        return (total - received) / rate
    }
}

/// What happens during a pull.
public enum PullEvent: Sendable, Equatable {
    /// Another process fetches models into the same cache.
    case waitingForAnotherPull
    /// Bytes that arrived so far, of about `total`.
    case downloading(received: UInt64, total: UInt64)
    case unpacking
    case verifying(done: UInt64, total: UInt64)
    case finished(path: String)

    /// The hub is asked what there is.
    case asking(endpoint: String)
    /// What will be fetched; `missing` bytes of it are not here yet.
    case planned(commit: String, files: Int, bytes: UInt64, missing: UInt64)
    case fetching(FetchProgress)
    /// The digest of a file of a hub is taken.
    case checking(file: String, done: UInt64, total: UInt64)
    /// A file is here, whole and checked.
    case fetched(FetchProgress)
    /// A file has the content of one that was fetched before.
    case reused(file: String, bytes: UInt64)
    /// The next attempt comes after a pause.
    case retrying(reason: String, seconds: Int)
    /// The cache has it; the network was not asked.
    case cached(commit: String, bytes: UInt64, path: String)
    /// Something to know about the model.
    case note(String)
}
