// Tandem — Apache-2.0

/// Makes a model of a hub be in the cache: asks what it consists of, fetches the files one by one, checks each, and only
/// then says that it is there.
struct HubPull {
    var reference: HubReference
    var endpoint: HubEndpoint
    var cache: ModelCache
    var tools: ToolProcess
    /// For `curl`.
    var environment: [String: String]
    var check: ModelCheck
    var clock: PullClock
    /// Whether SIGINT, SIGTERM and SIGHUP end a pull orderly.
    var watchesSignals: Bool

    /// A configuration is a few kilobytes; `LanguageModel` reads no larger one.
    private static let maximumConfigurationBytes: UInt64 = 1 << 22

    private var files: HubCache { HubCache(root: cache.root, reference: reference) }

    /// - Parameter update: whether the hub is asked although the cache has the model.
    func run(update: Bool, progress: (PullEvent) -> Void) throws(ModelStoreError) -> ResolvedModel {
        if !update || endpoint.isOffline, let manifest = try files.current() { return cached(manifest, progress) }
        guard !endpoint.isOffline else { throw .hub(.offline(reference.text)) }
        guard let curl = tools.find("curl") else { throw .toolMissing("curl") }
        try Files.makeDirectories(cache.root)
        let lock = try CacheLock(path: cache.lockFile) { progress(.waitingForAnotherPull) }
        defer { lock.release() }
        // Perhaps the one we waited for fetched it.
        if !update, let manifest = try files.current() { return cached(manifest, progress) }
        // Under the lock, whatever lies here belongs to a pull that was killed.
        Files.removeTree(cache.temporaryDirectory)
        try Files.makeDirectories(cache.temporaryDirectory)
        defer { Files.removeTree(cache.temporaryDirectory) }
        try Files.makeDirectories(files.partialDirectory)
        try Files.makeDirectories(files.manifestsDirectory)
        defer { files.removeEmptyDirectories() }

        let signals = SignalWatch(enabled: watchesSignals)
        let client = HubClient(
            endpoint: endpoint, reference: reference, tools: tools, curl: curl, environment: environment,
            workDirectory: cache.temporaryDirectory, clock: clock)
        do {
            return try pull(client, signals: signals, progress: progress)
        } catch .interrupted(let signal) {
            throw .hub(.stopped(reference.text, signal: signal))
        } catch {
            throw error
        }
    }

    private func cached(_ manifest: HubManifest, _ progress: (PullEvent) -> Void) -> ResolvedModel {
        let path = files.modelPath(manifest)
        progress(.cached(commit: manifest.commit, bytes: manifest.byteCount, path: path))
        return ResolvedModel(name: reference.servedName, path: path)
    }

    private func pull(
        _ client: HubClient, signals: borrowing SignalWatch, progress: (PullEvent) -> Void
    ) throws(ModelStoreError) -> ResolvedModel {
        progress(.asking(endpoint: endpoint.base))
        let revision = try client.revision(signals: signals, progress: progress)
        let listed = try client.files(of: revision.commit, signals: signals, progress: progress)
        let plan = try HubPlan(listed, for: reference)
        var fetch = Fetch(client: client, cache: files, commit: revision.commit)
        var notes: [String] = []
        var ggufPath: String?

        switch plan {
        case .gguf(let file):
            let reasons = [revision.ggufArchitecture.flatMap(check.ggufArchitecture), check.ggufName(file.fileName)]
            if let reason = reasons.compactMap(\.self).first {
                throw .hub(.notServable(reference.repository, reason: Printable.text(reason, limit: 1000)))
            }
            ggufPath = file.path
            try begin([file], of: revision.commit, progress)
            try fetch.file(file, signals: signals, progress: progress)
        case .directory(let configuration, let others, let weights):
            try begin(
                [configuration] + others + [weights.file], of: revision.commit, onlyIfWhole: weights.isFile, progress)
            try fetch.file(configuration, signals: signals, progress: progress)
            try checkConfiguration(fetch.path(of: configuration))
            var rest = others
            switch weights {
            case .file(let file): rest.append(file)
            case .index(let index):
                try fetch.file(index, signals: signals, progress: progress)
                let shards = try HubPlan.shards(try readIndex(fetch.path(of: index)), in: listed, reference)
                rest += shards
                try begin([configuration, index] + rest, of: revision.commit, progress)
            }
            for file in rest { try fetch.file(file, signals: signals, progress: progress) }
            if !others.contains(where: { $0.path == "tokenizer.json" }) {
                notes.append("it has no tokenizer.json; to serve it, give one by --tokenizer")
            }
        }
        return try finish(fetch, ggufPath: ggufPath, notes: notes, progress)
    }

    /// Says what will be fetched, drops what is on its way to something else, and makes sure that there is room.
    private func begin(
        _ wanted: [HubFile], of commit: String, onlyIfWhole: Bool = true, _ progress: (PullEvent) -> Void
    ) throws(ModelStoreError) {
        guard onlyIfWhole else { return }
        files.removePartials(except: wanted)
        let missing = wanted.reduce(UInt64(0)) { sum, file in
            if FileStatus(path: files.path(of: file, commit: commit)) != nil || !files.copies(of: file).isEmpty {
                return sum
            }
            let present = FileStatus(path: files.partialPath(of: file))?.byteCount ?? 0
            return sum &+ (file.byteCount &- min(present, file.byteCount))
        }
        progress(
            .planned(
                commit: commit, files: wanted.count, bytes: wanted.reduce(0) { $0 &+ $1.byteCount }, missing: missing))
        if let available = Files.availableBytes(at: files.partialDirectory), available < missing {
            throw .diskFull(path: cache.root, neededBytes: missing, availableBytes: available)
        }
    }

