// Tandem — Apache-2.0

/// Where models of hubs lie below the cache's directory:
///
///     hub/ORG/NAME/COMMIT/…             the files, under their names in the repository
///     hub/ORG/NAME/manifests/….json     what belongs to a reference; written when all of it is there and checked
///     hub/ORG/NAME/partial/DIGEST       files on their way, named by what they will hold
///
/// The place does not depend on the hub that a model came from.
struct HubCache {
    var root: String
    var reference: HubReference

    private var repositoryDirectory: String { "\(root)/hub/\(reference.repository)" }
    var manifestsDirectory: String { repositoryDirectory + "/manifests" }
    var partialDirectory: String { repositoryDirectory + "/partial" }

    func directory(ofCommit commit: String) -> String { "\(repositoryDirectory)/\(commit)" }

    func path(of file: HubFile, commit: String) -> String { "\(directory(ofCommit: commit))/\(file.path)" }

    /// Where a file is while it arrives. By its digest, so that what is there is always the beginning of what will be.
    func partialPath(of file: HubFile) -> String { "\(partialDirectory)/\(file.content.digest)" }

    var manifestPath: String {
        let choice = reference.choiceText.map { ":" + $0 } ?? ""
        let name = HubEndpoint.encoded(reference.revision + choice, keepingSlashes: false)
        // Few names are that long; the digest of one is as good.
        if name.utf8.count <= 200 { return "\(manifestsDirectory)/\(name).json" }
        var digest = SHA256()
        Array(name.utf8).withUnsafeBytes { digest.update($0) }
        return "\(manifestsDirectory)/\(digest.hexDigest()).json"
    }

    /// What is opened: a GGUF file, or the directory.
    func modelPath(_ manifest: HubManifest) -> String {
        directory(ofCommit: manifest.commit) + (manifest.ggufPath.map { "/" + $0 } ?? "")
    }

    /// The manifest of the reference, if all of its files are there with the bytes that were checked.
    func current() throws(ModelStoreError) -> HubManifest? {
        guard var manifest = Self.manifest(at: manifestPath), manifest.repository == reference.repository else {
            return nil
        }
        var isRenewed = false
        for (index, entry) in manifest.entries.enumerated() {
            let path = path(of: entry.file, commit: manifest.commit)
            guard let status = FileStatus(path: path), status.isRegular, status.byteCount == entry.file.byteCount else {
                return nil
            }
            if status.modified == entry.modified { continue }
            guard try Self.hasContent(path, entry.file, progress: { _ in }) else { return nil }
            manifest.entries[index].modified = status.modified
            isRenewed = true
        }
        // A cache that cannot be written only costs time at the next start.
        if isRenewed { try? Files.write(manifest.json(), to: manifestPath) }
        return manifest
    }

    /// Whether a file has the bytes it should have.
    static func hasContent(
        _ path: String, _ file: HubFile, progress: (UInt64) throws(ModelStoreError) -> Void
    ) throws(ModelStoreError) -> Bool {
        try digest(of: path, file, progress: progress) == file.content.digest
    }

    static func digest(
        of path: String, _ file: HubFile, progress: (UInt64) throws(ModelStoreError) -> Void
    ) throws(ModelStoreError) -> String {
        switch file.content {
        case .sha256: try Files.sha256(of: path, progress: progress)
        case .gitBlob: try Files.gitBlob(of: path, progress: progress)
        }
    }

    static func manifest(at path: String) -> HubManifest? {
        Files.bytes(of: path, limit: HubManifest.maximumBytes).flatMap { HubManifest($0) }
    }

    /// All manifests of the repository.
    func manifests() -> [HubManifest] {
        Files.names(in: manifestsDirectory).filter { $0.hasSuffix(".json") }
            .compactMap { Self.manifest(at: "\(manifestsDirectory)/\($0)") }
    }

    /// Where files with this content are that were fetched for some reference or commit and have not changed since.
    func copies(of file: HubFile) -> [String] {
        manifests().flatMap { manifest in
            manifest.entries.compactMap { entry in
                guard entry.file.content == file.content, entry.file.byteCount == file.byteCount else { return nil }
                let path = path(of: entry.file, commit: manifest.commit)
                guard let status = FileStatus(path: path), status.isRegular, status.byteCount == file.byteCount,
                    status.modified == entry.modified
                else { return nil }
                return path
            }
        }
    }

    /// Leaves nothing of a repository of which nothing was fetched.
    func removeEmptyDirectories() {
        let organization = "\(root)/hub/\(reference.organization)"
        for path in [partialDirectory, manifestsDirectory, repositoryDirectory, organization, "\(root)/hub"] {
            Files.removeIfEmpty(path)
        }
    }

    /// Removes what is on its way and does not belong to `files`.
    func removePartials(except files: [HubFile]) {
        let kept = Set(files.map(\.content.digest))
        for name in Files.names(in: partialDirectory) where !kept.contains(name) {
            Files.removeTree("\(partialDirectory)/\(name)")
        }
    }

    /// Removes the reference, and the files that no other one needs.
    func remove() {
        let removed = Self.manifest(at: manifestPath)
        Files.removeTree(manifestPath)
        let others = manifests()
        guard !others.isEmpty else {
            Files.removeTree(repositoryDirectory)
            removeEmptyDirectories()
            return
        }
        let commits = Set(others.map(\.commit))
        for name in Files.names(in: repositoryDirectory) {
            // Earlier commits of a branch, too.
            guard case .gitBlob? = HubFile.Content(digest: name), !commits.contains(name) else { continue }
            Files.removeTree(directory(ofCommit: name))
        }
        guard let removed, commits.contains(removed.commit) else { return }
        let needed = Set(others.filter { $0.commit == removed.commit }.flatMap { $0.entries.map(\.file.path) })
        for entry in removed.entries where !needed.contains(entry.file.path) {
            Files.removeTree(path(of: entry.file, commit: removed.commit))
        }
    }
}
