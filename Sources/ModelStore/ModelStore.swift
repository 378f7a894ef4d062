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

/// Says early, before gigabytes are fetched, that a model cannot be served.
public struct ModelCheck: Sendable {
    /// Takes the content of a `config.json` and gives the reason to refuse it, if there is one.
    public var configuration: @Sendable ([UInt8]) -> String?
    /// Takes `general.architecture` of a GGUF file, as a hub tells it.
    public var ggufArchitecture: @Sendable (String) -> String?
    /// Takes the name of a GGUF file, which usually ends with its quantization.
    public var ggufName: @Sendable (String) -> String?

    public init(
        configuration: @escaping @Sendable ([UInt8]) -> String?,
        ggufArchitecture: @escaping @Sendable (String) -> String?,
        ggufName: @escaping @Sendable (String) -> String?
    ) {
        self.configuration = configuration
        self.ggufArchitecture = ggufArchitecture
        self.ggufName = ggufName
    }

    /// Refuses nothing.
    public static let none = ModelCheck(
        configuration: { _ in nil }, ggufArchitecture: { _ in nil }, ggufName: { _ in nil })
}

/// Turns what a user calls a model into a file: a path is taken as it is, a name is looked up in the catalogue, and one
/// of the form `ORG/NAME` on a Hugging Face hub; what is not in the cache is fetched.
public struct ModelStore: Sendable {
    public var catalogue: ModelCatalogue
    /// Asked before the weights of a model of a hub are fetched.
    public var check = ModelCheck.none
    /// Time between attempts.
    var clock = PullClock.system
    let environment: [String: String]
    private let watchesSignals: Bool

    /// A store for a command-line program: it reads this process's environment and, while it fetches, takes SIGINT,
    /// SIGTERM and SIGHUP to clean up. Use it on the main thread, before others exist.
    public init() {
        self.init(catalogue: .standard, environment: processEnvironment(), watchesSignals: true)
    }

    /// - Parameters:
    ///   - environment: `TANDEM_CACHE`, `XDG_CACHE_HOME` and `HOME` place the cache, `PATH` finds Python, pip and curl;
    ///     all of it but tokens is passed to them. `HF_ENDPOINT`, `HF_TOKEN` and `HF_HUB_OFFLINE` are of hubs.
    ///   - watchesSignals: see ``init()``.
    public init(catalogue: ModelCatalogue, environment: [String: String], watchesSignals: Bool) {
        self.catalogue = catalogue
        self.environment = environment
        self.watchesSignals = watchesSignals
    }

    /// Finds the model, fetching it if needed.
    ///
    /// - Parameters:
    ///   - nameOrPath: a path if there is such a file, or such a directory and no model of the catalogue has its name; a
    ///     model of a hub if it has the form of a ``HubReference``; a path if it contains `/` or ends with `.gguf`; else a
    ///     name in the catalogue.
    ///   - update: whether a hub is asked what a revision is now, even though the cache has it.
    public func resolve(
        _ nameOrPath: String, update: Bool = false, progress: (PullEvent) -> Void
    ) throws(ModelStoreError) -> ResolvedModel {
        if exists(nameOrPath) { return try resolveFile(nameOrPath) }
        if catalogue.entry(named: nameOrPath) == nil {
            let endpoint = try HubEndpoint(environment: environment)
            if let reference = try HubReference.parse(nameOrPath, endpoint: endpoint) {
                return try hubPull(reference, endpoint).run(update: update, progress: progress)
            }
            if nameOrPath.contains("/") || nameOrPath.lowercased().hasSuffix(".gguf") {
                return try resolveFile(nameOrPath)
            }
        }
        let entry = try entry(named: nameOrPath)
        let cache = try ModelCache(environment: environment)
        if try cache.holds(entry) { return ResolvedModel(name: entry.name, path: cache.path(of: entry)) }
        let pull = ModelPull(
            cache: cache, tools: tools, environment: childEnvironment, watchesSignals: watchesSignals)
        return ResolvedModel(name: entry.name, path: try pull.run(entry, progress: progress))
    }

    private var tools: ToolProcess { ToolProcess(searchPath: environment["PATH"] ?? "/usr/bin:/bin") }

    /// A child needs no tokens: curl is told in its input, and only where one is meant to go.
    private var childEnvironment: [String: String] {
        environment.filter { $0.key != "HF_TOKEN" && $0.key != "HUGGING_FACE_HUB_TOKEN" && $0.key != "TANDEM_API_KEY" }
    }

    private func hubPull(_ reference: HubReference, _ endpoint: HubEndpoint) throws(ModelStoreError) -> HubPull {
        HubPull(
            reference: reference, endpoint: endpoint, cache: try ModelCache(environment: environment), tools: tools,
            environment: childEnvironment, check: check, clock: clock, watchesSignals: watchesSignals)
    }

    private func exists(_ nameOrPath: String) -> Bool {
        guard let status = FileStatus(path: nameOrPath) else { return false }
        return !status.isDirectory || nameOrPath.contains("/") || catalogue.entry(named: nameOrPath) == nil
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
