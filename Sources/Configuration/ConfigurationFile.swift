// Tandem — Apache-2.0

internal import Glibc
internal import Yams

/// A YAML file whose keys are the names of the flags.
struct ConfigurationFile {
    /// As the user wrote it.
    var name: String
    /// Texts of the values; a null is as if the key were not there.
    var values: [String: String]

    /// - Parameter keys: what may be in the file.
    init(path: String, keys: [String]) throws(ConfigurationError) {
        try self.init(name: path, yaml: Self.contents(of: path), keys: keys)
    }

    init(name: String, yaml: String, keys: [String]) throws(ConfigurationError) {
        self.name = name
        values = [:]
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
            let key = keyNode.scalar?.string ?? "?"
            guard keys.contains(key) else {
                throw ConfigurationError(
                    source: name,
                    reason:
                        "unknown key \"\(key)\"\(Self.line(keyNode)); known keys are \(keys.joined(separator: ", "))"
                )
            }
            guard let value = valueNode.scalar else {
                throw ConfigurationError(
                    source: "\(name): \(key)", reason: "it should be a single value, not a list or a mapping")
            }
            if valueNode.null == nil { values[key] = value.string }
        }
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
