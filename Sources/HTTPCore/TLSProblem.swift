// Tandem — Apache-2.0

#if TLS
    import NIOCore
    import NIOSSL

    /// What errors of TLS mean.
    enum TLSProblem {
        /// The other side took too long to agree.
        struct TooSlow: Error {}

        /// - Parameter error: how a server's handshake ended; `nil` is well.
        static func outcome(of error: (any Error)?) -> TLSHandshakeOutcome {
            guard let error else { return .complete }
            let symbols = symbols(of: error)
            if symbols.contains("HTTP_REQUEST") || symbols.contains("HTTPS_PROXY_REQUEST") { return .plaintext }
            if symbols.contains("UNSUPPORTED_PROTOCOL") || symbols.contains("TLSV1_ALERT_PROTOCOL_VERSION") {
                return .version
            }
            if symbols.contains(where: { $0.contains("ALERT") && ($0.contains("CERTIFICATE") || $0.contains("_CA")) }) {
                return .distrusted
            }
            // OpenSSL's clients say so before they encrypt, in a record that is too short to be encrypted.
            if symbols.first == "BAD_PACKET_LENGTH" {
                return .distrusted
            }
            return symbols.isEmpty || isEnd(error) ? .incomplete : .failed
        }

        /// What went wrong towards a server, and what helps.
        static func text(of error: any Error) -> String {
            if error is TooSlow { return "the server did not finish the TLS handshake in time" }
            if let error = error as? NIOSSLExtraError {
                return error == .failedToValidateHostname || error == .serverHostnameImpossibleToMatch
                    ? "the server's certificate is for another name or address" : "TLS: \(error)"
            }
            if isEnd(error) { return "the server closed the connection in the middle of the TLS handshake" }
            let symbols = symbols(of: error)
            if symbols.contains("CERTIFICATE_VERIFY_FAILED") {
                return
                    "the server's certificate has expired, or is of no authority that is trusted here; --endpoint-ca "
                    + "names a file with those that are"
            }
            if symbols.contains("WRONG_VERSION_NUMBER") {
                return "the server does not speak TLS there; its address may begin with http://"
            }
            if symbols.contains("UNSUPPORTED_PROTOCOL") || symbols.contains("TLSV1_ALERT_PROTOCOL_VERSION") {
                return "the server speaks neither TLS 1.2 nor 1.3"
            }
            if case NIOSSLError.uncleanShutdown? = error as? NIOSSLError {
                return "the connection ended without the end of TLS, so what came may not be whole"
            }
            return symbols.isEmpty ? "\(error)" : "TLS: \(symbols.joined(separator: ", "))"
        }

        private static func isEnd(_ error: any Error) -> Bool {
            if case NIOSSLError.handshakeFailed(.sslError([.eofDuringHandshake]))? = error as? NIOSSLError {
                return true
            }
            return error is IOError || error is ChannelError
        }

        /// The library's names of what went wrong, such as `CERTIFICATE_VERIFY_FAILED`; its texts have more, of which
        /// the reader has nothing.
        private static func symbols(of error: any Error) -> [String] {
            let failure: BoringSSLError? =
                switch error as? NIOSSLError {
                case .handshakeFailed(let failure)?, .shutdownFailed(let failure)?: failure
                default: error as? BoringSSLError
                }
            switch failure {
            case .sslError(let stack)?, .unknownError(let stack)?:
                return stack.map { entry in
                    // error:1000007d:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED at …
                    let text = entry.description.prefix(
                        upTo: entry.description.firstRange(of: " at ")?.lowerBound
                            ?? entry.description.endIndex)
                    return String(text.suffix(from: text.lastIndex(of: ":").map(text.index(after:)) ?? text.startIndex))
                }
            default: return []
            }
        }
    }
#endif
