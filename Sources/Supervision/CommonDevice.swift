// Tandem — Apache-2.0

internal import EngineLink

/// The effects of a device that engines share: MPS on a GPU, or a simulated GPU. All calls are the supervisor's own
/// thread's.
protocol CommonDevice: AnyObject {
    /// Readable when there are ``events()``.
    var descriptors: [Int32] { get }
    /// When to ask for ``events()`` even if nothing is readable.
    var nextDeadline: Duration? { get }

    func start() throws(SupervisionError)
    /// The environment of an engine that is about to start.
    func environment(ofEngine engine: Int, over surroundings: [String: String]) -> [String: String]
    /// What an engine is told on its command line.
    func arguments(ofEngine engine: Int) -> [String]
    /// Remembers what an engine's device says of itself.
    func says(_ engine: Int, attached: Bool?)
    func tell(_ notice: SharingNotice)
    /// What was reported since the last call, in order; a text is a line for people.
    func events() -> [(event: SharingEvent?, line: String?)]
    /// Adds what is known of the device.
    func describe(in facts: inout SupervisorFacts)
}

extension DeviceSharing: CommonDevice {
    var descriptors: [Int32] { [descriptor] }

    /// It has a thread of its own that keeps the time.
    var nextDeadline: Duration? { nil }

    func arguments(ofEngine engine: Int) -> [String] { [] }

    func describe(in facts: inout SupervisorFacts) { facts.sharing = SharingStatus(status, limits: limits) }
}
