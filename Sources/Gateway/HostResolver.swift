// Tandem — Apache-2.0

import Glibc

/// The system's view of host names.
public enum HostResolver {
    /// All addresses of a name, IPv4 and IPv6, as numbers, in a stable order. Blocks, for as long as the system's resolver
    /// takes: not for event loops.
    ///
    /// - Throws: ``HostError``.
    public static func addresses(of host: String) throws(HostError) -> [String] {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var found: UnsafeMutablePointer<addrinfo>?
        let code = getaddrinfo(host, nil, &hints, &found)
        guard code == 0 else {
            let reason = code == EAI_SYSTEM ? strerror(errno).map { String(cString: $0) } : nil
            throw HostError(host: host, reason: reason ?? String(cString: gai_strerror(code)))
        }
        defer { freeaddrinfo(found) }
        var addresses: Set<String> = []
        var text = [CChar](repeating: 0, count: Int(NI_MAXHOST))
        var next = found
        while let entry = next?.pointee {
            next = entry.ai_next
            let length = socklen_t(text.count)
            guard getnameinfo(entry.ai_addr, entry.ai_addrlen, &text, length, nil, 0, NI_NUMERICHOST) == 0 else {
                continue
            }
            addresses.insert(String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self))
        }
        guard !addresses.isEmpty else { throw HostError(host: host, reason: "it has no address") }
        // Answers come in any order, and indices are given in this one.
        return addresses.sorted()
    }
}

/// A name whose addresses cannot be found.
public struct HostError: Error, Sendable, Equatable, CustomStringConvertible {
    public var host: String
    public var reason: String

    public init(host: String, reason: String) {
        self.host = host
        self.reason = reason
    }

    public var description: String { "the addresses of \(host) cannot be found: \(reason)" }
}
