// Tandem — Apache-2.0

internal import JSON

/// What the hub says of a repository at a revision: its answer to `/api/models/ORG/NAME/revision/REVISION`.
struct HubRevision: Equatable {
    /// 40 hexadecimal digits.
    var commit: String
    /// `general.architecture` of its GGUF files, if the hub read them.
    var ggufArchitecture: String?

    /// - Throws: why it is no such answer.
    init(_ bytes: [UInt8]) throws(HubAnswerError) {
        let object = try answer(bytes).object
        guard let sha = object?["sha"]?.string, case .gitBlob(let commit)? = HubFile.Content(digest: sha) else {
            throw HubAnswerError("it holds no commit")
        }
        self.commit = commit
        ggufArchitecture = object?["gguf"]?.object?["architecture"]?.string
    }
}

/// A page of the list of a repository's files: an answer to `/api/models/ORG/NAME/tree/COMMIT?recursive=true`.
struct HubListingPage: Equatable {
    /// The most files that a repository may have, and the most pages to list them.
    static let maximumFiles = 50_000
    static let maximumPages = 200

    /// Files with usable names; the names are untrusted, and what cannot be a path here is left out.
    var files: [HubFile]

    /// - Throws: why it is no such answer.
    init(_ bytes: [UInt8]) throws(HubAnswerError) {
        guard let entries = try answer(bytes).array else { throw HubAnswerError("it is no list of files") }
        files = []
        for entry in entries {
            guard let object = entry.object, let path = object["path"]?.string, let type = object["type"]?.string else {
                throw HubAnswerError("it lists something without path or type")
            }
            guard type == "file", HubFile.isSafePath(path) else { continue }
            // The outer id of such a file is that of the pointer that git has in its place.
            let large = object["lfs"]?.object
            let id = (large ?? object)["oid"]?.string ?? ""
            let size = ((large ?? object)["size"] ?? object["size"])?.integer
            guard let content = HubFile.Content(digest: id), let size, size >= 0 else {
                throw HubAnswerError("it lists \(Printable.quoted(path)) without size or digest")
            }
            files.append(HubFile(path: path, byteCount: UInt64(size), content: content))
        }
    }

    /// The query of the next page, from the header `Link` (RFC 8288); null if this was the last.
    ///
    /// Only the query is taken: whatever server a page names, the next request goes to the hub in use.
    static func nextQuery(link: String?) -> String? {
        var rest = Substring(link ?? "")
        while let open = rest.firstIndex(of: "<"), let close = rest[open...].firstIndex(of: ">") {
            let target = rest[rest.index(after: open)..<close]
            rest = rest[rest.index(after: close)...]
            let parameters = rest.prefix { $0 != "<" }
            let isNext = parameters.split(separator: ";").contains { parameter in
                let text = parameter.filter { $0 != " " && $0 != "\"" && $0 != "," }.lowercased()
                return text == "rel=next"
            }
            guard isNext else { continue }
            guard let mark = target.firstIndex(of: "?"), target.utf8.count <= 4096 else { return nil }
            let query = target[target.index(after: mark)...].prefix { $0 != "#" }
            return query.utf8.allSatisfy { (0x21...0x7e).contains($0) && $0 != 0x22 && $0 != 0x5c }
                ? String(query) : nil
        }
        return nil
    }
}

/// The files that `model.safetensors.index.json` names.
struct SafetensorsIndex: Equatable {
    /// Names of the files, sorted.
    var files: [String]

    /// Far above any model's.
    static let maximumFiles = 4096

    /// - Throws: why it is no such index.
    init(_ bytes: [UInt8]) throws(HubAnswerError) {
        guard let map = try answer(bytes).object?["weight_map"]?.object else {
            throw HubAnswerError("it has no weight_map")
        }
        var names: Set<String> = []
        for (tensor, value) in map.entries {
            guard let name = value.string, name.hasSuffix(".safetensors"), !name.contains("/"),
                HubFile.isSafePath(name)
            else { throw HubAnswerError("the file of \(Printable.quoted(tensor)) is no .safetensors file beside it") }
            names.insert(name)
        }
        guard (1...Self.maximumFiles).contains(names.count) else {
            throw HubAnswerError("it names \(names.count) files; 1 to \(Self.maximumFiles) are allowed")
        }
        files = names.sorted()
    }
}

/// Why bytes are not the answer that was expected.
struct HubAnswerError: Error, Equatable {
    var reason: String

    init(_ reason: String) {
        self.reason = reason
    }
}

/// The most bytes of an answer in JSON, an index included.
let maximumAnswerBytes = 64 << 20

private func answer(_ bytes: [UInt8]) throws(HubAnswerError) -> JSONValue {
    do throws(JSONError) {
        let limits = JSONLimits(maximumDepth: 32, maximumBytes: maximumAnswerBytes, maximumValues: 4_000_000)
        return try JSONParser.parse(bytes, limits: limits)
    } catch {
        throw HubAnswerError("it is no JSON, byte \(error.offset): \(error.reason)")
    }
}
