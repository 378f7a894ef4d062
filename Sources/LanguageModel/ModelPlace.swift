// Tandem — Apache-2.0

import Glibc

/// What a path to a model means.
enum ModelPlace {
    /// A GGUF file.
    case file(String)
    /// A directory with a `config.json`.
    case directory(String)

    /// - Throws: ``LanguageModelError`` if the path is a directory without a model, or with several.
    init(path: String) throws(LanguageModelError) {
        guard Self.isDirectory(path) else {
            self = .file(path)
            return
        }
        if Self.exists(path + "/config.json") {
            self = .directory(path)
            return
        }
        let files = Self.entries(of: path).filter { $0.lowercased().hasSuffix(".gguf") }.sorted()
        guard let file = files.first else {
            throw LanguageModelError(
                path: path, subject: "directory", reason: "it holds neither a config.json nor a GGUF file")
        }
        guard files.count == 1 else {
            throw LanguageModelError(
                path: path, subject: "directory",
                reason: "it holds \(files.count) GGUF files, \(files.prefix(3).joined(separator: ", ")) among them; "
                    + "give the path of one")
        }
        self = .file(path + "/" + file)
    }

    static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

    /// The last name of a directory's path, links and dots resolved.
    static func name(ofDirectory path: String) -> String {
        let full = realpath(path, nil)
        defer { free(full) }
        let text = full.map { String(cString: $0) } ?? path
        return text.split(separator: "/").last.map(String.init) ?? "model"
    }

    private static func isDirectory(_ path: String) -> Bool {
        var status = stat()
        return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }

    private static func entries(of directory: String) -> [String] {
        guard let stream = opendir(directory) else { return [] }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            names.append(
                withUnsafePointer(to: &entry.pointee.d_name) { name in
                    name.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
                })
        }
        return names
    }
}
