// Tandem — Apache-2.0

import Testing

@testable import ModelStore

@Suite struct HubProgressTests {
    private func fetching(_ received: UInt64, of total: UInt64, seconds: Double, resumedAt: UInt64 = 0) -> PullEvent {
        .fetching(
            FetchProgress(
                file: "m.safetensors", received: received, total: total, resumedAt: resumedAt,
                nanoseconds: UInt64(seconds * 1e9)))
    }

    @Test func terminalShowsRateAndRest() {
        var progress = PullProgress(name: "o/n", isTerminal: true)
        #expect(
            progress.text(for: fetching(110_000_000, of: 1_000_000_000, seconds: 10, resumedAt: 10_000_000))
                == "\r\u{1B}[K  m.safetensors: 110.0 MB of 1.00 GB, 10.0 MB/s, 1 min 29 s left")
        #expect(progress.text(for: fetching(0, of: 500, seconds: 0)) == "\r\u{1B}[K  m.safetensors: 0 B of 500 B")
        let done = FetchProgress(file: "m.safetensors", received: 500, total: 500, nanoseconds: 1_000_000_000)
        #expect(progress.text(for: .fetched(done)) == "\r\u{1B}[K  m.safetensors: 500 B, 500 B/s, checked\n")
        #expect(progress.interruption() == "")
    }

    @Test func logsGetALineForEachQuarter() {
        var progress = PullProgress(name: "o/n", isTerminal: false)
        let text = (0...100).map { progress.text(for: fetching($0 * 1_000_000, of: 100_000_000, seconds: 1)) }.joined()
        #expect(
            text.split(separator: "\n") == [0, 25, 50, 75, 100].map { "  m.safetensors: 100.0 MB, \($0) %" })
        #expect(progress.text(for: fetching(3, of: 500, seconds: 1)) == "")
        #expect(progress.text(for: .checking(file: "m", done: 1, total: 2)) == "")
    }

    @Test func planSaysWhatIsMissing() {
        var progress = PullProgress(name: "o/n", isTerminal: false)
        let commit = "0123456789abcdef0123456789abcdef01234567"
        func text(_ files: Int, missing: UInt64) -> String {
            progress.text(for: .planned(commit: commit, files: files, bytes: 2_000_000, missing: missing))
        }
        #expect(text(1, missing: 2_000_000) == "o/n: commit 0123456789ab, 1 file, 2.0 MB\n")
        #expect(text(3, missing: 1000) == "o/n: commit 0123456789ab, 3 files, 2.0 MB, 1 kB of it to fetch\n")
        #expect(text(3, missing: 0) == "o/n: commit 0123456789ab, 3 files, 2.0 MB, all here\n")
    }

    @Test(
        arguments: [
            (0, "0 B"), (999, "999 B"), (1000, "1 kB"), (999_499, "999 kB"), (1_000_000, "1.0 MB"),
            (98_362_432, "98.3 MB"),
            (999_999_999, "999.9 MB"), (1_000_000_000, "1.00 GB"), (1_234_567_890, "1.23 GB"),
            (2_050_000_000, "2.05 GB"),
        ] as [(UInt64, String)])
    func sizes(bytes: UInt64, text: String) {
        #expect(ByteText.size(bytes) == text)
    }

    @Test func times() {
        #expect(
            [0, 59, 60, 3599, 3600, 7260].map { ByteText.time(seconds: $0) } == [
                "0 s", "59 s", "1 min 0 s", "59 min 59 s", "1 h 0 min", "2 h 1 min",
            ])
    }

    @Test func textsFromOutsideAreMadePrintable() {
        #expect(Printable.text("a\u{1B}[2J\u{202E}b\nü") == "a?[2J?b?ü")
        #expect(Printable.text("abc", limit: 2) == "ab…")
    }
}
