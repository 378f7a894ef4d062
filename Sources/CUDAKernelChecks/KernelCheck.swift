// Tandem — Apache-2.0

public import CUDAKernels

/// One case for one or some kernels: inputs, what they must give by a reference in double precision, and how near.
public struct KernelCheck: Sendable, CustomStringConvertible {
    /// Such as `attention_decode_h64 group 7, window 32`.
    public let name: String
    /// Kernels that it runs.
    public let kernels: [Kernel]
    let body: @Sendable (CheckRun) throws -> Void

    init(_ name: String, _ kernels: [Kernel], _ body: @escaping @Sendable (CheckRun) throws -> Void) {
        self.name = name
        self.kernels = kernels
        self.body = body
    }

    public var description: String { name }

    /// Runs the case.
    ///
    /// - Throws: ``CheckFailure`` if a result is wrong, ``KernelMachineError`` if the machine failed.
    @discardableResult
    public func run(on machine: any KernelMachine) throws -> CheckResult {
        let run = CheckRun(machine: machine)
        defer { run.release() }
        try body(run)
        try run.checkGuards()
        return run.result
    }
}

/// What a check that held found.
public struct CheckResult: Sendable, Equatable {
    /// Largest relative error of an output (root of mean squares).
    public var error = 0.0
    /// How near to its tolerance the worst one came, 0 to 1.
    public var share = 0.0
    /// Hash of the bits of all outputs: two runs of a check must agree.
    public var digest: UInt64 = 0

    public init() {}
}

/// A kernel's result is not what it must be.
public struct CheckFailure: Error, CustomStringConvertible {
    public var description: String

    init(_ description: String) { self.description = description }
}

/// All checks.
public enum KernelChecks {
    /// In the order of the kernels' text; quick ones for a CPU.
    public static let all: [KernelCheck] =
        layerChecks + rotaryChecks + decodeChecks + prefillChecks + gateChecks + gemmChecks + gatedGEMMChecks
        + adjustmentChecks
        + logProbabilityChecks + samplingChecks + memoryChecks
}
