// Tandem — Apache-2.0

/// A model in the cache.
public struct CachedModel: Sendable, Equatable {
    /// What it is called by.
    public var name: String
    /// The commit of a hub's repository; null for models of the catalogue.
    public var commit: String?
    /// Bytes of its files; models of one repository may share some.
    public var byteCount: UInt64
    /// What is opened.
    public var path: String

    public init(name: String, commit: String?, byteCount: UInt64, path: String) {
        self.name = name
        self.commit = commit
        self.byteCount = byteCount
        self.path = path
    }
}

extension ModelStore {
    /// The models in the cache, sorted by name; of what was not fetched whole nothing is said.
    public func cachedModels() throws(ModelStoreError) -> [CachedModel] {
        let cache = try ModelCache(environment: environment)
        var models: [CachedModel] = []
        for entry in catalogue.entries {
            guard let status = FileStatus(path: cache.path(of: entry)), status.byteCount == entry.byteCount else {
                continue
            }
            models.append(
                CachedModel(name: entry.name, commit: nil, byteCount: status.byteCount, path: cache.path(of: entry)))
        }
        for organization in Files.names(in: cache.root + "/hub") {
            for name in Files.names(in: "\(cache.root)/hub/\(organization)") {
                let files = HubCache(
                    root: cache.root, reference: HubReference(organization: organization, name: name))
                for manifest in files.manifests() {
                    let choice = manifest.choice.map { ":" + $0 } ?? ""
                    let isMain = manifest.revision == HubReference.defaultRevision
                    models.append(
                        CachedModel(
                            name: manifest.repository + (isMain ? "" : "@" + manifest.revision) + choice,
                            commit: manifest.commit, byteCount: manifest.byteCount, path: files.modelPath(manifest)))
                }
            }
        }
        return models.sorted { $0.name < $1.name }
    }

    /// Removes a model from the cache, with all that no other model there needs.
    ///
    /// - Parameter name: what it is called by, as ``cachedModels()`` says or as it was fetched.
    /// - Throws: ``ModelStoreError/notCached(name:)`` if it is not there.
    public func remove(_ name: String) throws(ModelStoreError) {
        let cache = try ModelCache(environment: environment)
        if let entry = catalogue.entry(named: name) {
            let path = cache.path(of: entry)
            guard FileStatus(path: path) != nil else { throw .notCached(name: name) }
            Files.removeTree(path)
            Files.removeTree(path + ".sha256")
            return
        }
        guard let reference = try HubReference.parse(name, endpoint: try HubEndpoint(environment: environment)) else {
            throw .notCached(name: name)
        }
        let files = HubCache(root: cache.root, reference: reference)
        guard FileStatus(path: files.manifestsDirectory) != nil else { throw .notCached(name: name) }
        let lock = try CacheLock(path: cache.lockFile) {}
        defer { lock.release() }
        guard FileStatus(path: files.manifestPath) != nil else { throw .notCached(name: name) }
        files.remove()
    }
}
