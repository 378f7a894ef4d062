// Tandem — Apache-2.0

import NIOCore
import Requests

/// Which parts of a sequence's output follow its id. A sequence that only got its next token takes 13 bytes.
private struct SequenceParts: OptionSet {
    let rawValue: UInt8

    /// Exactly one token, without a count.
    static let oneToken = SequenceParts(rawValue: 1)
    static let tokens = SequenceParts(rawValue: 2)
    static let logProbabilities = SequenceParts(rawValue: 4)
    static let promptLogProbabilities = SequenceParts(rawValue: 8)
    static let finish = SequenceParts(rawValue: 16)
    static let failure = SequenceParts(rawValue: 32)
    /// What only the first output of a sequence says.
    static let start = SequenceParts(rawValue: 64)
    static let score = SequenceParts(rawValue: 128)

    init(rawValue: UInt8) {
        self.rawValue = rawValue
    }

    init(of output: SequenceOutput) {
        var parts: SequenceParts = []
        switch output.tokens.count {
        case 0: break
        case 1: parts.insert(.oneToken)
        default: parts.insert(.tokens)
        }
        if !output.logProbabilities.isEmpty { parts.insert(.logProbabilities) }
        if !output.promptLogProbabilities.isEmpty { parts.insert(.promptLogProbabilities) }
        if output.finish != nil { parts.insert(.finish) }
        if output.failure != nil { parts.insert(.failure) }
        if output.cachedPromptTokens != nil { parts.insert(.start) }
        if output.score != nil { parts.insert(.score) }
        self = parts
    }
}

extension ByteBuffer {
    mutating func write(_ output: StepOutput) {
        reserveCapacity(minimumWritableBytes: 12 + 13 * output.outputs.count)
        writeMultipleIntegers(
            output.step,
            UInt32(truncatingIfNeeded: output.outputs.count),
            endianness: .little
        )
        for sequence in output.outputs { write(sequence) }
    }

    fileprivate static let unknownTime = UInt32.max

    private mutating func write(_ output: SequenceOutput) {
        let parts = SequenceParts(of: output)
        if parts == .oneToken {
            writeMultipleIntegers(output.id, parts.rawValue, output.tokens[0], endianness: .little)
            return
        }
        writeMultipleIntegers(output.id, parts.rawValue, endianness: .little)
        if parts.contains(.oneToken) { writeInteger(output.tokens[0], endianness: .little) }
        if parts.contains(.tokens) { write(Array(output.tokens)) }
        if parts.contains(.logProbabilities) { write(output.logProbabilities) }
        if parts.contains(.promptLogProbabilities) { write(output.promptLogProbabilities) }
        if let finish = output.finish { writeInteger(finish.rawValue) }
        if let failure = output.failure {
            writeInteger(failure.kind.rawValue)
            write(failure.message)
        }
        if let cached = output.cachedPromptTokens {
            write(cached)
            writeInteger(output.prefillMicroseconds ?? Self.unknownTime, endianness: .little)
        }
        if let score = output.score {
            write(score.labels)
            write(score.pooled)
        }
    }

    private mutating func write(_ numbers: [Float]) {
        writeCount(numbers.count)
        reserveCapacity(minimumWritableBytes: 4 * numbers.count)
        for number in numbers { write(number) }
    }

    private mutating func write(_ positions: [PositionLogProbabilities]) {
        writeCount(positions.count)
        for position in positions {
            write(position.chosen)
            writeInteger(position.rank, endianness: .little)
            writeCount(position.top.count)
            for entry in position.top { write(entry) }
        }
    }

    private mutating func write(_ entry: TokenLogProbability) {
        writeMultipleIntegers(entry.token, entry.logProbability.bitPattern, endianness: .little)
    }
}

extension FieldReader {
    mutating func stepOutput() throws(LinkError) -> StepOutput {
        StepOutput(
            step: try integer("step"),
            // At least an id and the parts.
            outputs: try array("outputs", elementBytes: 9) { reader throws(LinkError) in
                try reader.sequenceOutput()
            }
        )
    }

    private mutating func sequenceOutput() throws(LinkError) -> SequenceOutput {
        var output = SequenceOutput(id: try integer("id"))
        let parts = SequenceParts(rawValue: try integer("parts"))
        guard !parts.isSuperset(of: [.oneToken, .tokens]) else {
            throw malformed("parts", "unknown combination \(parts.rawValue)")
        }
        if parts.contains(.oneToken) { output.tokens = [try integer("token")] }
        if parts.contains(.tokens) { output.tokens = OutputTokens(try tokens("tokens")) }
        if parts.contains(.logProbabilities) { output.logProbabilities = try positions("logProbabilities") }
        if parts.contains(.promptLogProbabilities) {
            output.promptLogProbabilities = try positions("promptLogProbabilities")
        }
        if parts.contains(.finish) { output.finish = try choice("finish") }
        if parts.contains(.failure) {
            output.failure = RequestFailure(kind: try choice("failure"), message: try string("failure message"))
        }
        if parts.contains(.start) {
            output.cachedPromptTokens = try int("cachedPromptTokens")
            let time: UInt32 = try integer("prefillMicroseconds")
            output.prefillMicroseconds = time == ByteBuffer.unknownTime ? nil : time
        }
        if parts.contains(.score) {
            output.score = PromptScore(labels: try floats("labels"), pooled: try floats("pooled"))
        }
        return output
    }

    private mutating func floats(_ field: StaticString) throws(LinkError) -> [Float] {
        try array(field, elementBytes: 4) { reader throws(LinkError) in try reader.float(field) }
    }

    private mutating func positions(_ field: StaticString) throws(LinkError) -> [PositionLogProbabilities] {
        // A token with its logarithm, its rank and a count.
        try array(field, elementBytes: 16) { reader throws(LinkError) in
            let chosen = try reader.tokenLogProbability(field)
            let rank: Int32 = try reader.integer(field)
            let top = try reader.array(field, elementBytes: 8) { reader throws(LinkError) in
                try reader.tokenLogProbability(field)
            }
            return PositionLogProbabilities(chosen: chosen, top: top, rank: rank)
        }
    }

    private mutating func tokenLogProbability(_ field: StaticString) throws(LinkError) -> TokenLogProbability {
        TokenLogProbability(token: try integer(field), logProbability: try float(field))
    }
}
