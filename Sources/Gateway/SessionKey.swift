// Tandem — Apache-2.0

import HTTPCore
import JSON
import Requests

/// What makes requests belong together, so that they go to the same engine while that costs little.
enum SessionKey {
    /// The header that names a session for any endpoint that generates; it comes before every field of the body.
    static let header = "X-Session-Id"

    /// What the body says: `session_id`, else `prompt_cache_key`, else `user`.
    ///
    /// - Throws: 400 if `user` is not a string. The others are no fields that servers must know, and count only as
    ///   strings.
    static func name(_ fields: RequestFields) throws(APIError) -> String? {
        let user = try fields.string("user")
        for name in ["session_id", "prompt_cache_key"] {
            if case .string(let value)? = fields.value(name), !value.isEmpty { return value }
        }
        return user?.isEmpty == false ? user : nil
    }

    /// - Parameter name: what the body says.
    static func session(_ headers: HTTPHeaders, name: String?) -> UInt64? {
        let given = headers[header].flatMap { $0.isEmpty ? nil : $0 }
        guard let name = given ?? name else { return nil }
        var hash = StableHash()
        hash.combine(bytes: name.utf8)
        return hash.digest().low
    }
}
