// Tandem — Apache-2.0

import NIOCore
import Synchronization

#if TLS
    import NIOSSL
#endif

/// Where a server's certificate and key are, as PEM.
public struct TLSIdentityFiles: Sendable, Equatable {
    /// The server's own certificate first, then those that lead to its authority.
    public var certificate: String
    /// The private key of the first certificate, without a pass phrase.
    public var key: String

    public init(certificate: String, key: String) {
        self.certificate = certificate
        self.key = key
    }
}

/// TLS as a server speaks it: version 1.2 or 1.3, and HTTP/1.1 alone within. The certificate may be exchanged while
/// connections are open; they keep the one that they began with.
public final class ServerTLS: Sendable {
    /// What is shown to clients from now on.
    struct Identity: Sendable {
        var fingerprints: [TLSFile.Fingerprint?]
        /// Seconds since 1970; after that nobody trusts it.
        var notValidAfter: Int
        /// What is doubtful, for people.
        var warnings: [String]
        #if TLS
            var context: NIOSSLContext
        #endif
    }

    public let files: TLSIdentityFiles
    private let identity: Mutex<Identity>

    /// Reads both files.
    ///
    /// - Parameter now: seconds since 1970.
    /// - Throws: ``TLSError`` that names the file at fault, or says that this program knows no TLS.
    public init(_ files: TLSIdentityFiles, now: Int) throws(TLSError) {
        self.files = files
        identity = Mutex(try Identity(files, now: now))
    }

    /// What is doubtful about the files: a certificate that has expired, a key that everybody may read.
    public var warnings: [String] { identity.withLock { $0.warnings } }

    /// When the certificate expires, in seconds since 1970.
    public var notValidAfter: Int { identity.withLock { $0.notValidAfter } }

    /// Reads the files again if they are others. Blocks for as long as the file system does. What fails changes nothing,
    /// and is tried again when it is called again.
    ///
    /// - Returns: whether there is a new certificate.
    /// - Throws: ``TLSError``.
    public func refresh(now: Int) throws(TLSError) -> Bool {
        let seen = [TLSFile.Fingerprint(of: files.certificate), TLSFile.Fingerprint(of: files.key)]
        guard identity.withLock({ $0.fingerprints != seen }) else { return false }
        let fresh = try Identity(files, now: now)
        identity.withLock { $0 = fresh }
        return true
    }

    #if TLS
        var context: NIOSSLContext { identity.withLock { $0.context } }
    #endif
}

extension ServerTLS.Identity {
    #if TLS
        init(_ files: TLSIdentityFiles, now: Int) throws(TLSError) {
            let (chainFile, keyFile) = (try TLSFile(path: files.certificate), try TLSFile(path: files.key))
            let chain = try TLSPEM.certificates(chainFile, path: files.certificate)
            let key: NIOSSLPrivateKey
            do {
                key = try NIOSSLPrivateKey(bytes: keyFile.bytes, format: .pem)
            } catch {
                throw TLSError(
                    file: files.key,
                    reason: "it has no private key in PEM that can be used; one with a pass phrase cannot: "
                        + "openssl pkey -in FILE takes it away")
            }
            var configuration = TLSConfiguration.makeServerConfiguration(
                certificateChain: chain.map { .certificate($0) }, privateKey: .privateKey(key))
            configuration.minimumTLSVersion = .tlsv12
            configuration.applicationProtocols = TLSPEM.applicationProtocols
            do {
                context = try NIOSSLContext(configuration: configuration)
            } catch {
                throw TLSError(
                    file: files.key,
                    reason: "it is not the key of the first certificate in \(files.certificate); the server's own "
                        + "certificate has to stand before those of its authorities")
            }
            fingerprints = [chainFile.fingerprint, keyFile.fingerprint]
            // Of all: one that has expired spoils the rest.
            notValidAfter = chain.map { Int($0.notValidAfter) }.min() ?? 0
            let notValidBefore = chain.map { Int($0.notValidBefore) }.max() ?? 0
            warnings = []
            if notValidAfter < now {
                warnings.append("\(files.certificate): a certificate in it has expired; clients will refuse it")
            } else if notValidBefore > now {
                warnings.append("\(files.certificate): a certificate in it is not valid yet; clients will refuse it")
            }
            if keyFile.isOpenToOthers {
                warnings.append("\(files.key): every user may read this key; chmod 600 keeps it secret")
            }
        }
    #else
        init(_: TLSIdentityFiles, now _: Int) throws(TLSError) { throw TLSError(reason: TLSSupport.remedy) }
    #endif
}

#if TLS
    /// What both sides of TLS need.
    enum TLSPEM {
        static let applicationProtocols = ["http/1.1"]

        static func certificates(_ file: TLSFile, path: String) throws(TLSError) -> [NIOSSLCertificate] {
            do {
                let certificates = try NIOSSLCertificate.fromPEMBytes(file.bytes)
                if !certificates.isEmpty { return certificates }
            } catch {}
            throw TLSError(
                file: path, reason: "it has no certificate in PEM, which begins with -----BEGIN CERTIFICATE-----")
        }
    }
#endif
