// Tandem — Apache-2.0

import CUDADriver
import InferenceEngine

/// Notes in a stream where one component of a step ends and the next begins, and tells afterwards how long each took on
/// the device. A step that is timed so is launched kernel by kernel.
final class ComponentClock {
    enum Component {
        case attention
        case mlp
        /// Projections, norms, head and sampling.
        case rest
    }

    private let session: GPUSession
    private var events: [CUDAEvent] = []
    private var components: [Component] = []

    init(_ session: GPUSession) { self.session = session }

    /// Forgets what was noted.
    func begin() throws(CUDAError) {
        components.removeAll(keepingCapacity: true)
        try enter(.rest)
    }

    /// From here on time counts for a component.
    func enter(_ component: Component) throws(CUDAError) {
        if components.count == events.count { events.append(try CUDAEvent(session.context, measuresTime: true)) }
        try session.stream.record(events[components.count])
        components.append(component)
    }

    /// Marks the end.
    func end() throws(CUDAError) { try enter(.rest) }

    /// Adds the times; the end must have been reached.
    func add(to profile: inout StepProfile) throws(CUDAError) {
        for index in 0..<max(0, components.count - 1) {
            let seconds = try events[index + 1].seconds(since: events[index])
            let nanoseconds = UInt64(max(0, seconds) * 1e9)
            switch components[index] {
            case .attention: profile.attention &+= nanoseconds
            case .mlp: profile.mlp &+= nanoseconds
            case .rest: profile.rest &+= nanoseconds
            }
        }
        profile.steps &+= 1
    }
}
