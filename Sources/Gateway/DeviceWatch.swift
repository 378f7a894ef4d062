// Tandem — Apache-2.0

/// Decides how a GPU is watched: by a child process of the gateway, which may be slow, hang or crash.
///
/// NVML is somebody else's code: a call may wait in the kernel for a driver that does not answer, and then not even
/// SIGKILL ends the process. So neither the supervisor, which must not stand still, nor the gateway, which carries the
/// traffic and could not be replaced quickly if it could not end, loads it. The child writes a line a second; silence
/// and death cost numbers on a screen, and are noted once.
public struct DeviceWatch: Sendable {
    public enum Event: Sendable {
        case begin
        case line([UInt8])
        /// The child ended, or was not started.
        case ended(String)
        case timePassed
    }

    public enum Action: Sendable, Equatable {
        case start
        case kill
        case show(DeviceView)
        /// A line for people, once.
        case note(String)
        /// A line for people about what is wrong with the GPU.
        case warn(String)
        /// There is no more to be done.
        case finish
    }

    private enum State { case idle, running, waiting, finished }

    /// How long the child may say nothing; it says something every second.
    public static let silenceLimit = Duration.seconds(15)
    /// Between a death and the next start; it doubles.
    static let firstDelay = Duration.seconds(1)
    static let longestDelay = Duration.seconds(60)

    private let gpu: String
    private var state = State.idle
    private var delay = firstDelay
    private var noted: Set<String> = []
    /// When something is to be done if nothing happens.
    public private(set) var nextDeadline: Duration?

    /// - Parameter gpu: as the user named it.
    public init(gpu: String) {
        self.gpu = gpu
    }

    /// - Parameter now: on any clock that does not go back.
    public mutating func handle(_ event: Event, at now: Duration) -> [Action] {
        switch event {
        case .begin where state == .idle: return start(at: now)
        case .timePassed:
            guard let deadline = nextDeadline, deadline <= now else { return [] }
            if state == .waiting { return start(at: now) }
            guard state == .running else { return [] }
            // One that cannot even be killed is not followed by another: its end is waited for.
            nextDeadline = nil
            return [.show(view("NVML does not answer"))] + note("NVML does not answer; its numbers are left out")
                + [.kill]
        case .line(let bytes):
            guard state == .running else { return [] }
            return take(bytes, at: now)
        case .ended(let reason):
            guard state == .running else { return [] }
            state = .waiting
            nextDeadline = now + delay
            delay = min(delay * 2, Self.longestDelay)
            return [.show(view("its watcher \(reason)"))]
                + note("the process that watches it \(reason); it is started again")
        default: return []
        }
    }

    private mutating func start(at now: Duration) -> [Action] {
        state = .running
        nextDeadline = now + Self.silenceLimit
        return [.start]
    }

    private mutating func take(_ bytes: [UInt8], at now: Duration) -> [Action] {
        // Why it cannot be watched at all.
        let unavailable = "unavailable: "
        if bytes.starts(with: unavailable.utf8) {
            let reason = String(decoding: bytes.dropFirst(unavailable.utf8.count).prefix(400), as: UTF8.self)
            state = .finished
            nextDeadline = nil
            return [.show(view("not watched: \(reason)"))] + note("it is not watched: \(reason)") + [.finish]
        }
        guard let view = DeviceView(line: bytes) else { return [] }
        nextDeadline = now + Self.silenceLimit
        if !view.values.isEmpty { delay = Self.firstDelay }
        return [.show(view)] + (view.note.isEmpty ? [] : note(view.note))
            + view.newFaults.map { fault in
                .warn(
                    "warning: \(title(view)) had an error, XID \(fault.number)"
                        + (fault.text.isEmpty ? "" : ": \(fault.text)"))
            }
    }

    private func title(_ view: DeviceView) -> String {
        "GPU \(view.gpu)" + (view.name.isEmpty ? "" : " (\(view.name))")
    }

    private func view(_ note: String) -> DeviceView { DeviceView(gpu: gpu, note: note) }

    private mutating func note(_ text: String) -> [Action] {
        noted.insert(text).inserted ? [.note("GPU \(gpu): \(text)")] : []
    }
}
