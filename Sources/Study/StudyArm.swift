// Tandem — Apache-2.0

/// One way to use a device: what a study compares.
public struct StudyArm: Sendable, Equatable {
    /// How engines share the device.
    public enum Sharing: String, Sendable, Equatable, CaseIterable {
        /// One engine has the device for itself.
        case alone
        /// Processes take turns on a GPU, without MPS.
        case timeSliced = "time-sliced"
        /// Processes under MPS.
        case mps
        /// Engines of one process, whose host work shares a thread.
        case inProcess = "in-process"
        /// Processes on CPU cores of their own.
        case cores
    }

    /// How records name it: `one`, `mps-async`.
    public var id: String
    /// How people read it: `two engines, MPS, asynchronous`.
    public var title: String
    public var engines: Int
    public var sharing: Sharing
    /// Whether engines plan a step ahead.
    public var isAsynchronous: Bool
    /// CPU cores of each engine, on the CPU; null for the machine's cores divided by the engines.
    public var cores: Int?
    /// The command of an engine that is not Tandem's, as `tandem serve --engine` takes it; null for Tandem's own.
    public var command: String?

    public init(
        id: String, title: String, engines: Int, sharing: Sharing, isAsynchronous: Bool, cores: Int? = nil,
        command: String? = nil
    ) {
        self.id = id
        self.title = title
        self.engines = engines
        self.sharing = sharing
        self.isAsynchronous = isAsynchronous
        self.cores = cores
        self.command = command
    }
}
