// Tandem — Apache-2.0

import Glibc

/// Where tests find real weights and reference outputs.
public enum ModelFixture {
    /// The model is required and not there.
    public struct Missing: Error, CustomStringConvertible {
        public let description: String
    }

    /// The default model: at `TANDEM_TEST_MODEL`, or in the cache that `tandem pull` fills.
    ///
    /// - Returns: its path; nil, with the reason printed, where there is none. The test should end then.
    /// - Throws: ``Missing`` instead of nil if `TANDEM_REQUIRE_MODEL` is 1.
    public static func path() throws -> String? {
        let cache =
            environment("TANDEM_CACHE")
            ?? (environment("XDG_CACHE_HOME") ?? (environment("HOME") ?? "") + "/.cache") + "/tandem"
        let path = environment("TANDEM_TEST_MODEL") ?? cache + "/models/SmolLM2-135M-Instruct.Q4_1.gguf"
        if access(path, R_OK) == 0 { return path }
        let reason = "no model at \(path); run `tandem pull` or set TANDEM_TEST_MODEL"
        if environment("TANDEM_REQUIRE_MODEL") == "1" { throw Missing(description: reason) }
        print("skipped: \(reason)")
        return nil
    }

    /// The path of a file below `Tests/Fixtures`.
    public static func fixturePath(_ name: String) -> String {
        let sources = #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast(3)
        return sources.joined(separator: "/") + "/Tests/Fixtures/" + name
    }

    private static func environment(_ name: String) -> String? {
        getenv(name).map { String(cString: $0) }
    }
}
