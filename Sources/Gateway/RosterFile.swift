// Tandem — Apache-2.0

import Glibc

/// A file that names upstreams, one a line.
public struct RosterFile: Sendable, Equatable {
    /// What tells one state of a file from another without reading it. A file that is replaced by a renamed one, or whose
    /// directory is swapped by a symbolic link, has another inode.
    public struct Fingerprint: Sendable, Equatable {
        var device: UInt64
        var inode: UInt64
        var size: Int64
        var seconds: Int64
        var nanoseconds: Int64

        init(_ status: stat) {
            device = UInt64(status.st_dev)
            inode = UInt64(status.st_ino)
            size = Int64(status.st_size)
            seconds = Int64(status.st_mtim.tv_sec)
            nanoseconds = Int64(status.st_mtim.tv_nsec)
        }
    }

    /// In the order of the file, none twice.
    public var addresses: [UpstreamAddress]
    /// Of the bytes that were read.
    public var fingerprint: Fingerprint?

    static let maximumBytes = 1 << 20
    static let maximumAddresses = 4096

    /// Reads a file.
    ///
    /// - Parameter takesEngines: whether addresses of Tandem's own engines may stand in it.
    /// - Throws: ``RosterError``.
    public init(path: String, takesEngines: Bool) throws(RosterError) {
        let (bytes, fingerprint) = try Self.read(path)
        self.init(
            addresses: try Self.parse(String(decoding: bytes, as: UTF8.self), source: path, takesEngines: takesEngines),
            fingerprint: fingerprint)
    }

    private init(addresses: [UpstreamAddress], fingerprint: Fingerprint?) {
        self.addresses = addresses
        self.fingerprint = fingerprint
    }

    /// How the file is now; `nil` if it cannot be seen.
    static func fingerprint(of path: String) -> Fingerprint? {
        var status = stat()
        return stat(path, &status) == 0 ? Fingerprint(status) : nil
    }

    /// The fingerprint is of the file that was opened, whatever the path names by then.
    private static func read(_ path: String) throws(RosterError) -> ([UInt8], Fingerprint) {
        func failed() -> RosterError {
            RosterError(source: path, line: nil, reason: "it cannot be read: \(String(cString: strerror(errno)))")
        }
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { throw failed() }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw failed() }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw RosterError(source: path, line: nil, reason: "it is no file")
        }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = Glibc.read(descriptor, &chunk, chunk.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw failed() }
            guard count > 0 else { return (bytes, Fingerprint(status)) }
            bytes += chunk[..<count]
            guard bytes.count <= maximumBytes else {
                throw RosterError(source: path, line: nil, reason: "it is longer than \(maximumBytes) bytes")
            }
        }
    }

    /// Reads what a roster says: an address a line, which may be quoted or an item of a YAML list; what follows `#` at the
    /// beginning of a line or after a blank is left out.
    ///
    /// - Parameters:
    ///   - source: for errors.
    ///   - takesEngines: whether addresses of Tandem's own engines may stand in it.
    /// - Throws: ``RosterError`` with the line of the first address that is none, or if there is no address at all.
    public static func parse(
        _ text: String, source: String, takesEngines: Bool
    ) throws(RosterError) -> [UpstreamAddress] {
        var addresses: [UpstreamAddress] = []
        var known: Set<UpstreamAddress> = []
        // "\r\n" is one character.
        for (index, line) in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).enumerated() {
            guard let item = item(in: line) else { continue }
            func wrong(_ reason: String) -> RosterError { RosterError(source: source, line: index + 1, reason: reason) }
            let address: UpstreamAddress
            do {
                address = try UpstreamAddress(item)
            } catch {
                throw wrong("\(error)")
            }
            guard takesEngines || !address.isEngine else {
                throw wrong(
                    "\(address) is an engine that knows no text, and the gateway was started without its model: "
                        + "tandem gateway MODEL --roster \(source)")
            }
            guard known.insert(address).inserted else { continue }
            addresses.append(address)
            guard addresses.count <= maximumAddresses else { throw wrong("more than \(maximumAddresses) addresses") }
        }
        guard !addresses.isEmpty else {
            // Mostly a file that is being written.
            throw RosterError(source: source, line: nil, reason: "it names no endpoint")
        }
        return addresses
    }

    /// The address on a line; `nil` if the line has none.
    private static func item(in line: Substring) -> String? {
        var text = line
        var last: Character = " "
        if let comment = text.firstIndex(where: { character in
            defer { last = character }
            return character == "#" && last.isWhitespace
        }) {
            text = text[..<comment]
        }
        text = trimmed(text)
        if text == "-" { return nil }
        if text.hasPrefix("- ") || text.hasPrefix("-\t") { text = trimmed(text.dropFirst()) }
        for quote in ["\"", "'"] where text.count >= 2 && text.hasPrefix(quote) && text.hasSuffix(quote) {
            text = text.dropFirst().dropLast()
            break
        }
        // The head of a YAML document, and of the list.
        guard !text.isEmpty, text != "---", text != "endpoints:" else { return nil }
        return String(text)
    }

    private static func trimmed(_ text: Substring) -> Substring {
        var text = text.drop(while: \.isWhitespace)
        while text.last?.isWhitespace == true { text.removeLast() }
        return text
    }
}

/// Why a roster cannot be used.
public struct RosterError: Error, Sendable, Equatable, CustomStringConvertible {
    public var source: String
    /// Counted from 1; `nil` if no single line is at fault.
    public var line: Int?
    public var reason: String

    public var description: String { "\(source)\(line.map { ":\($0)" } ?? ""): \(reason)" }
}
