// Tandem — Apache-2.0

import Requests

/// Finds the texts of special tokens in a text: leftmost first, the longest of those that start at one place.
struct SpecialTokenMatcher: Sendable {
    private struct Node: Sendable {
        var token: TokenID = -1
        var isUserDefined = false
        var stripsLeft = false
        var stripsRight = false
    }

    struct Match {
        var range: Range<Int>
        var token: TokenID
    }

    /// A trie; node 0 is its root.
    private var nodes = [Node()]
    /// (node << 8 | byte) to node.
    private var edges: [UInt64: Int] = [:]
    private var startsToken = [Bool](repeating: false, count: 256)

    /// Bytes of one token: a search may look that far ahead from every place in a text.
    static let maximumLength = 1024
    /// Nodes of the trie.
    static let maximumSize = 1 << 20

    var size: Int { nodes.count }
    var isEmpty: Bool { nodes.count == 1 }

    /// - Parameter text: the bytes of a special token; an empty one is never found.
    /// - Returns: false if another token has this text.
    mutating func insert(
        _ text: ArraySlice<UInt8>, token: TokenID, isUserDefined: Bool, stripsLeft: Bool = false,
        stripsRight: Bool = false
    ) -> Bool {
        guard let first = text.first else { return true }
        startsToken[Int(first)] = true
        var node = 0
        for byte in text {
            let edge = UInt64(node) << 8 | UInt64(byte)
            if let child = edges[edge] {
                node = child
            } else {
                nodes.append(Node())
                edges[edge] = nodes.count - 1
                node = nodes.count - 1
            }
        }
        guard nodes[node].token < 0 else { return false }
        nodes[node] = Node(
            token: token, isUserDefined: isUserDefined, stripsLeft: stripsLeft, stripsRight: stripsRight)
        return true
    }

    /// The token with exactly this text, and whether it is user-defined.
    func find(_ text: some Sequence<UInt8>) -> (token: TokenID, isUserDefined: Bool)? {
        var node = 0
        for byte in text {
            guard let child = edges[UInt64(node) << 8 | UInt64(byte)] else { return nil }
            node = child
        }
        return nodes[node].token >= 0 ? (nodes[node].token, nodes[node].isUserDefined) : nil
    }

    /// The next special token at or after `start`, with the white space around it that it takes.
    ///
    /// - Parameter includingControl: false to find user-defined tokens only.
    func next(in text: ArraySlice<UInt8>, from start: Int, includingControl: Bool) -> Match? {
        if isEmpty { return nil }
        var position = start
        while position < text.endIndex {
            if startsToken[Int(text[position])],
                let match = longest(in: text, at: position, from: start, includingControl: includingControl)
            {
                return match
            }
            position += 1
        }
        return nil
    }

    private func longest(
        in text: ArraySlice<UInt8>, at position: Int, from start: Int, includingControl: Bool
    ) -> Match? {
        var found: (node: Node, end: Int)?
        var node = 0
        var index = position
        while index < text.endIndex, let child = edges[UInt64(node) << 8 | UInt64(text[index])] {
            node = child
            index += 1
            if nodes[node].token >= 0, includingControl || nodes[node].isUserDefined {
                found = (nodes[node], index)
            }
        }
        guard let found else { return nil }
        var range = position..<found.end
        if found.node.stripsLeft {
            range = (position - ScalarClass.whitespaceAtEnd(of: text[start..<position]))..<range.upperBound
        }
        if found.node.stripsRight {
            range = range.lowerBound..<(found.end + ScalarClass.whitespaceAtStart(of: text[found.end...]))
        }
        return Match(range: range, token: found.node.token)
    }
}
