// Tandem — Apache-2.0

import InferenceEngine
import Requests

/// A model that is no more than a hash: what it says after some tokens follows from those tokens alone, and from the
/// request's seed where it samples. It has nothing to do with the model whose time is simulated.
///
/// After a history all tokens have a rank: the first is chosen at random by the history, the others follow it in the
/// vocabulary's order, around its end. A token of rank r has the probability 2^-(r + 1), those beyond ``ranks`` next to
/// none. Of sampling parameters the seed, the choice, `topK` and `topP` count; temperature only as zero or not.
struct HashModel: Sendable {
    /// Tokens with a probability worth the name.
    static let ranks = 48

    let vocabularySize: Int

    /// The digest of an empty history.
    static let empty: UInt64 = 0x7461_6E64_656D_0001

    /// The digest of a history with one more token.
    @inline(__always)
    static func extend(_ digest: UInt64, by token: TokenID) -> UInt64 {
        StableHash.mix(digest &+ 0x9E37_79B9_7F4A_7C15 &* (UInt64(UInt32(bitPattern: token)) &+ 1))
    }

    /// The digest of a digest and another: order counts.
    @inline(__always)
    static func join(_ first: UInt64, _ second: UInt64) -> UInt64 {
        StableHash.mix(first &* 0xFF51_AFD7_ED55_8CCD &+ second)
    }

    /// The likeliest token.
    func first(_ digest: UInt64) -> TokenID {
        TokenID(StableHash.mix(digest ^ 0xD6E8_FEB8_6659_FD93) % UInt64(vocabularySize))
    }

    func token(ofRank rank: Int, _ digest: UInt64) -> TokenID {
        TokenID((Int(first(digest)) + rank) % vocabularySize)
    }

    func logProbability(of token: TokenID, _ digest: UInt64) -> Float {
        let (place, first) = (Int(token), Int(first(digest)))
        let rank = place >= first ? place - first : place - first + vocabularySize
        // -ln 2 for each rank.
        if rank < Self.ranks { return -0.693_147_2 * Float(rank + 1) }
        let noise = StableHash.mix(digest &+ UInt64(UInt32(bitPattern: token))) % 256
        return -40 - Float(noise) / 64
    }

    /// Which rank is chosen at a position.
    func rank(_ digest: UInt64, sampling: SamplingParameters, position: Int) -> Int {
        guard !sampling.isGreedy else { return 0 }
        var most = min(Self.ranks, vocabularySize)
        if sampling.topK > 0 { most = min(most, Int(sampling.topK)) }
        if sampling.topP < 1 {
            var (count, reached, share) = (1, Float(0.5), Float(0.5))
            while reached < sampling.topP, count < most {
                share /= 2
                reached += share
                count += 1
            }
            most = count
        }
        let number = CounterRandom.uniform(
            seed: sampling.seed ^ digest, choiceIndex: sampling.choiceIndex, position: position)
        var (rank, reached, share) = (0, 0.5, 0.5)
        while number >= reached, rank < Self.ranks {
            share /= 2
            reached += share
            rank += 1
        }
        return rank % most
    }

    /// The token at a position.
    func next(
        _ digest: UInt64, sampling: SamplingParameters, adjustments: LogitAdjustments?, position: Int
    ) -> TokenID {
        var rank = rank(digest, sampling: sampling, position: position)
        guard let adjustments else { return token(ofRank: rank, digest) }
        // Biases count where they rule a token in or out.
        let forced = adjustments.biases.filter { $0.bias >= 50 }
        if !forced.isEmpty { return forced[Int(first(digest)) % forced.count].token }
        let mayStop = position >= adjustments.promptCount + adjustments.minimumNewTokens
        for _ in 0..<vocabularySize {
            let token = token(ofRank: rank, digest)
            let isStop = !mayStop && adjustments.stopTokens.contains(token)
            if !isStop, !adjustments.biases.contains(where: { $0.token == token && $0.bias <= -50 }) { return token }
            rank = (rank + 1) % vocabularySize
        }
        return token(ofRank: rank, digest)
    }

    /// The same among the tokens of a mask; null if it permits none.
    func next(
        _ digest: UInt64, sampling: SamplingParameters, position: Int, mask: ArraySlice<UInt32>
    ) -> TokenID? {
        var count = 0
        for word in mask { count += word.nonzeroBitCount }
        guard count > 0 else { return nil }
        let rank = rank(digest, sampling: sampling, position: position)
        var wanted = (Int(StableHash.mix(digest ^ 0xA076_1D64_78BD_642F) % UInt64(count)) + rank) % count
        for (index, word) in mask.enumerated() {
            guard wanted >= word.nonzeroBitCount else {
                var word = word
                for _ in 0..<wanted { word &= word &- 1 }
                return TokenID(32 * index + word.trailingZeroBitCount)
            }
            wanted -= word.nonzeroBitCount
        }
        return nil
    }

    /// One number of the hidden state behind a history, a whole one, so that sums are exact.
    func feature(_ digest: UInt64, _ index: Int) -> Float {
        Float(Int(StableHash.mix(digest &+ UInt64(index) &* 0xD1B5_4A32_D192_ED03) % 255) - 127)
    }
}
