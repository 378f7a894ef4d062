// Tandem — Apache-2.0

import JSON

/// An error as clients of the OpenAI API expect it: a status and the object
/// `{"error": {"message", "type", "param", "code"}}`.
struct APIError: Error, Equatable {
    var status: Int
    var type: String
    var message: String
    /// The field of the request that is at fault.
    var parameter: String?
    var code: String?
    /// Seconds after which a client may try again.
    var retryAfter: Int?
    /// Methods that the path does take, for 405.
    var allow: String?

    init(
        status: Int,
        type: String,
        message: String,
        parameter: String? = nil,
        code: String? = nil,
        retryAfter: Int? = nil,
        allow: String? = nil
    ) {
        self.status = status
        self.type = type
        self.message = message
        self.parameter = parameter
        self.code = code
        self.retryAfter = retryAfter
        self.allow = allow
    }

    /// 400: the request is wrong, and this field is why.
    static func invalid(_ parameter: String?, _ message: String, code: String? = nil) -> APIError {
        APIError(
            status: 400, type: "invalid_request_error", message: message, parameter: parameter, code: code)
    }

    /// 400: the field is understood, and this server cannot do what it asks.
    static func unsupported(_ parameter: String, _ what: String) -> APIError {
        invalid(
            parameter, "`\(parameter)`: \(what) is not supported by this server; leave the field out",
            code: "unsupported_parameter")
    }

    static func contextLengthExceeded(prompt: Int, requested: Int?, limit: Int, parameter: String) -> APIError {
        let wanted =
            requested.map { "\(prompt) prompt tokens and \($0) new tokens (\(prompt + $0) in all)" }
            ?? "\(prompt) prompt tokens and at least 1 new token"
        return invalid(
            parameter,
            "this model's maximum context length is \(limit) tokens, but \(wanted) were asked for; shorten the prompt"
                + (requested == nil ? "" : " or ask for fewer tokens"),
            code: "context_length_exceeded")
    }

    static func modelNotFound(_ name: String, known: [String]) -> APIError {
        APIError(
            status: 404, type: "invalid_request_error",
            message: "the model `\(name)` does not exist; this server has: \(known.joined(separator: ", "))",
            parameter: "model", code: "model_not_found")
    }

    static func unknownPath(_ path: String) -> APIError {
        APIError(
            status: 404, type: "invalid_request_error", message: "unknown path: \(path)", code: "not_found")
    }

    static func methodNotAllowed(_ method: String, allow: String) -> APIError {
        APIError(
            status: 405, type: "invalid_request_error", message: "\(method) is not allowed here; use \(allow)",
            code: "method_not_allowed", allow: allow)
    }

    static func unauthorized(_ message: String) -> APIError {
        APIError(status: 401, type: "authentication_error", message: message, code: "invalid_api_key")
    }

    static func overloaded(_ message: String) -> APIError {
        APIError(
            status: 429, type: "rate_limit_exceeded", message: message, code: "rate_limit_exceeded", retryAfter: 1)
    }

    static func unavailable(_ message: String) -> APIError {
        APIError(status: 503, type: "unavailable", message: message, code: "unavailable", retryAfter: 1)
    }

    static func server(_ message: String) -> APIError {
        APIError(status: 500, type: "server_error", message: message, code: "server_error")
    }

    static func badGateway(_ message: String) -> APIError {
        APIError(status: 502, type: "server_error", message: message, code: "bad_gateway")
    }

    /// `{"error": …}`.
    var body: [UInt8] {
        var writer = JSONWriter()
        writer.beginObject()
        writer.key("error")
        writer.beginObject()
        writer.key("message")
        writer.string(message)
        writer.key("type")
        writer.string(type)
        writer.key("param")
        if let parameter { writer.string(parameter) } else { writer.null() }
        writer.key("code")
        if let code { writer.string(code) } else { writer.null() }
        writer.endObject()
        writer.endObject()
        return writer.bytes
    }

    var headers: [(String, String)] {
        var headers: [(String, String)] = []
        if let retryAfter { headers.append(("Retry-After", String(retryAfter))) }
        if let allow { headers.append(("Allow", allow)) }
        return headers
    }
}
