// Tandem — Apache-2.0

import HTTPCore
import JSON
import NIOCore

/// One request in flight.
final class LoadExchange: HTTPResponseReceiver {
    static let unreachable = "unreachable"
    /// Of an answer that is no stream, or is a refusal.
    private static let maximumBodyBytes = 64 << 20

    var record: RequestRecord
    var request: HTTPClientExchange?
    private let streams: Bool
    private let worker: LoadWorker
    private var status = 0
    private var isEventStream = false
    private var events = EventStreamReader()
    private var answer = AnswerReader()
    private var body: [UInt8] = []
    private var isDone = false
    private var isOver = false

    init(_ record: RequestRecord, streams: Bool, worker: LoadWorker) {
        self.record = record
        self.streams = streams
        self.worker = worker
    }

    func received(_ head: HTTPResponseHead) {
        status = head.status.code
        isEventStream = streams && status == 200
    }

    func received(_ bytes: ByteBuffer) {
        guard !isOver else { return }
        guard isEventStream else {
            body.append(contentsOf: bytes.readableBytesView)
            if body.count > Self.maximumBodyBytes { giveUp("malformed answer", "the answer has more than 64 MiB") }
            return
        }
        let moment = worker.now
        let before = record.chunks
        events.append(bytes.readableBytesView)
        while !isDone, let event = events.next() {
            switch answer.read(event) {
            case .text: note(moment)
            case .other: break
            case .done: isDone = true
            case .error(let message): return giveUp("error in the stream", message)
            }
        }
        if events.isTooLong { return giveUp("malformed answer", "an event has more than 8 MiB") }
        if record.chunks > before { worker.received(chunks: record.chunks - before) }
    }

    private func note(_ moment: UInt64) {
        if let last = record.lastText { record.gaps.append(moment - last) } else { record.firstText = moment }
        record.lastText = moment
        record.chunks += 1
    }

    func ended() {
        guard !isOver else { return }
        guard status == 200 else {
            return end(.failed(reason: "HTTP \(status)", detail: Self.message(of: body)))
        }
        if !isEventStream {
            guard let object = try? JSONParser.parse(body).object else {
                return end(.failed(reason: "malformed answer", detail: "the answer is no JSON object"))
            }
            switch answer.read(object) {
            case .error(let message): return end(.failed(reason: "error in the answer", detail: message))
            case .text: record.chunks = 1
            case .other, .done: break
            }
        }
        guard isDone || answer.hasFinish else {
            let detail = "the answer ended without a finish reason and without [DONE]"
            return end(.failed(reason: "incomplete answer", detail: detail))
        }
        record.promptTokens = answer.promptTokens
        record.completionTokens = answer.completionTokens
        end(.complete)
    }

    func failed(_ error: HTTPClientError) {
        guard !isOver else { return }
        let reason =
            switch error.kind {
            case .unreachable: Self.unreachable
            case .cut: "connection cut"
            case .malformed: "malformed answer"
            case .silent: "timeout"
            }
        end(.failed(reason: reason, detail: error.message))
    }

    private func giveUp(_ reason: String, _ detail: String) {
        request?.cancel()
        end(.failed(reason: reason, detail: detail))
    }

    private func end(_ outcome: RequestRecord.Outcome) {
        isOver = true
        record.outcome = outcome
        record.ended = worker.now
        worker.ended(self)
    }

    /// What a refusal says, shortened.
    private static func message(of body: [UInt8]) -> String {
        if let object = try? JSONParser.parse(body).object {
            return String(AnswerReader.message(of: object).prefix(300))
        }
        return String(String(decoding: body.prefix(300), as: UTF8.self).prefix { !$0.isNewline })
    }
}
