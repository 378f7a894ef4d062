// Tandem — Apache-2.0

/// Recognises the end of every answer in a session.
///
/// The daemon says nothing when a list is empty, and the command-line tool says nothing when it was cut off, both with
/// exit status 0. So a command that no daemon knows follows each command: the complaint about it proves that the answer
/// before it is whole.
struct ControlSession {
    let commands: [ControlCommand]
    private let sentinels: [String]

    /// - Parameter nonce: differs from session to session.
    init(_ commands: [ControlCommand], nonce: UInt64) {
        self.commands = commands
        sentinels = commands.indices.map { "tandem_\(String(nonce, radix: 36))_\($0)" }
    }

    /// What is written to the daemon, line by line.
    var lines: [String] {
        zip(commands, sentinels).flatMap { [$0.line, $1] }
    }

    /// The lines of each command; null if the session was not seen to its end.
    func split(_ output: [String]) -> [[String]]? {
        var answers: [[String]] = []
        var current: [String] = []
        for line in output {
            guard answers.count < sentinels.count else { return nil }
            if line == "Unknown command \"\(sentinels[answers.count])\"" {
                answers.append(current)
                current = []
            } else {
                current.append(line)
            }
        }
        return answers.count == commands.count && current.isEmpty ? answers : nil
    }
}
