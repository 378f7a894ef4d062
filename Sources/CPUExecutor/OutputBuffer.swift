// Tandem — Apache-2.0

/// Memory for results that several threads write at once, each its own elements, which an array's uniqueness check
/// forbids. Elements must be plain data, without references.
struct OutputBuffer<Element>: ~Copyable {
    private(set) var base: UnsafeMutablePointer<Element>
    private var capacity: Int

    init(_ element: Element) {
        capacity = 64
        base = .allocate(capacity: capacity)
        base.initialize(repeating: element, count: capacity)
    }

    deinit { base.deallocate() }

    /// Makes room for `count` elements; the old ones are lost.
    mutating func reset(count: Int, to element: Element) {
        if count > capacity {
            base.deallocate()
            capacity = max(count, 2 * capacity)
            base = .allocate(capacity: capacity)
        }
        base.initialize(repeating: element, count: count)
    }
}
