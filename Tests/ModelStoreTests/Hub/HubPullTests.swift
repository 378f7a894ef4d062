// Tandem — Apache-2.0

import Foundation
import Synchronization
import Testing

@testable import ModelStore

/// Pulls with a stand-in for `curl`: a script that reads its configuration, notes it, and answers from files. What the
/// real one does is tested by `Tests/Integration/test_pull.py`.
@Suite struct HubPullTests {
    /// A clock that stands still and notes how long it was asked to wait.
    private final class Waits: Sendable {
        let seconds = Mutex<[Int]>([])

        var clock: PullClock {
            PullClock(now: { 0 }, wait: { seconds, _ in self.seconds.withLock { $0.append(seconds) } })
        }
    }

    private let directory: TemporaryDirectory
    private let waits = Waits()
    private let commit = String(repeating: "c", count: 40)

    init() throws {
        directory = try TemporaryDirectory()
    }

    private var store: ModelStore {
        var store = ModelStore(
            catalogue: ModelCatalogue(entries: []),
            environment: [
                "TANDEM_CACHE": directory.path + "/cache", "PATH": directory.path + "/bin:/usr/bin:/bin",
                "HF_TOKEN": "hf_secret",
            ],
            watchesSignals: false)
        store.clock = waits.clock
        return store
    }

    /// `cases` are branches of a `case "$url" in`; `$out` is the file for the content, `$heads` that for the heads,
    /// `$count` how often curl has been called.
    private func install(_ cases: String) throws {
        try directory.write(
            """
            #!/bin/sh
            here=$(dirname "$0")
            configuration=$(cat)
            value() { printf '%s\\n' "$configuration" | sed -n "s/^$1 = \\"\\(.*\\)\\"\\$/\\1/p"; }
            url=$(value url); out=$(value output); heads=$(value dump-header)
            echo "$* $(env)" >> "$here/calls"
            count=$(cat "$here/urls" 2>/dev/null | wc -l); echo "$url" >> "$here/urls"
            answer() { printf 'HTTP/1.1 %s\\r\\n%s\\r\\n' "$1" "$2" > "$heads"; echo "tandem-status: $1 "; }
            case "$url" in
            \(cases)
            esac
            """, to: "bin/curl", executable: true)
    }

    private func error() -> HubError? {
        do throws(ModelStoreError) {
            _ = try store.resolve("org/name") { _ in }
            return nil
        } catch .hub(let error) {
            return error
        } catch {
            return nil
        }
    }

    private var waited: [Int] { waits.seconds.withLock { $0 } }

    private func cases(of content: String) -> String {
        var sha = SHA256()
        Array(content.utf8).withUnsafeBytes { sha.update($0) }
        return """
            */revision/main) echo '{"sha": "\(commit)"}' > "$out"; answer 200;;
            */tree/*) echo '[{"type": "file", "path": "m.gguf", "oid": "\(commit)", "size": 5,
                "lfs": {"oid": "\(sha.hexDigest())", "size": 5}}]' > "$out"; answer 200;;
            */resolve/*) case "$out" in /dev/null) ;; *) printf hello > "$out";; esac; answer 200;;
            """
    }

    @Test func tokensAreInNoCommandLineAndNoEnvironment() throws {
        try install(cases(of: "hello"))
        let model = try store.resolve("org/name") { _ in }
        #expect(model == ResolvedModel(name: "org/name", path: "\(directory.path)/cache/hub/org/name/\(commit)/m.gguf"))
        #expect(try String(contentsOfFile: model.path, encoding: .utf8) == "hello")
        let calls = try String(contentsOfFile: directory.path + "/bin/calls", encoding: .utf8)
        #expect(!calls.contains("hf_secret"))
        #expect(calls.hasPrefix("--disable --config - "))
        #expect(!directory.exists("cache/tmp") && !directory.exists("cache/hub/org/name/partial"))
        #expect(
            try store.resolve("org/name") { event in
                guard case .cached = event else { Issue.record("\(event)"); return }
            } == model)
        #expect(try store.cachedModels().map(\.name) == ["org/name"])
    }

    @Test func wrongBytesAreRemoved() throws {
        try install(cases(of: "jello"))
        #expect(throws: ModelStoreError.self) { try store.resolve("org/name") { _ in } }
        #expect(!directory.files.contains { $0.hasSuffix(".gguf") || $0.contains("partial/") })
        #expect(try store.cachedModels().isEmpty)
    }

    @Test func pausesGrowAndEnd() throws {
        try install("*) echo 'curl: (7) Failed to connect' >&2; exit 7;;")
        #expect(error() == .unreachable(endpoint: "https://huggingface.co", reason: "Failed to connect"))
        #expect(waited == [1, 2, 4, 8])
    }

    @Test func pausesAreThoseThatTheHubAsksFor() throws {
        try install(
            """
            */revision/main) if [ "$count" -lt 2 ]; then answer 429 'Retry-After: 7\r
            '; else echo '{"sha": "\(commit)"}' > "$out"; answer 200; fi;;
            *) answer 503;;
            """)
        #expect(error() == .unavailable("org/name", status: 503, attempts: 5))
        #expect(waited == [7, 7, 1, 2, 4, 8])
    }

    @Test func longPausesAreNotMade() throws {
        try install("*) answer 429 'RateLimit: \"api\";r=0;t=1000\r\n';;")
        #expect(error() == .rateLimited(endpoint: "https://huggingface.co", seconds: 1000, hasToken: true))
        #expect(waited.isEmpty)
    }

    @Test func certificatesThatCannotBeTrustedAreNotTriedAgain() throws {
        try install("*) echo 'curl: (60) SSL certificate problem' >&2; exit 60;;")
        #expect(error() == .unreachable(endpoint: "https://huggingface.co", reason: "SSL certificate problem"))
        #expect(waited.isEmpty)
    }

    @Test func missingCurlIsTold() throws {
        let store = ModelStore(
            catalogue: ModelCatalogue(entries: []),
            environment: ["TANDEM_CACHE": directory.path + "/cache", "PATH": directory.path + "/nothing"],
            watchesSignals: false)
        #expect(throws: ModelStoreError.toolMissing("curl")) { try store.resolve("org/name") { _ in } }
    }

    @Test func refusalsComeBeforeTheWeights() throws {
        try install(
            cases(of: "hello").replacing(
                #""sha": "\#(commit)""#, with: #""sha": "\#(commit)", "gguf": {"architecture": "bert"}"#))
        var store = store
        store.check = ModelCheck(
            configuration: { _ in nil }, ggufArchitecture: { "\($0) is not supported" }, ggufName: { _ in nil })
        #expect(throws: ModelStoreError.hub(.notServable("org/name", reason: "bert is not supported"))) {
            try store.resolve("org/name") { _ in }
        }
        let urls = try String(contentsOfFile: directory.path + "/bin/urls", encoding: .utf8)
        #expect(!urls.contains("/resolve/"))
    }
}