    private func checkConfiguration(_ path: String) throws(ModelStoreError) {
        guard let bytes = Files.bytes(of: path, limit: Int(Self.maximumConfigurationBytes)) else {
            throw .hub(.notServable(reference.repository, reason: "its config.json is too large to be one"))
        }
        if let reason = check.configuration(bytes) {
            throw .hub(.notServable(reference.repository, reason: Printable.text(reason, limit: 1000)))
        }
    }

    private func readIndex(_ path: String) throws(ModelStoreError) -> SafetensorsIndex {
        guard let bytes = Files.bytes(of: path, limit: maximumAnswerBytes) else {
            throw .hub(.notServable(reference.repository, reason: "its index is too large to be one"))
        }
        do throws(HubAnswerError) {
            return try SafetensorsIndex(bytes)
        } catch {
            throw .hub(.notServable(reference.repository, reason: "its index cannot be used: \(error.reason)"))
        }
    }

    private func finish(
        _ fetch: Fetch, ggufPath: String?, notes: [String], _ progress: (PullEvent) -> Void
    ) throws(ModelStoreError) -> ResolvedModel {
        let manifest = HubManifest(
            repository: reference.repository, revision: reference.revision, choice: reference.choiceText,
            commit: fetch.commit, endpoint: endpoint.base, ggufPath: ggufPath, entries: fetch.entries)
        try Files.synchronize(files.directory(ofCommit: fetch.commit))
        try Files.write(manifest.json(), to: files.manifestPath)
        try Files.synchronize(files.manifestsDirectory)
        Files.removeTree(files.partialDirectory)
        for note in notes { progress(.note(note)) }
        let path = files.modelPath(manifest)
        progress(.finished(path: path))
        return ResolvedModel(name: reference.servedName, path: path)
    }
}

extension HubPlan.Weights {
    fileprivate var file: HubFile {
        switch self {
        case .file(let file), .index(let file): file
        }
    }

    fileprivate var isFile: Bool {
        guard case .file = self else { return false }
        return true
    }
}

/// Brings files to their places and notes what was brought.
private struct Fetch {
    var client: HubClient
    var cache: HubCache
    var commit: String
    var entries: [HubManifest.Entry] = []

    init(client: HubClient, cache: HubCache, commit: String) {
        self.client = client
        self.cache = cache
        self.commit = commit
    }

    func path(of file: HubFile) -> String { cache.path(of: file, commit: commit) }

    /// Makes a file be in its place with the right bytes.
    mutating func file(
        _ file: HubFile, signals: borrowing SignalWatch, progress: (PullEvent) -> Void
    ) throws(ModelStoreError) {
        let place = path(of: file)
        let copies = cache.copies(of: file)
        var isHere = copies.contains(place)
        if !isHere { isHere = try self.isHere(file, at: place, signals: signals, progress: progress) }
        if !isHere {
            try Files.makeDirectories(String(place.dropLast(file.fileName.utf8.count)))
            if let copy = copies.first, Files.link(copy, to: place) {
                progress(.reused(file: file.path, bytes: file.byteCount))
            } else {
                try fetch(file, to: place, signals: signals, progress: progress)
            }
        }
        guard let status = FileStatus(path: place) else { throw .unusableFile(path: place, reason: "it vanished") }
        entries.append(HubManifest.Entry(file: file, modified: status.modified))
    }

    /// Whether an earlier pull, perhaps one that did not come to its end, left the file.
    private func isHere(
        _ file: HubFile, at place: String, signals: borrowing SignalWatch, progress: (PullEvent) -> Void
    ) throws(ModelStoreError) -> Bool {
        guard let status = FileStatus(path: place), status.isRegular, status.byteCount == file.byteCount else {
            return false
        }
        return try digest(of: place, file, signals: signals, progress: progress) == file.content.digest
    }

    private func fetch(
        _ file: HubFile, to place: String, signals: borrowing SignalWatch, progress: (PullEvent) -> Void
    ) throws(ModelStoreError) {
        let partial = cache.partialPath(of: file)
        var last = FetchProgress(file: file.path, received: 0, total: file.byteCount, nanoseconds: 0)
        try client.fetch(file, commit: commit, to: partial, signals: signals) { event in
            if case .fetching(let state) = event { last = state }
            progress(event)
        }
        let digest = try digest(of: partial, file, signals: signals, progress: progress)
        guard digest == file.content.digest else {
            Files.removeTree(partial)
            throw .checksumMismatch(file: file.path, expected: file.content.digest, found: digest)
        }
        try Files.synchronize(partial)
        try Files.move(partial, to: place)
        try Files.synchronize(String(place.dropLast(file.fileName.utf8.count)))
        progress(.fetched(last))
    }

    private func digest(
        of path: String, _ file: HubFile, signals: borrowing SignalWatch, progress: (PullEvent) -> Void
    ) throws(ModelStoreError) -> String {
        try HubCache.digest(of: path, file) { done throws(ModelStoreError) in
            progress(.checking(file: file.path, done: done, total: file.byteCount))
            if let signal = signals.next() { throw .interrupted(signal: signal) }
        }
    }
}
