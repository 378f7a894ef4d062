// Tandem — Apache-2.0

import Glibc
import JSON
import NIOCore
import Requests

/// Cuts a stream of server-sent events into whole events, and notes in a ``ProxyRecord`` what they say.
///
/// Events of one stream differ, as a rule, in nothing but their text. So the bytes around the text are kept, and an event
/// with the same ones needs no other look. Here bytes are compared through pointers: that is several times faster than
/// one by one, and this is done for every token that passes.
final class ProxyEvents {
    /// What bytes of a stream have brought.
    struct Batch {
        /// Whole events, to be passed on.
        var events: ByteBuffer?
        var tokens = 0
        /// An event that says that the engine failed, or what is no stream of events; nothing after it counts.
        var failure: String?
    }

    /// Longest event.
    private static let maximumEventBytes = 8 << 20
    /// Events that differ from the one before in more than their text, after which no more are compared.
    private static let patience = 8

    private let record: ProxyRecord
    private var before: [UInt8] = []
    private var after: [UInt8] = []
    private var buffer = ByteBuffer()
    private var searched = 0
    private var strangers = 0
    /// Set if the stream goes on from another one: then its events are written anew, as if they came from that.
    private let continuation: ProxyContinuation.Merge?

    init(record: ProxyRecord, continuation: ProxyContinuation.Merge? = nil) {
        self.record = record
        self.continuation = continuation
    }

    /// Whether an event has begun and not ended.
    var hasPartialEvent: Bool { buffer.readableBytes > 0 }

    /// Whether bytes are one event that differs from the one before in its text alone, as they nearly always are: then it
    /// is noted. If not, nothing has happened.
    func isSimilarEvent(_ bytes: borrowing ByteBuffer) -> Bool {
        guard buffer.readableBytes == 0, !record.isDone else { return false }
        return endOfSimilarEvent(in: bytes, from: 0, isAll: true) != nil
    }

    func receive(_ bytes: consuming ByteBuffer) -> Batch {
        var batch = Batch()
        var taken = 0
        if buffer.readableBytes == 0 {
            while !record.isDone, let end = endOfSimilarEvent(in: bytes, from: taken) {
                taken = end
                batch.tokens += 1
            }
            if taken == bytes.readableBytes {
                // Nothing of it is kept, so that its memory can be read into again.
                batch.events = bytes
                return batch
            }
            searched = taken
            buffer = bytes
        } else {
            buffer.writeImmutableBuffer(bytes)
        }
        var rewritten: [UInt8] = []
        while batch.failure == nil, !record.isDone {
            if let end = endOfSimilarEvent(in: buffer, from: taken) {
                taken = end
                batch.tokens += 1
                searched = taken
                continue
            }
            guard let end = endOfEvent(from: taken) else { break }
            let tokens = record.tokens
            let verdict = take(taken..<end)
            batch.tokens += max(0, record.tokens - tokens)
            switch verdict {
            case .failure(let message):
                record.errorEvent = buffer.getSlice(at: buffer.readerIndex + taken, length: end - taken)
                batch.failure = message
            case .fine:
                if let continuation { merge(taken..<end, continuation, into: &rewritten) }
                taken = end
            }
            searched = taken
        }
        let events = buffer.readSlice(length: taken)
        searched -= taken
        if buffer.readableBytes == 0 { buffer = ByteBuffer() }
        if continuation != nil {
            if !rewritten.isEmpty { batch.events = ByteBuffer(bytes: rewritten) }
        } else if taken > 0 {
            batch.events = events
        }
        if buffer.readableBytes > Self.maximumEventBytes { batch.failure = "an event is longer than 8 MiB" }
        return batch
    }

    // MARK: - Events

