// Tandem — Apache-2.0

/// How engines that share a device are started.
struct SharingRules: Sendable, Equatable {
    /// One after the other: engines that start together measure and take memory at the same time, and one of them may
    /// come to nothing.
    var isSequential = true
    /// What makes the sharing work, for people.
    var title = "MPS"
}
