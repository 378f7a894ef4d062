// Tandem — Apache-2.0

import Foundation

/// Where test data is.
enum ModelFixture {
    struct Missing: Error, CustomStringConvertible {
        var description: String
    }

    /// The real model, if this machine has it.
    static let realModel: String? = {
        let environment = ProcessInfo.processInfo.environment
        if let path = environment["TANDEM_TEST_MODEL"] { return path }
        let cache =
            environment["TANDEM_CACHE"]
            ?? (environment["XDG_CACHE_HOME"] ?? (environment["HOME"] ?? "") + "/.cache") + "/tandem"
        let path = cache + "/models/SmolLM2-135M-Instruct.Q4_1.gguf"
        return FileManager.default.fileExists(atPath: path) ? path : nil
    }()

    /// The real model's path, `nil` to skip (which is said), an error if it must be there.
    static func path() throws -> String? {
        if let realModel { return realModel }
        let reason = "no model: set TANDEM_TEST_MODEL to SmolLM2-135M-Instruct.Q4_1.gguf"
        if ProcessInfo.processInfo.environment["TANDEM_REQUIRE_MODEL"] == "1" { throw Missing(description: reason) }
        print("skipped: \(reason)")
        return nil
    }

    /// A file below `Tests/Fixtures`.
    static func data(_ name: String) throws -> Data {
        let tests = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        return try Data(contentsOf: tests.appendingPathComponent("Fixtures/\(name)"))
    }
}
