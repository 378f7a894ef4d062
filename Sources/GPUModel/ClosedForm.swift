// Tandem — Apache-2.0

/// Throughput of equal loops on one GPU by queueing theory, in microseconds of computing.
///
/// Each loop alternates between its host and the GPU. The GPU serves all that are there (processor sharing) with a
/// speed that depends on how many they are; the host is a delay, or, where engines share its thread, a second server.
/// Such a closed network has a product form that knows service times by their means alone (Baskett, Chandy, Muntz,
/// Palacios, 1975); its constants come from Buzen's convolution (1973).
public struct ClosedForm: Sendable {
    /// Seconds alone on the GPU.
    public var seconds: Double
    /// Seconds of the step that each resource is taken for.
    public var load: Demand
    public var parameters: SharingParameters

    public init(profile: StepProfile, parameters: SharingParameters) {
        seconds = profile.seconds
        let latency = profile.fixedSeconds * parameters.latencyOccupancy
        load = Demand(
            multiprocessors: latency + profile.sum { $0.workSeconds * $0.demand.multiprocessors },
            tensor: profile.sum { $0.workSeconds * $0.demand.tensor },
            memory: profile.sum { $0.workSeconds * $0.demand.memory })
        self.parameters = parameters
    }

    /// From sums instead of kernels.
    public init(seconds: Double, load: Demand, parameters: SharingParameters) {
        self.seconds = seconds
        self.load = load
        self.parameters = parameters
    }

    /// How much more than one loop's work the GPU does when `count` loops are on it at once; 1 for one.
    public func speed(of count: Int, policy: SharingPolicy) -> Double {
        guard count > 1, seconds > 0 else { return 1 }
        let loops = Double(count)
        switch policy {
        case .timeSliced:
            return slicedSpeed
        case .fair, .leftover:
            let slots = 1 + parameters.coResidency * (loops - 1)
            let bound = min(
                seconds * slots / max(load.multiprocessors, .leastNonzeroMagnitude),
                seconds / max(load.tensor, .leastNonzeroMagnitude),
                seconds / max(load.memory, .leastNonzeroMagnitude))
            return min(loops, bound) / (1 + parameters.interference * (loops - 1))
        case .partitioned:
            return min(loops, seconds / max(load.memory, .leastNonzeroMagnitude))
                / (1 + parameters.interference * (loops - 1))
        }
    }

    /// Another context ran before each step and each slice of one.
    private var slicedSpeed: Double {
        seconds / (seconds + max(1, seconds / parameters.sliceSeconds) * parameters.switchSeconds)
    }

    /// Steps a second of all loops together.
    ///
    /// - Parameters:
    ///   - loops: engines.
    ///   - hostSeconds: host work of a step.
    ///   - isAsynchronous: whether it runs beside the step before.
    ///   - sharesHostThread: whether one thread does the host work of all.
    public func stepsPerSecond(
        loops: Int, hostSeconds: Double, isAsynchronous: Bool = false, sharesHostThread: Bool = false,
        policy: SharingPolicy
    ) -> Double {
        let count = Double(loops)
        if isAsynchronous {
            // Nobody waits for the host unless it is slower than the GPU.
            let device = seconds > 0 ? speed(of: loops, policy: policy) / seconds : .infinity
            let host = hostSeconds > 0 ? (sharesHostThread ? 1 : count) / hostSeconds : .infinity
            return min(device, host)
        }
        // Coefficients g(n) of both stations, convolved: throughput is G(N - 1) / G(N). Scaled by the sum of both times
        // so that nothing overflows.
        let scale = seconds + hostSeconds
        guard scale > 0 else { return .infinity }
        var device = [1.0]
        var host = [1.0]
        for index in 1...loops {
            let speed = loops > 1 && policy == .timeSliced ? slicedSpeed : speed(of: index, policy: policy)
            device.append(device[index - 1] * seconds / scale / speed)
            host.append(host[index - 1] * hostSeconds / scale / (sharesHostThread ? 1 : Double(index)))
        }
        func constant(_ total: Int) -> Double {
            (0...total).reduce(0) { $0 + device[$1] * host[total - $1] }
        }
        return constant(loops - 1) / constant(loops) / scale
    }
}
