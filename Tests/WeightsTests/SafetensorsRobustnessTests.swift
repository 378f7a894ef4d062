// Tandem — Apache-2.0

import TestSupport
import Testing
import Weights

/// Whatever the bytes, reading them returns or throws; and what it returns can be used to the last byte.
@Suite struct SafetensorsRobustnessTests {
    /// Uses everything a file offers; true if the file was accepted.
    @discardableResult
    private func use(_ bytes: [UInt8], location: SourceLocation = #_sourceLocation) -> Bool {
        let file: SafetensorsFile
        do throws(WeightsError) {
            file = try SafetensorsFile(bytes: bytes, name: "mutated")
        } catch {
            if error.path != "mutated" || error.reason.isEmpty || (error.offset ?? 0) > UInt64(bytes.count) {
                Issue.record("an error without its place: \(error)", sourceLocation: location)
            }
            return false
        }
        var covered = 0
        for tensor in file.tensors {
            let stored = file.bytes(of: tensor)
            let inside =
                stored.count == tensor.byteCount
                && tensor.offset + UInt64(tensor.byteCount) <= UInt64(bytes.count)
                && stored.elementsEqual(bytes[Int(tensor.offset)..<Int(tensor.offset) + tensor.byteCount])
            let numbers = file.floats(of: tensor)
            if !inside || numbers.count != tensor.shape.reduce(1, *) || tensor.shape.contains(where: { $0 <= 0 }) {
                Issue.record("the tensor \(tensor) is not what was checked", sourceLocation: location)
            }
            covered += tensor.byteCount
        }
        if covered > bytes.count { Issue.record("tensors overlap", sourceLocation: location) }
        return true
    }

    private let whole = SafetensorsFileTests.everything().build()

    /// Where the data begin.
    private func headerEnd() throws -> Int {
        Int(try #require(try SafetensorsFile(bytes: whole, name: "whole").tensors.first).offset)
    }

    @Test func everyTruncationIsRefused() {
        #expect(use(whole))
        for length in 0..<whole.count where use(Array(whole[..<length])) {
            Issue.record("accepted the first \(length) of \(whole.count) bytes")
        }
    }

    @Test(arguments: 0..<4) func changedBytes(part: Int) throws {
        // A change of tensor data cannot be noticed: aim at what comes before, mostly.
        let headerEnd = try headerEnd()
        var generator = SeededGenerator(seed: UInt64(500 + part))
        var accepted = 0
        for round in 0..<3000 {
            var bytes = whole
            for _ in 0..<Int.random(in: 1...3, using: &generator) {
                let range = round % 4 == 0 ? 0..<bytes.count : 0..<headerEnd
                bytes[Int.random(in: range, using: &generator)] = .random(in: .min ... .max, using: &generator)
            }
            if use(bytes) { accepted += 1 }
        }
        #expect((1..<3000).contains(accepted))
    }

    /// Digits for digits and letters for letters: headers that stay JSON, with other numbers in them.
    @Test(arguments: 0..<4) func changedNumbers(part: Int) throws {
        let headerEnd = try headerEnd()
        var generator = SeededGenerator(seed: UInt64(600 + part))
        let digits = (8..<headerEnd).filter { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(whole[$0]) }
        var accepted = 0
        for _ in 0..<3000 {
            var bytes = whole
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                let position = try #require(digits.randomElement(using: &generator))
                bytes[position] = UInt8(ascii: "0") + UInt8.random(in: 0...9, using: &generator)
            }
            if use(bytes) { accepted += 1 }
        }
        #expect((1..<3000).contains(accepted))
    }

    @Test func numbersAtTheEdges() throws {
        let edges = [
            "-1", "-9223372036854775808", "-9223372036854775809", "9223372036854775807", "9223372036854775808",
            "18446744073709551615", "18446744073709551616", "4294967296", "1e3", "1.5", "0.0", "1e400", "null", "[]",
            "{}", "\"1\"", "00", "",
        ]
        let headerEnd = try headerEnd()
        let text = String(decoding: whole[8..<headerEnd], as: UTF8.self)
        let numbers = text.indices.filter { index in
            text[index].isNumber && (index == text.startIndex || !text[text.index(before: index)].isNumber)
        }
        #expect(numbers.count > 30)
        for start in numbers {
            let end = text[start...].firstIndex { !$0.isNumber } ?? text.endIndex
            for edge in edges {
                var builder = SafetensorsBuilder()
                builder.trailingBytes = whole.count - headerEnd
                use(builder.build(header: text.replacingCharacters(start..<end, by: edge)))
            }
        }
    }

    @Test func bytesRemovedInsertedAndRepeated() {
        var generator = SeededGenerator(seed: 700)
        for round in 0..<3000 {
            var bytes = whole
            let start = Int.random(in: 0..<bytes.count - 64, using: &generator)
            let run = start..<start + Int.random(in: 1...64, using: &generator)
            switch round % 3 {
            case 0: bytes.removeSubrange(run)
            case 1: bytes.insert(contentsOf: whole[run], at: start)
            default: bytes.insert(contentsOf: repeatElement(UInt8(ascii: " "), count: run.count), at: start)
            }
            // Half the time with the length that fits, so that what is in the header is looked at.
            if round % 2 == 0, bytes.count > 8 {
                let length = whole[0] &+ UInt8(truncatingIfNeeded: bytes.count - whole.count)
                bytes[0] = length
            }
            use(bytes)
        }
    }
}

extension String {
    fileprivate func replacingCharacters(_ range: Range<Index>, by text: String) -> String {
        String(self[..<range.lowerBound]) + text + String(self[range.upperBound...])
    }
}
