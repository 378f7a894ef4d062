// Tandem — Apache-2.0

import Synchronization

/// Counts things; wraps around after 2^64.
public final class MetricCounter: Sendable {
    private let count = Atomic<UInt64>(0)

    init() {}

    public func add(_ amount: UInt64 = 1) {
        count.wrappingAdd(amount, ordering: .relaxed)
    }

    /// Takes over a count that is kept elsewhere, such as one that an engine reports.
    public func set(_ value: UInt64) {
        count.store(value, ordering: .relaxed)
    }

    public var value: UInt64 { count.load(ordering: .relaxed) }
}

/// Adds up amounts that are not whole, seconds for example.
public final class MetricSum: Sendable {
    private let sum = AtomicDouble()

    init() {}

    public func add(_ amount: Double) {
        sum.add(amount)
    }

    /// Takes over a sum that is kept elsewhere.
    public func set(_ value: Double) {
        sum.store(value)
    }

    public var value: Double { sum.load() }
}

/// A value that goes up and down.
public final class MetricGauge: Sendable {
    private let current = AtomicDouble()

    init() {}

    public func set(_ value: Double) {
        current.store(value)
    }

    public func add(_ amount: Double) {
        current.add(amount)
    }

    public var value: Double { current.load() }
}

/// Counts observations in fixed buckets and adds them up.
///
/// `@unchecked` because of the pointer: it is set once, its memory lives as long as the histogram, and its elements are
/// atomics.
public final class MetricHistogram: @unchecked Sendable {
    /// Upper bounds, ascending, without the infinite one.
    public let bounds: [Double]
    /// One element a bound, and one for what lies above all of them.
    private let counts: UnsafeMutableBufferPointer<Atomic<UInt64>>
    private let sum = AtomicDouble()

    /// - Parameter bounds: sorted, made unique and freed of what is not finite.
    init(bounds: [Double]) {
        var ascending: [Double] = []
        for bound in bounds.filter(\.isFinite).sorted() where bound != ascending.last { ascending.append(bound) }
        self.bounds = ascending
        counts = .allocate(capacity: ascending.count + 1)
        for index in counts.indices { counts.initializeElement(at: index, to: Atomic(0)) }
    }

    deinit {
        counts.deinitialize()
        counts.deallocate()
    }

    /// Counts one observation; NaN counts as larger than every bound and is not added up.
    public func observe(_ value: Double) {
        observe(value, times: 1)
    }

    /// Counts several equal observations at the cost of one.
    public func observe(_ value: Double, times: UInt64) {
        // The first bound that is not smaller than the value.
        var low = 0
        var high = bounds.count
        while low < high {
            let middle = (low + high) / 2
            if value <= bounds[middle] { high = middle } else { low = middle + 1 }
        }
        counts[low].wrappingAdd(times, ordering: .relaxed)
        if !value.isNaN { sum.add(value * Double(times)) }
    }

    /// Takes over what somebody else counted.
    ///
    /// - Parameter observations: one count a bucket, not cumulated, the last one above all bounds; others are ignored.
    public func set(_ observations: [UInt64], sum total: Double) {
        for (index, count) in zip(counts.indices, observations) { counts[index].store(count, ordering: .relaxed) }
        sum.store(total)
    }

    /// Counts of the buckets (the last one is above all bounds), not cumulated, and the sum. Observations made
    /// meanwhile may be in one and not in the other.
    public func snapshot() -> (counts: [UInt64], sum: Double) {
        (counts.indices.map { counts[$0].load(ordering: .relaxed) }, sum.load())
    }
}

/// A `Double` that several threads add to.
struct AtomicDouble: ~Copyable {
    private let bits = Atomic<UInt64>(0)

    func load() -> Double { Double(bitPattern: bits.load(ordering: .relaxed)) }

    func store(_ value: Double) {
        bits.store(value.bitPattern, ordering: .relaxed)
    }

    func add(_ amount: Double) {
        var current = bits.load(ordering: .relaxed)
        while true {
            let next = (Double(bitPattern: current) + amount).bitPattern
            let (exchanged, original) = bits.weakCompareExchange(
                expected: current,
                desired: next,
                ordering: .relaxed
            )
            if exchanged { return }
            current = original
        }
    }
}
