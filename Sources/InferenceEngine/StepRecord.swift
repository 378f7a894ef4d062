// Tandem — Apache-2.0

/// What the scheduler remembers of a planned step until its result is taken.
struct StepRecord: Sendable {
    struct Row: Sendable {
        var handle: Int
        /// Which sequence the handle named: handles are used again.
        var arrival: UInt64
        var slot: SlotIndex
        /// First position after the row.
        var end: Int
        var samples: Bool
        /// Position of the row's first prompt log-probability, if it asked for them.
        var firstPromptTarget: Int?
        /// Labels or a vector are reported.
        var scores: Bool
        /// The guesses behind the row's last known token, as indices of the sequence's tokens.
        var draft: Range<Int>
        /// The token is chosen among those of a mask.
        var isConstrained: Bool
        /// Whether the plan also added the slot.
        var isNew: Bool

        var expectsResult: Bool { samples || firstPromptTarget != nil || scores }
    }

    var step: UInt64
    /// Tokens of all rows.
    var tokens = 0
    var rows: [Row]
    /// The plan's removed slots.
    var removedSlots: [SlotIndex]
}

/// How many tokens of a sequence the step being planned computes.
struct Decision: Sendable {
    var handle: Int
    var count: Int
    /// Tokens of the sequence that are guessed to follow again.
    var draft = 0..<0
}
