// Tandem — Apache-2.0

/// Goes through a vocabulary and finds which tokens may follow a state.
///
/// Most tokens are decided without a look at the rules that wait: they end before the rule at the top of the stack does.
/// What such a walk finds holds for every stack and is kept (``Top``); only tokens that leave the rule are walked again
/// below the stack that a text really has.
struct MaskFiller {
    /// What holds for a state whatever its callers.
    struct Top {
        /// Tokens that are permitted below any caller; empty if the walk must always be done in full.
        var words: [UInt32]
        /// Nodes behind which it depends on the callers.
        var openNodes: [Int32]
        var isUsable: Bool
    }

    let vocabulary: TokenVocabulary
    private(set) var table: StateTable
    private var tops: [Int32: Top] = [:]
    private var masks: [Int32: (words: [UInt32], count: Int)] = [:]
    /// States along the path to a node.
    private let path: Path
    private let maximumMasks: Int
    /// What tables before this one have cost, and what may be spent until a walk is given up.
    private var spent = 0
    private var budget = 0
    private var hasGivenUp = false

    /// A fixed block, so that a walk may hold its address while the table is begun anew.
    private final class Path {
        let states: UnsafeMutablePointer<Int32>

        init(count: Int) {
            states = .allocate(capacity: count)
            states.initialize(repeating: StateTable.dead, count: count)
        }

        deinit { states.deallocate() }

        subscript(_ depth: Int) -> Int32 {
            get { states[depth] }
            set { states[depth] = newValue }
        }
    }

    /// Bytes of masks that are kept, and as much again for those that hold below every caller.
    private static let maskBytes = 16 << 20

    init(_ network: PositionNetwork, vocabulary: TokenVocabulary, tableBytes: Int) {
        self.vocabulary = vocabulary
        // When a walk begins a table anew, the states along its path must fit, and more.
        table = StateTable(network, bytes: tableBytes, minimumStates: 2 * vocabulary.maximumLength + 64)
        path = Path(count: vocabulary.maximumLength + 1)
        maximumMasks = max(4, MaskFiller.maskBytes / max(1, 4 * vocabulary.maskWords))
    }

    /// Begins a new table when this one has grown large. States that are still in use are translated by their users.
    mutating func renewIfFull() {
        if table.isFull { renew(keeping: 0) }
    }

    /// Begins a new table and translates the first states of the path.
    private mutating func renew(keeping count: Int) {
        let new = StateTable(table.network, bytes: table.bytes, minimumStates: table.minimumStates)
        for index in 0..<count { path[index] = new.state(equalTo: path[index], of: table) }
        spent += table.work
        table = new
        tops = [:]
        masks = [:]
    }

    /// Follows bytes from a state of the table.
    ///
    /// - Returns: false if they cannot follow.
    mutating func advance(_ table: inout StateTable, _ state: inout Int32, _ bytes: ArraySlice<UInt8>) -> Bool {
        path[0] = state
        for byte in bytes {
            if self.table.isFull { renew(keeping: 1) }
            path[0] = self.table.next(path[0], byte)
            guard path[0] != StateTable.dead else { return false }
        }
        table = self.table
        state = path[0]
        return true
    }

    /// Writes which tokens may follow a state of the table.
    ///
    /// - Returns: how many; nil, and none is written, if finding them takes more than ``GrammarLimits/maskWork``.
    mutating func fill(_ state: Int32, _ words: UnsafeMutableBufferPointer<UInt32>) -> Int? {
        if let known = masks[state] {
            _ = words.update(fromContentsOf: known.words)
            return known.count
        }
        path[0] = state
        hasGivenUp = false
        budget = spent + table.work + GrammarLimits.maskWork
        if let top = usableTop(of: state) {
            _ = words.update(fromContentsOf: top.words)
            for node in top.openNodes where !hasGivenUp { walk(below: node, words) }
        } else {
            words.update(repeating: 0)
            if !hasGivenUp { walk(0..<vocabulary.nodes.count, words) }
        }
        guard !hasGivenUp else {
            words.update(repeating: 0)
            return nil
        }
        let count = words.reduce(0) { $0 + $1.nonzeroBitCount }
        if masks.count >= maximumMasks { masks.removeAll(keepingCapacity: true) }
        masks[path[0]] = (Array(words), count)
        return count
    }

