// Tandem — Apache-2.0

import Requests

/// Finds the texts of special tokens in a text: leftmost first, the longest of those that start at one place.
struct SpecialTokenMatcher: Sendable {
    private struct Node: Sendable {
        var token: TokenID = -1
        var isUserDefined = false
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
    mutating func insert(_ text: ArraySlice<UInt8>, token: TokenID, isUserDefined: Bool) -> Bool {
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
        nodes[node] = Node(token: token, isUserDefined: isUserDefined)
        return true
    }

    /// The next special token at or after `start`.
    ///
    /// - Parameter includingControl: false to find user-defined tokens only.
    func next(in text: [UInt8], from start: Int, includingControl: Bool) -> (
        range: Range<Int>, token: TokenID
    )? {
        if isEmpty { return nil }
        var position = start
        while position < text.count {
            if startsToken[Int(text[position])],
                let match = longest(in: text, at: position, includingControl: includingControl)
            {
                return match
            }
            position += 1
        }
        return nil
    }

    private func longest(
        in text: [UInt8], at start: Int, includingControl: Bool
    ) -> (range: Range<Int>, token: TokenID)? {
        var found: (range: Range<Int>, token: TokenID)?
        var node = 0
        var index = start
        while index < text.count, let child = edges[UInt64(node) << 8 | UInt64(text[index])] {
            node = child
            index += 1
            if nodes[node].token >= 0, includingControl || nodes[node].isUserDefined {
                found = (start..<index, nodes[node].token)
            }
        }
        return found
    }
}
