// Tandem — Apache-2.0

public import Requests

/// The bytes of all tokens of a model, as a trie.
public final class TokenVocabulary: Sendable {
    /// A node of the trie: what tokens begin with. Nodes stand in order of their bytes, each before those below it.
    struct Node: Sendable {
        /// The first node that is not below this one.
        var skip: Int32
        /// The token that ends here; -1 if none does.
        var token: Int32
        /// How many bytes lead here; the root is left out, so 1 at least.
        var depth: UInt16
        var byte: UInt8
    }

    let nodes: [Node]
    /// The node above each; -1 for the first bytes.
    let parents: [Int32]
    /// By token, another with the same bytes; empty if there are no such tokens.
    let twins: [TokenID: TokenID]
    /// The number of bytes of the longest token.
    let maximumLength: Int
    private let starts: [Int]
    private let bytes: [UInt8]

    /// - Parameter bytes: what a token stands for; nil for tokens that are never part of text (control tokens): no mask
    ///   permits them, and none of tokens without bytes.
    public init(count: Int, bytes: (TokenID) -> [UInt8]?) {
        var all: [UInt8] = []
        var starts = [0]
        for token in 0..<max(0, count) {
            // No text is made of tokens of 64 KiB.
            if let text = bytes(TokenID(token)), text.count < Int(UInt16.max) { all += text }
            starts.append(all.count)
        }
        self.starts = starts
        self.bytes = all
        var trie = TrieBuilder()
        all.withUnsafeBufferPointer { buffer in
            func text(_ token: Int) -> Slice<UnsafeBufferPointer<UInt8>> { buffer[starts[token]..<starts[token + 1]] }
            let order = (0..<max(0, count)).filter { starts[$0] < starts[$0 + 1] }
                .sorted { left, right in
                    let (a, b) = (text(left), text(right))
                    if a.elementsEqual(b) { return left < right }
                    return a.lexicographicallyPrecedes(b)
                }
            for token in order { trie.add(Int32(token), text(token)) }
        }
        trie.close(to: 0)
        nodes = trie.nodes
        parents = trie.parents
        twins = trie.twins
        maximumLength = trie.maximumLength
    }

    /// The number of tokens.
    public var count: Int { starts.count - 1 }

    /// The number of 32-bit words of a mask.
    public var maskWords: Int { (count + 31) / 32 }

    /// The bytes of a token; empty if it is never part of text, or no token at all.
    func bytes(of token: TokenID) -> ArraySlice<UInt8> {
        guard token >= 0, token < count else { return [] }
        return bytes[starts[Int(token)]..<starts[Int(token) + 1]]
    }
}

/// Makes a trie of texts that come in order.
private struct TrieBuilder {
    var nodes: [TokenVocabulary.Node] = []
    var parents: [Int32] = []
    var twins: [TokenID: TokenID] = [:]
    var maximumLength = 0
    /// The nodes from the root to the last one.
    private var path: [Int32] = []

    mutating func add(_ token: Int32, _ text: some Collection<UInt8>) {
        var shared = 0
        for byte in text {
            guard shared < path.count, nodes[Int(path[shared])].byte == byte else { break }
            shared += 1
        }
        if shared == text.count, let last = path.last, shared == path.count, nodes[Int(last)].token >= 0 {
            // The same bytes again: remembered behind the token before.
            var twin = nodes[Int(last)].token
            while let next = twins[twin] { twin = next }
            twins[twin] = token
            return
        }
        close(to: shared)
        for byte in text.dropFirst(shared) {
            parents.append(path.last ?? -1)
            path.append(Int32(nodes.count))
            nodes.append(TokenVocabulary.Node(skip: 0, token: -1, depth: UInt16(path.count), byte: byte))
        }
        if let last = path.last { nodes[Int(last)].token = token }
        maximumLength = max(maximumLength, path.count)
    }

    /// Leaves all nodes but the first so many of the path.
    mutating func close(to depth: Int) {
        while path.count > depth {
            let node = path.removeLast()
            nodes[Int(node)].skip = Int32(nodes.count)
        }
    }
}