    /// What holds for a state whatever its callers, if that helps. The path begins with the state, before and after.
    private mutating func usableTop(of state: Int32) -> Top? {
        guard let top = table.top(of: state) else { return nil }
        if let known = tops[top] { return known.isUsable ? known : nil }
        var result = Top(words: [], openNodes: [], isUsable: false)
        // A state at the end of its rule depends on its callers for all that follows.
        if table.flagBase[Int(top)] == 0 {
            let before = table
            path[0] = top
            var words = Array(repeating: UInt32(0), count: vocabulary.maskWords)
            let nodes = words.withUnsafeMutableBufferPointer { walk(0..<vocabulary.nodes.count, $0, untilOpen: true) }
            guard before === table else {
                path[0] = table.state(equalTo: state, of: before)
                return nil
            }
            path[0] = state
            guard !hasGivenUp else { return nil }
            if let nodes { result = Top(words: words, openNodes: nodes, isUsable: true) }
        }
        if tops.count >= maximumMasks { tops.removeAll(keepingCapacity: true) }
        tops[top] = result
        return result.isUsable ? result : nil
    }

    /// Goes from the state at the path's beginning to a node, and through all nodes below it.
    private mutating func walk(below node: Int32, _ words: UnsafeMutableBufferPointer<UInt32>) {
        var bytes: [UInt8] = []
        var above = node
        while above >= 0 {
            bytes.append(vocabulary.nodes[Int(above)].byte)
            above = vocabulary.parents[Int(above)]
        }
        for (depth, byte) in bytes.reversed().enumerated() {
            if table.isFull { renew(keeping: depth + 1) }
            guard spent + table.work <= budget else {
                hasGivenUp = true
                return
            }
            path[depth + 1] = table.next(path[depth], byte)
        }
        walk(Int(node) + 1..<Int(vocabulary.nodes[Int(node)].skip), words)
    }

    /// Goes through nodes below the path and sets the bits of the tokens that end there.
    ///
    /// - Parameter untilOpen: whether to turn back where it depends on callers that are not known.
    /// - Returns: the nodes where it turned back; nil if a state was met that other callers might change.
    @discardableResult
    private mutating func walk(
        _ range: Range<Int>, _ words: UnsafeMutableBufferPointer<UInt32>, untilOpen: Bool = false
    ) -> [Int32]? {
        var openNodes: [Int32] = []
        var isAlike = true
        let twins = vocabulary.twins
        let hasTwins = !twins.isEmpty
        let path = path.states
        guard let words = words.baseAddress else { return nil }
        let classCount = table.network.classCount
        // The loop touches every node of the vocabulary: addresses spare it checks that cost as much as the work.
        vocabulary.nodes.withUnsafeBufferPointer { nodes in
            var rows = table.rowBase
            var flags = table.flagBase
            table.network.classOfByte.withUnsafeBufferPointer { classes in
                var index = range.lowerBound
                while index < range.upperBound {
                    let node = nodes[index]
                    let depth = Int(node.depth)
                    let above = path[depth - 1]
                    var next = rows[Int(above) * classCount + Int(classes[Int(node.byte)])]
                    if next < 0 {
                        guard spent + table.work <= budget else {
                            hasGivenUp = true
                            return
                        }
                        if table.isFull {
                            renew(keeping: depth)
                            rows = table.rowBase
                            flags = table.flagBase
                        }
                        next = table.next(path[depth - 1], node.byte)
                    }
                    guard next != StateTable.dead else {
                        index = Int(node.skip)
                        continue
                    }
                    path[depth] = next
                    if node.token >= 0 {
                        words[Int(node.token >> 5)] |= 1 << UInt32(node.token & 31)
                        if hasTwins {
                            var twin = node.token
                            while let other = twins[twin] {
                                words[Int(other >> 5)] |= 1 << UInt32(other & 31)
                                twin = other
                            }
                        }
                    }
                    index += 1
                    if untilOpen, flags[Int(next)] != 0 {
                        if flags[Int(next)] & StateTable.Flag.isSpecial != 0 { isAlike = false }
                        if index < Int(node.skip) { openNodes.append(Int32(index - 1)) }
                        index = Int(node.skip)
                    }
                }
            }
        }
        return isAlike ? openNodes : nil
    }
}
