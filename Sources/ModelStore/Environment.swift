// Tandem — Apache-2.0

internal import CTandemSystem

/// The environment of this process.
func processEnvironment() -> [String: String] {
    var environment: [String: String] = [:]
    guard var entry = tandem_environment() else { return environment }
    while let text = entry.pointee {
        let pair = String(cString: text).split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        if pair.count == 2 { environment[String(pair[0])] = String(pair[1]) }
        entry += 1
    }
    return environment
}
