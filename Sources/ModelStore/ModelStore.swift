// Tandem — Apache-2.0

/// A model that is ready to be opened.
public struct ResolvedModel: Sendable, Equatable {
    /// The name it is served under if the user gives no other.
    public var name: String
    /// A GGUF file, or a directory.
    public var path: String

    public init(name: String, path: String) {
        self.name = name
        self.path = path
    }
}

/// Turns what a user calls a model into a file: a path is taken as it is, a name is looked up in the catalogue and
/// fetched into the cache when it is not there.
public struct ModelStore: Sendable {
    public var catalogue: ModelCatalogue
    private let environment: [String: String]
    private let watchesSignals: Bool

    /// A store for a command-line program: it reads this process's environment and, while it fetches, takes SIGINT,
    /// SIGTERM and SIGHUP to clean up. Use it on the main thread, before others exist.
    public init() {
        self.init(catalogue: .standard, environment: processEnvironment(), watchesSignals: true)
    }

    /// - Parameters:
    ///   - environment: `TANDEM_CACHE`, `XDG_CACHE_HOME` and `HOME` place the cache, `PATH` finds Python and pip; all
    ///     of it is passed to them.
    ///   - watchesSignals: see ``init()``.
    public init(catalogue: ModelCatalogue, environment: [String: String], watchesSignals: Bool) {
        self.catalogue = catalogue
        self.environment = environment
        self.watchesSignals = watchesSignals
    }

    /// Finds the model, fetching it if needed.
    ///
    /// - Parameter nameOrPath: a path if it contains `/`, ends with `.gguf`, exists as a file, or exists as a directory
    ///   and is not in the catalogue; else a name.
    public func resolve(_ nameOrPath: String, progress: (PullEvent) -> Void) throws(ModelStoreError) -> ResolvedModel {
        if isPath(nameOrPath) { return try resolveFile(nameOrPath) }
        let entry = try entry(named: nameOrPath)
        let cache = try ModelCache(environment: environment)
        if try cache.holds(entry) { return ResolvedModel(name: entry.name, path: cache.path(of: entry)) }
        let pull = ModelPull(
            cache: cache,
            tools: ToolProcess(searchPath: environment["PATH"] ?? "/usr/bin:/bin"),
            environment: environment,
            watchesSignals: watchesSignals)
        return ResolvedModel(name: entry.name, path: try pull.run(entry, progress: progress))
    }

    private func isPath(_ nameOrPath: String) -> Bool {
        nameOrPath.contains("/") || nameOrPath.lowercased().hasSuffix(".gguf")
            || FileStatus(path: nameOrPath).map { status in
                status.isRegular || status.isDirectory && catalogue.entry(named: nameOrPath) == nil
            } ?? false
    }

    private func resolveFile(_ path: String) throws(ModelStoreError) -> ResolvedModel {
        guard let status = FileStatus(path: path) else {
            throw .unusableFile(path: path, reason: "there is no such file")
        }
        if status.isDirectory {
            return ResolvedModel(name: Files.lastComponent(ofDirectory: path) ?? "model", path: path)
        }
        guard status.isRegular else {
            throw .unusableFile(
                path: path, reason: "it is neither a .gguf file nor a directory with a model's files")
        }
        var name = String(path.split(separator: "/").last ?? "model")
        if name.lowercased().hasSuffix(".gguf") { name.removeLast(5) }
        return ResolvedModel(name: name.isEmpty ? "model" : name, path: path)
    }

    private func entry(named name: String) throws(ModelStoreError) -> CatalogueEntry {
        if let entry = catalogue.entry(named: name) { return entry }
        throw .unknownModel(name: name, known: catalogue.entries.map(\.name))
    }
}
