// Tandem — Apache-2.0

/// What tests look at, or change, inside a step. Production code never sets one; each look costs a comparison with nil.
struct StepInspection: Sendable {
    /// Takes a row of the residual stream: the layer that reads it next, the token's position in its sequence, the
    /// numbers. With the number of layers for the layer: the row after the last norm, of tokens whose logits are wanted.
    var hidden: @Sendable (_ layer: Int, _ position: Int, _ row: UnsafeBufferPointer<Float>) -> Void = { _, _, _ in }
    /// Takes the logits that follow the token at a position.
    var logits: @Sendable (_ position: Int, _ row: UnsafeBufferPointer<Float>) -> Void = { _, _ in }
    /// Applied to every rotary frequency. Implementations that keep frequencies in the weights' precision round them.
    var rotaryRounding: (@Sendable (Float) -> Float)?
}
