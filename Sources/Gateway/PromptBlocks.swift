// Tandem — Apache-2.0

import EngineLink
import Requests
import Routing

/// How the engines of a model cut prompts into blocks and name them, so that the router looks for what they report.
struct PromptBlocks {
    private let model: Digest128
    private let seed: UInt64
    private let blockSize: Int
    /// Where requests without a salt begin.
    private let unsalted: BlockHash

    init(_ hello: EngineHello) {
        model = hello.modelFingerprint
        seed = hello.hashSeed
        blockSize = Int(hello.blockSize)
        unsalted = .root(model: model, salt: "", seed: seed)
    }

    /// The full blocks that an engine may take from its prefix cache for a request.
    func hints(for request: EngineRequest) -> RoutingHints {
        guard blockSize > 0, request.mayUsePrefixCache else { return RoutingHints() }
        let blocks = min((request.tokens.count - 1) / blockSize, Self.maximumBlocks)
        guard blocks > 0 else { return RoutingHints() }
        var last =
            request.cacheSalt.isEmpty
            ? unsalted : BlockHash.root(model: model, salt: request.cacheSalt, seed: seed)
        var prefix: [BlockHash] = []
        prefix.reserveCapacity(blocks)
        for block in 0..<blocks {
            last = last.next(tokens: request.tokens[block * blockSize..<(block + 1) * blockSize])
            prefix.append(last)
        }
        return RoutingHints(prefix: prefix, blockSize: blockSize)
    }

    /// Some 0.1 ms of hashing; what lies behind decides nothing any more.
    private static let maximumBlocks = 2048
}

extension EngineRequest {
    /// Whether an engine may take blocks of its prompt from the prefix cache.
    fileprivate var mayUsePrefixCache: Bool {
        pooling != .mean && (promptLogProbabilities == nil || resumeOffset > 0) && !tokens.isEmpty
    }
}
