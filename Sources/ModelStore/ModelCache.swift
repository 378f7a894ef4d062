// Tandem — Apache-2.0

/// Where downloaded models lie: `<root>/models/<file>`, each with a stamp `<file>.sha256` that says which bytes were
/// checked, so that a start does not digest the file again.
public struct ModelCache: Sendable, Equatable {
    /// The cache directory; it may not exist yet.
    public var root: String

    public init(root: String) {
        self.root = root
    }

    /// `TANDEM_CACHE`, else `XDG_CACHE_HOME/tandem`, else `HOME/.cache/tandem`.
    public init(environment: [String: String]) throws(ModelStoreError) {
        if let directory = environment["TANDEM_CACHE"], !directory.isEmpty {
            root = directory
        } else if let directory = environment["XDG_CACHE_HOME"], directory.hasPrefix("/") {
            root = directory + "/tandem"
        } else if let home = environment["HOME"], !home.isEmpty {
            root = home + "/.cache/tandem"
        } else {
            throw .noCacheDirectory
        }
    }

    var modelsDirectory: String { root + "/models" }
    var temporaryDirectory: String { root + "/tmp" }
    var lockFile: String { root + "/pull.lock" }

    /// Where the file of `entry` lies once it is fetched.
    public func path(of entry: CatalogueEntry) -> String {
        modelsDirectory + "/" + entry.fileName
    }

    /// True if the file of `entry` is there and its bytes are known to be right: by its stamp, or, without one, by
    /// digesting it now.
    func holds(_ entry: CatalogueEntry) throws(ModelStoreError) -> Bool {
        let path = path(of: entry)
        guard let status = FileStatus(path: path), status.isRegular, status.byteCount == entry.byteCount else {
            return false
        }
        if Files.text(of: path + ".sha256") == stamp(entry.sha256, status) { return true }
        guard try Files.sha256(of: path, progress: { _ in }) == entry.sha256 else { return false }
        // A cache that cannot be written only costs time at the next start.
        try? writeStamp(for: entry)
        return true
    }

    /// Records that the file of `entry`, as it is now, has the right bytes.
    func writeStamp(for entry: CatalogueEntry) throws(ModelStoreError) {
        let path = path(of: entry)
        guard let status = FileStatus(path: path) else { return }
        try Files.write(stamp(entry.sha256, status), to: path + ".sha256")
    }

    private func stamp(_ digest: String, _ status: FileStatus) -> String {
        "\(digest) bytes=\(status.byteCount) modified=\(status.modified)\n"
    }
}
