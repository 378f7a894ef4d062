// Tandem — Apache-2.0

import Fuzzing

/// What the command line asks for.
struct Options {
    static let usage = """
        usage: fuzz TARGET|all [--executions N] [--seed S] [--seconds T] [--corpus DIR] [--memory MIB]
               fuzz TARGET --replay SEED:EXECUTION [--corpus DIR] [--write FILE]
        targets: \(FuzzTarget.names.joined(separator: ", "))
          --executions N   inputs to read (1000000)
          --seed S         decides which (1)
          --seconds T      stop earlier, after this time
          --corpus DIR     begin from the files in DIR, too
          --memory MIB     address space that reading may take (4096)
          --replay S:N     read the one input N of the seed S, in this process
          --write FILE     store that input
        """

    var targets: [String] = []
    var executions: UInt64 = 1_000_000
    var seed: UInt64 = 1
    var seconds: UInt64?
    var corpus: String?
    var memory: UInt64 = 4096
    var replay: UInt64?
    var output: String?
    /// In a child: the file of the tally, the first execution and the directory for files.
    var tally: String?
    var first: UInt64 = 0
    var directory: String?

    /// - Returns: nil if the arguments make no sense.
    init?(_ arguments: [String]) {
        var rest = arguments[...]
        while let argument = rest.popFirst() {
            if !argument.hasPrefix("-") {
                targets += argument == "all" ? FuzzTarget.names : [argument]
                continue
            }
            guard let value = rest.popFirst() else { return nil }
            switch argument {
            case "--executions": guard let number = UInt64(value) else { return nil }; executions = number
            case "--seed": guard let number = UInt64(value) else { return nil }; seed = number
            case "--seconds": guard let number = UInt64(value) else { return nil }; seconds = number
            case "--memory": guard let number = UInt64(value), number < 1 << 40 else { return nil }; memory = number
            case "--first": guard let number = UInt64(value) else { return nil }; first = number
            case "--corpus": corpus = value
            case "--write": output = value
            case "--tally": tally = value
            case "--directory": directory = value
            case "--replay":
                let parts = value.split(separator: ":").map { UInt64($0) }
                guard parts.count == 2, let first = parts[0], let second = parts[1] else { return nil }
                (seed, replay) = (first, second)
            default: return nil
            }
        }
        guard !targets.isEmpty, targets.allSatisfy(FuzzTarget.names.contains) else { return nil }
    }
}
