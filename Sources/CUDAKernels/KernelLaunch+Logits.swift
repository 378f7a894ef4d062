// Tandem — Apache-2.0

/// Rows of logits: `[row][stride]` floats, of which the first `vocabulary` count.
public struct LogitRows: Sendable {
    /// Largest vocabulary that selection and sampling take.
    public static let vocabularyLimit = 1 << 20

    public var base: DevicePointer<Float>
    /// Floats from one row to the next, a multiple of 8.
    public var stride: Int
    public var vocabulary: Int

    public init(base: DevicePointer<Float>, stride: Int, vocabulary: Int) {
        self.base = base
        self.stride = stride
        self.vocabulary = vocabulary
    }
}

/// What changes logits before tokens are chosen; see ``AdjustRow``.
public struct AdjustmentLists: Sendable {
    public var rows: DevicePointer<AdjustRow>
    public var count: Int
    public var banned: DevicePointer<Int32>
    public var biases: DevicePointer<TokenBiasEntry>
    public var counts: DevicePointer<TokenCountEntry>
    /// Number of counts of each sequence that has any.
    public var countLengths: DevicePointer<Int32>
    /// Room for what the logits were.
    public var saved: DevicePointer<Float>

    public init(
        rows: DevicePointer<AdjustRow>, count: Int, banned: DevicePointer<Int32>,
        biases: DevicePointer<TokenBiasEntry>, counts: DevicePointer<TokenCountEntry>,
        countLengths: DevicePointer<Int32>, saved: DevicePointer<Float>
    ) {
        self.rows = rows
        self.count = count
        self.banned = banned
        self.biases = biases
        self.counts = counts
        self.countLengths = countLengths
        self.saved = saved
    }
}

extension KernelLaunch {
    private static let rowThreads = 1024

    /// Most entries of a request of ``topLogProbabilities``; results of request `i` start at `i` times this.
    public static let mostLikeliest = 64

    /// Largest logit and logarithm of the sum of exponentials of each row, side by side in `stats`.
    ///
    /// - Parameter rows: which rows of the logits.
    public static func logitStatistics(
        _ logits: LogitRows, rows: DevicePointer<Int32>, stats: DevicePointer<Float>, count: Int
    ) -> KernelLaunch {
        var launch = KernelLaunch(.logitStatistics, grid: LaunchSize(count), threads: rowThreads)
        launch.add(logits)
        launch.add(rows)
        launch.add(stats)
        return launch
    }

    /// Log-probabilities of single tokens.
    ///
    /// - Parameters:
    ///   - stats: of ``logitStatistics(_:rows:stats:count:)``.
    ///   - pairs: for each three numbers: row of the logits (negative: padding), index of its statistics, token. A token
    ///     below 0 stands for `sampled[-1 - token]`.
    ///   - ranks: places from 1 by falling logit, or `nil`.
    public static func gatherLogProbabilities(
        _ logits: LogitRows, stats: DevicePointer<Float>, pairs: DevicePointer<Int32>, sampled: DevicePointer<Int32>,
        logProbabilities: DevicePointer<Float>, ranks: DevicePointer<Int32>?, count: Int
    ) -> KernelLaunch {
        var launch = KernelLaunch(
            .gatherLogProbabilities, grid: LaunchSize(count), threads: rowThreads)
        launch.add(logits)
        launch.add(stats)
        launch.add(pairs)
        launch.add(sampled)
        launch.add(logProbabilities)
        launch.add(ranks)
        return launch
    }

    /// The likeliest tokens, likeliest first, equal ones by id.
    ///
    /// - Parameters:
    ///   - requests: for each three numbers: row of the logits (negative: padding), index of its statistics, how many.
    ///   - found: how many there are of each.
    public static func topLogProbabilities(
        _ logits: LogitRows, stats: DevicePointer<Float>, requests: DevicePointer<Int32>,
        tokens: DevicePointer<Int32>, logProbabilities: DevicePointer<Float>, found: DevicePointer<Int32>, count: Int
    ) -> KernelLaunch {
        var launch = KernelLaunch(.topLogProbabilities, grid: LaunchSize(count), threads: rowThreads)
        launch.add(logits)
        launch.add(stats)
        launch.add(requests)
        launch.add(tokens)
        launch.add(logProbabilities)
        launch.add(found)
        return launch
    }

    /// Chooses a token for each row: `sampled[i]` is that of `rows[i]`, and `lastTokens` of its slot too unless it is a
    /// draft.
    ///
    /// - Parameter masks: words of permitted tokens, bit `i` of word `w` is token `32 w + i`; `nil` if no row has one.
    public static func sampleRows(
        _ logits: LogitRows, rows: DevicePointer<SampleRow>, masks: DevicePointer<UInt32>?,
        sampled: DevicePointer<Int32>, lastTokens: DevicePointer<Int32>, count: Int
    ) -> KernelLaunch {
        var launch = KernelLaunch(.sampleRows, grid: LaunchSize(count), threads: rowThreads)
        launch.add(logits)
        launch.add(rows)
        launch.add(masks)
        launch.add(sampled)
        launch.add(lastTokens)
        return launch
    }

    /// Applies bans, biases and penalties in place.
    public static func adjustLogits(_ logits: LogitRows, _ lists: AdjustmentLists) -> KernelLaunch {
        var launch = KernelLaunch(.adjustLogits, grid: LaunchSize(lists.count), threads: 256)
        launch.add(logits)
        launch.add(lists)
        return launch
    }

    /// Takes back what ``adjustLogits(_:_:)`` did; before ``noteTokens(_:sampled:)``.
    public static func restoreLogits(_ logits: LogitRows, _ lists: AdjustmentLists) -> KernelLaunch {
        var launch = KernelLaunch(.restoreLogits, grid: LaunchSize(lists.count), threads: 256)
        launch.add(logits)
        launch.add(lists)
        return launch
    }

    /// Counts the tokens that were chosen for rows with penalties.
    public static func noteTokens(_ lists: AdjustmentLists, sampled: DevicePointer<Int32>) -> KernelLaunch {
        var launch = KernelLaunch(.noteTokens, grid: LaunchSize(lists.count), threads: 256)
        launch.add(lists.rows)
        launch.add(sampled)
        launch.add(lists.counts)
        launch.add(lists.countLengths)
        return launch
    }

    private mutating func add(_ logits: LogitRows) {
        add(logits.base)
        add(logits.stride)
        add(logits.vocabulary)
    }

    private mutating func add(_ lists: AdjustmentLists) {
        add(lists.rows)
        add(lists.banned)
        add(lists.biases)
        add(lists.counts)
        add(lists.countLengths)
        add(lists.saved)
    }
}