    /// The end of an event that differs from the last one in its text alone.
    ///
    /// - Parameter isAll: whether nothing may follow.
    private func endOfSimilarEvent(in buffer: borrowing ByteBuffer, from start: Int, isAll: Bool = false) -> Int? {
        guard !before.isEmpty else { return nil }
        return buffer.withUnsafeReadableBytes { bytes in
            let head = start + before.count
            guard head + after.count <= bytes.count, let base = bytes.baseAddress,
                before.withUnsafeBytes({ memcmp(base + start, $0.baseAddress ?? base, $0.count) }) == 0
            else { return nil }
            var end = head
            while end < bytes.count, bytes[end] != UInt8(ascii: "\"") {
                end += bytes[end] == UInt8(ascii: "\\") ? 2 : 1
            }
            guard end + after.count <= bytes.count, !isAll || end + after.count == bytes.count,
                after.withUnsafeBytes({ memcmp(base + end, $0.baseAddress ?? base, $0.count) }) == 0
            else { return nil }
            record.text.append(contentsOf: UnsafeRawBufferPointer(rebasing: bytes[head..<end]))
            record.tokens += 1
            return end + after.count
        }
    }

    /// Where the event that begins at `start` ends, with its empty line; nil if it has not come whole.
    private func endOfEvent(from start: Int) -> Int? {
        let from = max(start, searched)
        let (end, seen): (Int?, Int) = buffer.withUnsafeReadableBytes { bytes in
            guard let base = bytes.baseAddress else { return (nil, from) }
            var index = from
            while index < bytes.count, let found = memchr(base + index, 0x0A, bytes.count - index) {
                let line = found - UnsafeMutableRawPointer(mutating: base)
                if line + 1 < bytes.count, bytes[line + 1] == 0x0A { return (line + 2, line) }
                if line + 2 < bytes.count, bytes[line + 1] == 0x0D, bytes[line + 2] == 0x0A { return (line + 3, line) }
                // The empty line may still come.
                let isLast = line + 1 >= bytes.count || (line + 2 >= bytes.count && bytes[line + 1] == 0x0D)
                if isLast { return (nil, line) }
                index = line + 1
            }
            return (nil, bytes.count)
        }
        searched = seen
        return end
    }

    private enum Verdict {
        case fine
        case failure(String)
    }

    /// Reads an event.
    private func take(_ event: Range<Int>) -> Verdict {
        // A copy, because what is noted changes this value while the bytes are looked at.
        let buffer = buffer
        let bytes = buffer.readableBytesUInt8Span
        guard let data = Self.data(bytes, event) else {
            // Comments keep connections alive and say nothing; what else there may be is not understood.
            if bytes[event.lowerBound] != UInt8(ascii: ":") { stranger() }
            return .fine
        }
        let payload = bytes.extracting(data)
        if Self.equals(payload, "[DONE]") {
            record.isDone = true
            return .fine
        }
        record.hasContent = true
        record.events += 1
        guard record.kind != .other else { return .fine }
        var chunk = ProxyChunk()
        guard chunk.read(payload) else {
            stranger()
            return .fine
        }
        if let error = chunk.error {
            // What the client did wrong no engine will do right.
            if let code = chunk.errorCode, (400..<500).contains(code) {
                record.hasClientError = true
                return .fine
            }
            return .failure("the engine reported: \(Self.text(payload, error).prefix(500))")
        }
        note(chunk, payload)
        learn(chunk, event: event, dataStart: data.lowerBound)
        return .fine
    }

    private func stranger() {
        record.hasContent = true
        record.obstacle = record.obstacle ?? .format
    }

