// Tandem — Apache-2.0

/// Reads the web origins of `allowed-origins`.
public enum OriginList {
    /// Origins with commas between them, or as vLLM takes them, a JSON list.
    ///
    /// - Throws: ``ConfigurationError`` for what is neither `*` nor `scheme://host`, perhaps with a port.
    public static func origins(_ text: String, source: String) throws(ConfigurationError) -> [String] {
        var list = text.trimmingWhitespace
        if list.hasPrefix("["), list.hasSuffix("]") { list = list.dropFirst().dropLast() }
        var origins: [String] = []
        for part in list.split(separator: ",") {
            var origin = part.trimmingWhitespace
            if origin.count > 1, origin.hasPrefix("\""), origin.hasSuffix("\"") {
                origin = origin.dropFirst().dropLast()
            }
            guard origin == "*" || isOrigin(origin) else {
                throw ConfigurationError(
                    source: source,
                    reason: "\"\(origin)\" is no origin: give https://host, http://host:port, or * for all pages")
            }
            origins.append(String(origin))
        }
        return origins
    }

    private static func isOrigin(_ text: Substring) -> Bool {
        guard let scheme = text.firstRange(of: "://") else { return false }
        let host = text[scheme.upperBound...]
        return scheme.lowerBound > text.startIndex && !host.isEmpty
            && host.utf8.allSatisfy { byte in
                byte > 0x20 && byte < 0x7F && !"/?#@\"\\,".utf8.contains(byte)
            }
    }
}

extension StringProtocol {
    fileprivate var trimmingWhitespace: Substring {
        var text = Substring(self)
        while text.first?.isWhitespace == true { text.removeFirst() }
        while text.last?.isWhitespace == true { text.removeLast() }
        return text
    }
}
