// Tandem — Apache-2.0

internal import Glibc

/// A request that `curl` makes. It follows redirects only where no token goes along, and never from HTTPS to HTTP.
struct CurlRequest: Equatable {
    var address: String
    /// Only the head is asked for; redirects are not followed.
    var isHead = false
    /// What comes is a file's content, to which nothing else may be written.
    var isContent = false
    /// Sent as `Authorization: Bearer`.
    var token: String?
    /// The file for the content.
    var output: String
    /// The file for the heads of the answers.
    var heads: String
    /// Bytes of the content that `output` holds already.
    var offset: UInt64 = 0
    /// Whether HTTP without encryption is allowed.
    var allowsPlain: Bool
    /// Seconds for all of it; null if only a standstill ends it.
    var maximumSeconds: Int?

    private static let secondsToConnect = 30
    private static let secondsOfStandstill = 60

    /// What curl reads with `--config -`: so the token is on no command line, where all users of the machine see it.
    func configuration(userAgent: String) -> [UInt8] {
        let protocols = allowsPlain ? "=http,https" : "=https"
        var lines = [
            ("url", address), ("output", output), ("dump-header", heads), ("proto", protocols),
            ("proto-redir", protocols), ("user-agent", userAgent), ("connect-timeout", "\(Self.secondsToConnect)"),
            ("speed-limit", "1"), ("speed-time", "\(Self.secondsOfStandstill)"), ("max-redirs", "5"),
            ("write-out", "\\n\(Self.mark)%{http_code} %{redirect_url}\\n"),
        ]
        var flags = ["silent", "show-error", "globoff"]
        if isHead { flags.append("head") }
        // It keeps an error's text out of the content, and the error's headers from us.
        if isContent { flags.append("fail") }
        if let token {
            lines.append(("header", "Authorization: Bearer \(token)"))
        } else if !isHead {
            flags.append("location")
        }
        if offset > 0 { lines.append(("continue-at", "\(offset)")) }
        if let maximumSeconds { lines.append(("max-time", "\(maximumSeconds)")) }
        let text =
            flags.joined(separator: "\n") + "\n"
            + lines.map { "\($0.0) = \"\(Self.escaped($0.1, isFormat: $0.0 == "write-out"))\"\n" }.joined()
        return Array(text.utf8)
    }

    /// Precedes the status in what curl prints.
    private static let mark = "tandem-status: "

    private static func escaped(_ text: String, isFormat: Bool) -> String {
        guard !isFormat else { return text }
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"", "\\": result += "\\\(scalar)"
            case "\n": result += "\\n"
            case "\r": result += "\\r"
            case "\t": result += "\\t"
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }

    /// What curl printed: the status, where it was pointed to, and what went wrong.
    struct Report: Equatable {
        var status = 0
        var redirect: String?
        var message = ""

        init(_ output: String) {
            for line in output.split(whereSeparator: \.isNewline) {
                if line.hasPrefix(CurlRequest.mark) {
                    let fields = line.dropFirst(CurlRequest.mark.count).split(separator: " ", maxSplits: 1)
                    status = fields.first.flatMap { Int($0) } ?? 0
                    redirect = fields.count == 2 ? String(fields[1]) : nil
                } else if line.hasPrefix("curl: (") {
                    // "curl: (7) Failed to connect": the number says nothing to people.
                    message = String(line.drop { $0 != ")" }.dropFirst(2))
                    while message.hasSuffix(".") { message.removeLast() }
                }
            }
        }
    }
}

/// What the exit code of `curl` means (its manual, "EXIT CODES").
enum CurlExit: Equatable {
    case done
    /// The server answered with an error; see the status.
    case refused
    /// Trying again may help.
    case transient
    /// The server sends only the whole file.
    case noRanges
    /// The content could not be written.
    case notWritten
    /// It will not work, whatever is tried.
    case hopeless

    init(_ outcome: ToolProcess.Outcome) {
        guard outcome.signal == 0 else {
            // The shell's limit on the size of files (ulimit -f).
            self = outcome.signal == SIGXFSZ ? .notWritten : .hopeless
            return
        }
        switch outcome.exitCode {
        case 0: self = .done
        case 22: self = .refused
        case 33, 36: self = .noRanges
        case 23: self = .notWritten
        // Resolving, connecting, TLS hand-shake, a break, HTTP/2 and HTTP/3 streams, time.
        case 5, 6, 7, 16, 18, 28, 35, 52, 55, 56, 92, 95, 96: self = .transient
        default: self = .hopeless
        }
    }
}
