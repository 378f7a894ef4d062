// Tandem — Apache-2.0

/// How late steps are reported against the moment at which the model has them done, as a share of what they took:
/// the sum of delays over the sum of times, of the last seconds. Beyond a twentieth the machine does not keep up, and
/// what is measured on the device is no simulation of that GPU any more.
public struct LagMeter: Sendable {
    /// A larger share is an error.
    public static let limit = 0.05
    /// Seconds that count.
    static let seconds = 5
    /// With fewer steps in them nothing is said.
    static let leastSteps = 20

    private struct Second {
        var number: UInt64 = 0
        var steps = 0
        var delay = 0.0
        var duration = 0.0

        mutating func count(_ delay: Double, _ duration: Double) {
            steps += 1
            self.delay += delay
            self.duration += duration
        }
    }

    private var ring = [Second](repeating: Second(), count: LagMeter.seconds)
    private var total = Second()
    /// The largest share that any stretch of so many seconds had, looked at once a second.
    public private(set) var worst = 0.0
    private var lastLook: UInt64 = 0

    public init() {}

    /// Counts a step. Times are nanoseconds of one clock.
    ///
    /// - Parameters:
    ///   - due: when the model has it done.
    ///   - delivered: when its client was told.
    ///   - duration: what it took on the GPU.
    public mutating func count(due: UInt64, delivered: UInt64, duration: Double) {
        let delay = delivered > due ? Double(delivered - due) : 0
        let number = delivered / 1_000_000_000
        if number != lastLook {
            look(at: lastLook * 1_000_000_000)
            lastLook = number
        }
        let place = Int(number % UInt64(Self.seconds))
        if ring[place].number != number { ring[place] = Second(number: number) }
        ring[place].count(delay, duration)
        total.count(delay, duration)
    }

    /// Remembers a share that is larger than any before.
    mutating func look(at now: UInt64) { worst = max(worst, share(at: now)) }

    /// Of the last seconds; 0 if there were too few steps.
    public func share(at now: UInt64) -> Double {
        let number = now / 1_000_000_000
        let recent = ring.filter { $0.number <= number && number - $0.number < UInt64(Self.seconds) }
        guard recent.reduce(0, { $0 + $1.steps }) >= Self.leastSteps else { return 0 }
        let duration = recent.reduce(0) { $0 + $1.duration }
        return duration > 0 ? recent.reduce(0) { $0 + $1.delay } / duration : 0
    }

    /// Since the start.
    public var totalShare: Double { total.duration > 0 ? total.delay / total.duration : 0 }

    public var steps: UInt64 { UInt64(total.steps) }

    public func isLate(at now: UInt64) -> Bool { share(at: now) > Self.limit }
}