    private func note(_ chunk: ProxyChunk, _ payload: Span<UInt8>) {
        if record.id == nil, let id = chunk.id { record.id = Self.text(payload, id) }
        if record.created == nil, let created = chunk.created { record.created = Int64(created) }
        if record.model == nil, let model = chunk.model { record.model = Self.text(payload, model) }
        if let obstacle = chunk.obstacle { record.obstacle = record.obstacle ?? obstacle }
        if let ids = chunk.promptTokenIDs, record.promptTokenIDs == nil {
            record.promptTokenIDs = Self.tokens(payload, ids)
        }
        let hasText = chunk.text.map { !$0.isEmpty } ?? false
        if let text = chunk.text {
            payload.extracting(text).withUnsafeBufferPointer { record.text.append(contentsOf: $0) }
        }
        let counted = record.tokens
        if let ids = chunk.tokenIDs, let tokens = Self.tokens(payload, ids) {
            record.tokenIDs += tokens
            record.tokens += tokens.count
            if hasText { record.shownTokenIDs = record.tokenIDs.count }
        } else if hasText || (record.kind == .completion && chunk.text != nil && chunk.finish == nil) {
            record.tokens += 1
            record.hasAllTokenIDs = false
        }
        if let total = chunk.completionTokens, total > 0 {
            record.tokens = max(counted, total + (continuation?.tokens ?? 0))
        }
        // Of an engine that goes on, what was generated before is part of the prompt.
        if let tokens = chunk.promptTokens, tokens > 0, continuation == nil { record.promptTokens = tokens }
        if let finish = chunk.finish {
            record.finishes += chunk.finishes
            record.finishReason = Self.text(payload, finish)
        }
    }

    /// Keeps what stands around an event's text.
    private func learn(_ chunk: ProxyChunk, event: Range<Int>, dataStart: Int) {
        before.removeAll(keepingCapacity: true)
        after.removeAll(keepingCapacity: true)
        guard continuation == nil, strangers < Self.patience, let text = chunk.text, !text.isEmpty, chunk.isPlain else {
            return
        }
        strangers += 1
        buffer.withUnsafeReadableBytes { bytes in
            before.append(contentsOf: bytes[event.lowerBound..<dataStart + text.lowerBound])
            after.append(contentsOf: bytes[dataStart + text.upperBound..<event.upperBound])
        }
    }

    private func merge(_ event: Range<Int>, _ merge: ProxyContinuation.Merge, into bytes: inout [UInt8]) {
        let buffer = buffer
        let all = buffer.readableBytesUInt8Span
        let raw = all.extracting(event).withUnsafeBufferPointer { Array($0) }
        guard let data = Self.data(all, event) else {
            bytes += raw
            return
        }
        let payload = all.extracting(data).withUnsafeBufferPointer { Array($0) }
        guard let value = try? JSONParser.parse(payload) else {
            bytes += raw
            return
        }
        guard let merged = merge.merged(value, record: record) else { return }
        var writer = JSONWriter(bytes + Array("data: ".utf8))
        writer.value(merged)
        bytes = writer.bytes + Array("\n\n".utf8)
    }

    // MARK: - Bytes

    /// The one data line of an event, without its name; nil if there is none, or more.
    static func data(_ bytes: Span<UInt8>, _ event: Range<Int>) -> Range<Int>? {
        var found: Range<Int>?
        var start = event.lowerBound
        while start < event.upperBound {
            var end = start
            while end < event.upperBound, bytes[end] != 0x0A { end += 1 }
            var textEnd = end
            if textEnd > start, bytes[textEnd - 1] == 0x0D { textEnd -= 1 }
            if textEnd - start >= 5, equals(bytes.extracting(start..<start + 5), "data:") {
                guard found == nil else { return nil }
                let blank = start + 5 < textEnd && bytes[start + 5] == 0x20
                found = start + (blank ? 6 : 5)..<textEnd
            }
            start = end + 1
        }
        return found
    }

    private static func equals(_ bytes: Span<UInt8>, _ text: StaticString) -> Bool {
        guard bytes.count == text.utf8CodeUnitCount else { return false }
        return text.withUTF8Buffer { text in
            for index in text.indices where bytes[index] != text[index] { return false }
            return true
        }
    }

    static func text(_ bytes: Span<UInt8>, _ place: Range<Int>) -> String {
        bytes.extracting(place).withUnsafeBufferPointer { String(decoding: $0, as: UTF8.self) }
    }

    private static func tokens(_ bytes: Span<UInt8>, _ place: Range<Int>) -> [TokenID]? {
        let value = bytes.extracting(place).withUnsafeBufferPointer { try? JSONParser.parse($0) }
        guard let array = value?.array else { return nil }
        let tokens = array.compactMap { $0.integer.flatMap { TokenID(exactly: $0) } }
        return tokens.count == array.count ? tokens : nil
    }
}
