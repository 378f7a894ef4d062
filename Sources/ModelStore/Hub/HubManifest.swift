// Tandem — Apache-2.0

internal import JSON

/// What was fetched for a reference: enough to use it again without the network.
struct HubManifest: Equatable {
    struct Entry: Equatable {
        var file: HubFile
        /// Time of last change when its bytes were checked, in nanoseconds since 1970.
        var modified: Int64
    }

    var repository: String
    var revision: String
    /// ``HubReference/choiceText``
    var choice: String?
    /// The commit that the revision was when it was fetched.
    var commit: String
    /// The hub it came from, for people.
    var endpoint: String
    /// The GGUF file to open; null if the directory is the model.
    var ggufPath: String?
    var entries: [Entry]

    var byteCount: UInt64 { entries.reduce(0) { $0 &+ $1.file.byteCount } }

    private static let version: Int64 = 1
    /// Larger ones are not ours.
    static let maximumBytes = 4 << 20

    func json() -> String {
        var writer = JSONWriter()
        writer.beginObject()
        writer.key("version")
        writer.integer(Self.version)
        let texts = [
            ("repository", repository), ("revision", revision), ("choice", choice), ("commit", commit),
            ("endpoint", endpoint), ("gguf", ggufPath),
        ]
        for (key, value) in texts {
            guard let value else { continue }
            writer.key(key)
            writer.string(value)
        }
        writer.key("files")
        writer.beginArray()
        for entry in entries {
            writer.beginObject()
            writer.key("path")
            writer.string(entry.file.path)
            writer.key("bytes")
            writer.integer(entry.file.byteCount)
            writer.key("digest")
            writer.string(entry.file.content.digest)
            writer.key("modified")
            writer.integer(entry.modified)
            writer.endObject()
        }
        writer.endArray()
        writer.endObject()
        return String(decoding: writer.bytes, as: UTF8.self) + "\n"
    }

    /// Reads what ``json()`` wrote; null if it is anything else.
    init?(_ bytes: [UInt8]) {
        let limits = JSONLimits(maximumDepth: 8, maximumBytes: Self.maximumBytes, maximumValues: 200_000)
        guard let object = (try? JSONParser.parse(bytes, limits: limits))?.object,
            object["version"]?.integer == Self.version, let repository = object["repository"]?.string,
            let revision = object["revision"]?.string, let endpoint = object["endpoint"]?.string,
            let commit = object["commit"]?.string, case .gitBlob? = HubFile.Content(digest: commit),
            let files = object["files"]?.array, !files.isEmpty
        else { return nil }
        var entries: [Entry] = []
        for file in files {
            guard let path = file.object?["path"]?.string, HubFile.isSafePath(path),
                let size = file.object?["bytes"]?.integer, size >= 0, let modified = file.object?["modified"]?.integer,
                let content = file.object?["digest"]?.string.flatMap(HubFile.Content.init)
            else { return nil }
            entries.append(
                Entry(file: HubFile(path: path, byteCount: UInt64(size), content: content), modified: modified))
        }
        let ggufPath = object["gguf"]?.string
        if let ggufPath, !entries.contains(where: { $0.file.path == ggufPath }) { return nil }
        self.init(
            repository: repository, revision: revision, choice: object["choice"]?.string, commit: commit,
            endpoint: endpoint, ggufPath: ggufPath, entries: entries)
    }

    init(
        repository: String, revision: String, choice: String?, commit: String, endpoint: String, ggufPath: String?,
        entries: [Entry]
    ) {
        self.repository = repository
        self.revision = revision
        self.choice = choice
        self.commit = commit
        self.endpoint = endpoint
        self.ggufPath = ggufPath
        self.entries = entries
    }
}
