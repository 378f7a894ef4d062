// Tandem — Apache-2.0

internal import Glibc
internal import Yams

/// A YAML file whose keys are the names of the flags, and that may list models.
struct ConfigurationFile {
    /// One of several models.
    struct Entry: Equatable {
        /// `tandem.yaml: models[1]`.
        var place: String
        /// Texts of the values that were given; a `name` is a `served-model-name`.
        var values: [String: String] = [:]
        var aliases: [String] = []
    }

    /// As the user wrote it.
    var name: String
    /// Texts of the values; a null is as if the key were not there.
    var values: [String: String] = [:]
    /// What stands under `models`; null if nothing does.
    var models: [Entry]?

    /// - Parameters:
    ///   - keys: what may be in the file.
    ///   - entryKeys: what may be in an entry of its `models`; if empty, the file may have none.
    init(path: String, keys: [String], entryKeys: [String] = []) throws(ConfigurationError) {
        try self.init(name: path, yaml: Self.contents(of: path), keys: keys, entryKeys: entryKeys)
    }

    init(name: String, yaml: String, keys: [String], entryKeys: [String] = []) throws(ConfigurationError) {
        self.name = name
        let root: Node?
        do {
            root = try compose(yaml: yaml)
        } catch {
            throw ConfigurationError(source: name, reason: "it is not valid YAML: \(error)")
        }
        guard let root, root.null == nil else { return }
        guard let mapping = root.mapping else {
            throw ConfigurationError(source: name, reason: "it should have lines such as \"port: 8000\"")
        }
        for (keyNode, valueNode) in mapping {
            let key = try Self.key(keyNode, of: entryKeys.isEmpty ? keys : keys + ["models"], source: name)
            guard key == "models", !entryKeys.isEmpty else {
                values[key] = try Self.text(valueNode, source: "\(name): \(key)")
                continue
            }
            guard valueNode.null == nil else { continue }
            models = try Self.entries(valueNode, place: "\(name): models", keys: entryKeys)
        }
    }

    // MARK: - Models

    private static func entries(_ node: Node, place: String, keys: [String]) throws(ConfigurationError) -> [Entry] {
        guard let list = node.sequence, !list.isEmpty else {
            throw ConfigurationError(source: place, reason: "it should be a list with lines such as \"- model: NAME\"")
        }
        var entries: [Entry] = []
        for (index, element) in list.enumerated() {
            entries.append(try entry(element, place: "\(place)[\(index)]", keys: keys))
        }
        return entries
    }

    private static func entry(_ node: Node, place: String, keys: [String]) throws(ConfigurationError) -> Entry {
        guard let mapping = node.mapping else {
            throw ConfigurationError(source: place, reason: "it should have lines such as \"model: NAME\"")
        }
        var entry = Entry(place: place)
        for (keyNode, valueNode) in mapping {
            let key = try key(keyNode, of: keys, source: place)
            let source = "\(place).\(key)"
            if key == "aliases" {
                entry.aliases = try aliases(valueNode, source: source)
                continue
            }
            guard let text = try text(valueNode, source: source) else { continue }
            if key == "name" && text.isEmpty { throw ConfigurationError(source: source, reason: "it is empty") }
            let stored = key == "name" ? "served-model-name" : key
            guard entry.values.updateValue(text, forKey: stored) == nil else {
                throw ConfigurationError(
                    source: place, reason: "`name` and `served-model-name` are the same; give one of them")
            }
        }
        return entry
    }

    private static func aliases(_ node: Node, source: String) throws(ConfigurationError) -> [String] {
        guard node.null == nil else { return [] }
        guard let list = node.sequence else {
            throw ConfigurationError(source: source, reason: "it should be a list such as [small, fast]")
        }
        var aliases: [String] = []
        for (index, element) in list.enumerated() {
            guard let alias = try text(element, source: "\(source)[\(index)]"), !alias.isEmpty else {
                throw ConfigurationError(source: "\(source)[\(index)]", reason: "it is empty")
            }
            aliases.append(alias)
        }
        return aliases
    }

    // MARK: - Nodes

    private static func key(_ node: Node, of known: [String], source: String) throws(ConfigurationError) -> String {
        let key = node.scalar?.string ?? "?"
        guard known.contains(key) else {
            throw ConfigurationError(
                source: source,
                reason: "unknown key \"\(key)\"\(line(node)); known keys are \(known.joined(separator: ", "))")
        }
        return key
    }

    /// A single value; `nil` if it is null.
    private static func text(_ node: Node, source: String) throws(ConfigurationError) -> String? {
        guard let value = node.scalar else {
            throw ConfigurationError(source: source, reason: "it should be a single value, not a list or a mapping")
        }
        return node.null == nil ? value.string : nil
    }

    private static func line(_ node: Node) -> String {
        node.mark.map { " in line \($0.line)" } ?? ""
    }

    private static func contents(of path: String) throws(ConfigurationError) -> String {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            throw ConfigurationError(source: path, reason: "cannot be opened: \(String(cString: strerror(errno)))")
        }
        defer { close(descriptor) }
        let limit = 1 << 20
        var buffer = [UInt8](repeating: 0, count: limit + 1)
        var filled = 0
        while filled < buffer.count {
            let count = buffer.withUnsafeMutableBytes { read(descriptor, $0.baseAddress! + filled, $0.count - filled) }
            if count < 0 && errno == EINTR { continue }
            guard count >= 0 else {
                throw ConfigurationError(source: path, reason: "cannot be read: \(String(cString: strerror(errno)))")
            }
            if count == 0 { break }
            filled += count
        }
        guard filled <= limit else {
            throw ConfigurationError(source: path, reason: "it is larger than 1 MiB, which no configuration is")
        }
        guard let text = String(validating: buffer[..<filled], as: UTF8.self) else {
            throw ConfigurationError(source: path, reason: "it is not UTF-8 text")
        }
        return text
    }
}
