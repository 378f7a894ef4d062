// Tandem — Apache-2.0

import Glibc
import HTTPCore
import JSON
import NIOCore

/// One line of the access log: what was asked and how it went, never what was said.
struct AccessLine {
    let entry: AccessLogEntry
    /// Milliseconds since 1970, when the exchange ended.
    let time: Int64

    func append(to bytes: inout [UInt8], format: AccessLogSettings.Format) {
        switch format {
        case .text: appendText(to: &bytes)
        case .json: appendJSON(to: &bytes)
        }
        bytes.append(UInt8(ascii: "\n"))
    }

    /// Says that lines are missing here.
    static func appendDropped(
        _ count: Int, time: Int64, to bytes: inout [UInt8], format: AccessLogSettings.Format
    ) {
        switch format {
        case .text: bytes += "\(timestamp(time)) \(count) lines were dropped\n".utf8
        case .json:
            var writer = JSONWriter(bytes)
            writer.beginObject()
            writer.key("time")
            writer.string(timestamp(time))
            writer.key("dropped")
            writer.integer(count)
            writer.endObject()
            bytes = writer.bytes
            bytes.append(UInt8(ascii: "\n"))
        }
    }

    private var note: AccessNote { entry.note as? AccessNote ?? AccessNote() }
    private var outcome: String {
        note.hasFailed && entry.outcome == .complete ? "failed" : entry.outcome.rawValue
    }

    private func appendText(to bytes: inout [UInt8]) {
        var line = "\(Self.timestamp(time)) \(address) \(entry.method?.rawValue ?? "-") \(Self.plain(entry.path)) "
        line += "\(entry.status.map { "\($0.code)" } ?? "-") \(entry.bodyBytes) B "
        line += "\(Self.milliseconds(entry.duration)) ms \(outcome)"
        if let first = entry.timeToFirstByte { line += " first=\(Self.milliseconds(first))" }
        if let id = entry.requestID { line += " id=\(Self.plain(id))" }
        let note = note
        if let trace = note.trace { line += " trace=\(trace.traceID) span=\(TraceContext.text(trace.spanID))" }
        if let model = note.model { line += " model=\(Self.plain(model))" }
        if let engine = note.engine { line += " engine=\(engine)" }
        if let tokens = note.promptTokens { line += " prompt_tokens=\(tokens)" }
        if let tokens = note.generatedTokens { line += " generated_tokens=\(tokens)" }
        bytes += line.utf8
    }

    private func appendJSON(to bytes: inout [UInt8]) {
        var writer = JSONWriter(bytes)
        func string(_ key: String, _ value: String?) {
            guard let value else { return }
            writer.key(key)
            writer.string(value)
        }
        func integer(_ key: String, _ value: Int?) {
            guard let value else { return }
            writer.key(key)
            writer.integer(value)
        }
        func seconds(_ key: String, _ value: TimeAmount?) {
            guard let value else { return }
            writer.key(key)
            writer.number(Double(value.nanoseconds / 1000) / 1e6)
        }
        let note = note
        writer.beginObject()
        string("time", Self.timestamp(time))
        string("remote", address)
        string("method", entry.method?.rawValue)
        string("path", entry.path)
        integer("status", entry.status.map { Int($0.code) })
        integer("bytes", entry.bodyBytes)
        seconds("duration", entry.duration)
        seconds("first_byte", entry.timeToFirstByte)
        string("outcome", outcome)
        string("request_id", entry.requestID)
        string("trace_id", note.trace.map { "\($0.traceID)" })
        string("span_id", note.trace.map { TraceContext.text($0.spanID) })
        string("parent_id", note.trace?.parentID.map(TraceContext.text))
        string("model", note.model)
        integer("engine", note.engine.map { Int(clamping: $0) })
        integer("prompt_tokens", note.promptTokens)
        integer("generated_tokens", note.generatedTokens)
        writer.endObject()
        bytes = writer.bytes
    }

    private var address: String {
        guard let remote = entry.remoteAddress else { return "-" }
        guard let ip = remote.ipAddress, let port = remote.port else { return "unix" }
        return ip.contains(":") ? "[\(ip)]:\(port)" : "\(ip):\(port)"
    }

    /// What could break a line, or pass for another part of it, is replaced.
    private static func plain(_ text: String?) -> String {
        guard let text else { return "-" }
        return String(decoding: text.utf8.map { (0x21...0x7E).contains($0) ? $0 : UInt8(ascii: "?") }, as: UTF8.self)
    }

    private static func milliseconds(_ amount: TimeAmount) -> String {
        let microseconds = max(0, amount.nanoseconds / 1000)
        return "\(microseconds / 1000).\(padded(microseconds % 1000, 3))"
    }

    /// For example `2026-02-03T04:05:06.789Z`.
    static func timestamp(_ milliseconds: Int64) -> String {
        var seconds = time_t(milliseconds / 1000)
        var parts = tm()
        gmtime_r(&seconds, &parts)
        let date = "\(parts.tm_year + 1900)-\(padded(parts.tm_mon + 1, 2))-\(padded(parts.tm_mday, 2))"
        let clock = "\(padded(parts.tm_hour, 2)):\(padded(parts.tm_min, 2)):\(padded(parts.tm_sec, 2))"
        return "\(date)T\(clock).\(padded(milliseconds % 1000, 3))Z"
    }

    private static func padded(_ number: some BinaryInteger, _ width: Int) -> String {
        let digits = String(number)
        return String(repeating: "0", count: max(0, width - digits.count)) + digits
    }
}
