// Tandem — Apache-2.0

import Configuration
import HTTPCore

extension ServerTLS {
    /// Reads what settings name; nil if they name nothing.
    ///
    /// - Throws: `ConfigurationError` that names the setting or the file at fault.
    static func configured(certificate: String?, key: String?) throws -> ServerTLS? {
        guard certificate != nil || key != nil else { return nil }
        guard TLSSupport.isBuilt else {
            throw ConfigurationError(
                source: certificate == nil ? "--tls-key" : "--tls-certificate", reason: TLSSupport.remedy)
        }
        guard let certificate else {
            throw ConfigurationError(source: "--tls-key", reason: "give --tls-certificate, too")
        }
        guard let key else { throw ConfigurationError(source: "--tls-certificate", reason: "give --tls-key, too") }
        do {
            return try ServerTLS(TLSIdentityFiles(certificate: certificate, key: key), now: Process.secondsSince1970())
        } catch {
            let source = error.file == key ? "--tls-key" : "--tls-certificate"
            throw ConfigurationError(source: source, reason: "\(error)")
        }
    }
}
