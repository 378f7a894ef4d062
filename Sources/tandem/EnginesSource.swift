// Tandem — Apache-2.0

import Glibc
import JSON
import TerminalView

/// Where a server is, as a user writes it: `http://host:port`, `host:port`, `host`.
struct WebAddress {
    struct Problem: Error, CustomStringConvertible {
        var description: String
    }

    var host: String
    var port: String
    /// What comes before `/engines`.
    var path: String

    init(_ text: String) throws(Problem) {
        var rest = text[...]
        if let scheme = rest.firstRange(of: "://") {
            guard rest[..<scheme.lowerBound].lowercased() == "http" else {
                throw Problem(description: "\(text): only http:// can be asked")
            }
            rest = rest[scheme.upperBound...]
        }
        let slash = rest.firstIndex(of: "/") ?? rest.endIndex
        var path = String(rest[slash...])
        while path.hasSuffix("/") { path.removeLast() }
        if path.hasSuffix("/v1") { path.removeLast(3) }
        rest = rest[..<slash]
        if rest.hasPrefix("["), let end = rest.firstIndex(of: "]") {
            host = String(rest[rest.index(after: rest.startIndex)..<end])
            rest = rest[rest.index(after: end)...]
        } else {
            let end = rest.firstIndex(of: ":") ?? rest.endIndex
            host = String(rest[..<end])
            rest = rest[end...]
        }
        port = rest.isEmpty ? (text.contains("://") ? "80" : "8000") : String(rest.dropFirst())
        self.path = path
        guard !host.isEmpty, rest.isEmpty || rest.hasPrefix(":"), UInt16(port) != nil,
            (host + path).utf8.allSatisfy({ (0x21...0x7E).contains($0) })
        else { throw Problem(description: "\(text): this is no address such as http://127.0.0.1:8000") }
    }

    var text: String { "http://\(authority)\(path)" }
    var authority: String { (host.contains(":") ? "[\(host)]" : host) + ":\(port)" }
}

/// Asks a gateway for `/engines`, over a connection a question.
struct EnginesSource {
    struct Problem: Error, CustomStringConvertible {
        var description: String
    }

    typealias Answer = Result<(EnginesSnapshot, [UInt8]), Problem>

    var address: WebAddress
    var key: String?
    /// Seconds after which a question is given up.
    static let patience = 3.0

    func ask() -> Question { Question(self) }

    func askAndWait() -> Answer {
        let question = ask()
        while true {
            if let answer = question.advance() { return answer }
            var entry = question.pollEntry
            poll(&entry, 1, 50)
        }
    }

    fileprivate func read(_ status: Int, _ body: [UInt8]) -> Answer {
        switch status {
        case 200:
            guard let value = try? JSONParser.parse(body), let snapshot = EnginesSnapshot(value) else {
                return .failure(Problem(description: "what it answers at /engines is not a Tandem gateway's"))
            }
            return .success((snapshot, body))
        case 401: return .failure(Problem(description: "it wants an API key: use --api-key or TANDEM_API_KEY"))
        case 404: return .failure(Problem(description: "it has no /engines: this is not a Tandem gateway"))
        default: return .failure(Problem(description: "it answers /engines with status \(status)"))
        }
    }
}

/// A question on its way; never blocks, except to look a host's name up.
final class Question {
    private let source: EnginesSource
    private var descriptor: Int32 = -1
    private var addresses: UnsafeMutablePointer<addrinfo>?
    private var next: UnsafeMutablePointer<addrinfo>?
    private var problem = ""
    private var unsent: [UInt8] = []
    private var received: [UInt8] = []
    private var isConnected = false
    private let deadline: Double

    init(_ source: EnginesSource) {
        self.source = source
        deadline = TopCommand.now() + EnginesSource.patience
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        let code = getaddrinfo(source.address.host, source.address.port, &hints, &addresses)
        problem = code == 0 ? "" : "its name cannot be found: \(String(cString: gai_strerror(code)))"
        next = addresses
        connectNext()
    }

    deinit {
        if descriptor >= 0 { close(descriptor) }
        if let addresses { freeaddrinfo(addresses) }
    }

    /// What to wait for.
    var pollEntry: pollfd {
        pollfd(fd: descriptor, events: Int16(unsent.isEmpty ? POLLIN : POLLOUT), revents: 0)
    }

    private func connectNext() {
        if descriptor >= 0 { close(descriptor) }
        descriptor = -1
        guard let address = next else { return }
        next = address.pointee.ai_next
        let type = SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue
        descriptor = socket(address.pointee.ai_family, Int32(type), 0)
        let result = connect(descriptor, address.pointee.ai_addr, address.pointee.ai_addrlen)
        if result != 0 && errno != EINPROGRESS {
            problem = String(cString: strerror(errno))
            return connectNext()
        }
        var lines = [
            "GET \(source.address.path)/engines HTTP/1.1", "Host: \(source.address.authority)", "Connection: close",
        ]
        // A key with a line's end in it would be more than a header.
        if let key = source.key?.filter({ $0.isASCII && !$0.isNewline }) {
            lines.append("Authorization: Bearer \(key)")
        }
        unsent = Array((lines.joined(separator: "\r\n") + "\r\n\r\n").utf8)
        received = []
        isConnected = false
    }

    /// Goes on as far as it can without waiting; the answer once it is there.
    func advance() -> EnginesSource.Answer? {
        while descriptor >= 0 {
            if !isConnected {
                var entry = pollEntry
                guard poll(&entry, 1, 0) > 0 else { return late() }
                var code: Int32 = 0
                var length = socklen_t(MemoryLayout<Int32>.size)
                getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &code, &length)
                guard code == 0 else {
                    problem = String(cString: strerror(code))
                    connectNext()
                    continue
                }
                isConnected = true
            }
            if !unsent.isEmpty {
                let count = send(descriptor, unsent, unsent.count, Int32(MSG_NOSIGNAL))
                if count < 0 {
                    if errno == EAGAIN || errno == EINTR { return late() }
                    return .failure(EnginesSource.Problem(description: String(cString: strerror(errno))))
                }
                unsent.removeFirst(count)
                continue
            }
            var piece = [UInt8](repeating: 0, count: 65536)
            let count = recv(descriptor, &piece, piece.count, 0)
            if count < 0, errno == EAGAIN || errno == EINTR { return late() }
            if count > 0 { received += piece[..<count] }
            switch AnswerReader.read(received, isClosed: count <= 0) {
            case .incomplete: continue
            case .whole(let status, let body): return source.read(status, body)
            case .unreadable(let reason): return .failure(EnginesSource.Problem(description: reason))
            }
        }
        return .failure(EnginesSource.Problem(description: problem.isEmpty ? "it has no address" : problem))
    }

    private func late() -> EnginesSource.Answer? {
        guard TopCommand.now() > deadline else { return nil }
        let patience = "within \(Int(EnginesSource.patience)) s"
        return .failure(
            EnginesSource.Problem(description: isConnected ? "no answer \(patience)" : "not reached \(patience)"))
    }
}
