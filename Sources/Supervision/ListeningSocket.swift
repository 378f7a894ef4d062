// Tandem — Apache-2.0

internal import Glibc

/// The TCP socket clients connect to. The supervisor binds it and every gateway inherits it, so that clients wait
/// while a gateway restarts.
struct ListeningSocket {
    private(set) var descriptor: Int32
    /// The port that is bound, also when any free one was asked for.
    let port: UInt16

    init(host: String, port: UInt16) throws(SupervisionError) {
        var hints = addrinfo()
        hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var addresses: UnsafeMutablePointer<addrinfo>?
        let code = getaddrinfo(host.isEmpty ? nil : host, "\(port)", &hints, &addresses)
        guard code == 0, let first = addresses else {
            throw .cannotListen(host: host, port: port, reason: String(cString: gai_strerror(code)))
        }
        defer { freeaddrinfo(addresses) }
        var lastError: Int32 = EADDRNOTAVAIL
        var next: UnsafeMutablePointer<addrinfo>? = first
        while let address = next {
            next = address.pointee.ai_next
            switch Self.listen(on: address.pointee) {
            case .success(let descriptor):
                self.descriptor = descriptor
                self.port = Self.boundPort(of: descriptor) ?? port
                return
            case .failure(let failure):
                lastError = failure.code
            }
        }
        if lastError == EADDRINUSE { throw .portInUse(host: host, port: port) }
        throw .cannotListen(host: host, port: port, reason: String(cString: strerror(lastError)))
    }

    /// Closes this process's handle; a gateway's stays.
    mutating func close() {
        guard descriptor >= 0 else { return }
        Glibc.close(descriptor)
        descriptor = -1
    }

    private struct Failure: Error { var code: Int32 }

    private static func listen(on address: addrinfo) -> Result<Int32, Failure> {
        let type = address.ai_socktype | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        let descriptor = socket(address.ai_family, type, address.ai_protocol)
        guard descriptor >= 0 else { return .failure(Failure(code: errno)) }
        var yes: Int32 = 1
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
        guard bind(descriptor, address.ai_addr, address.ai_addrlen) == 0, Glibc.listen(descriptor, 4096) == 0 else {
            let code = errno
            Glibc.close(descriptor)
            return .failure(Failure(code: code))
        }
        return .success(descriptor)
    }

    private static func boundPort(of descriptor: Int32) -> UInt16? {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        return withUnsafeMutablePointer(to: &storage) { storage in
            storage.withMemoryRebound(to: sockaddr.self, capacity: 1) { address -> UInt16? in
                guard getsockname(descriptor, address, &length) == 0 else { return nil }
                // The port lies at the same place in both address families.
                return address.withMemoryRebound(to: sockaddr_in.self, capacity: 1) {
                    UInt16(bigEndian: $0.pointee.sin_port)
                }
            }
        }
    }
}

extension ListeningSocket {
    /// A socket for each engine that is reached by a port of its own; none if they are not.
    static func ofEngines(
        _ configuration: SupervisorConfiguration
    ) throws(SupervisionError) -> [ListeningSocket] {
        guard let first = configuration.enginePorts else { return [] }
        let count = configuration.models.reduce(0) { $0 + $1.engines }
        var listeners: [ListeningSocket] = []
        do throws(SupervisionError) {
            for index in 0..<count {
                guard let port = UInt16(exactly: Int(first) + index) else {
                    throw SupervisionError.cannotListen(
                        host: configuration.host, port: first, reason: "there are no \(count) ports from there on")
                }
                do throws(SupervisionError) {
                    listeners.append(try ListeningSocket(host: configuration.host, port: port))
                } catch .portInUse(let host, let port) {
                    throw SupervisionError.enginePortInUse(host: host, port: port, first: first)
                }
            }
        } catch {
            for index in listeners.indices { listeners[index].close() }
            throw error
        }
        return listeners
    }
}
