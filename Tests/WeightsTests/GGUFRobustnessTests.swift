// Tandem — Apache-2.0

import TestSupport
import Testing
import Weights

/// Whatever the bytes, reading them returns or throws; and what it returns can be used to the last byte.
@Suite struct GGUFRobustnessTests {
    /// Uses everything a file offers; true if the file was accepted.
    @discardableResult
    private func use(_ bytes: [UInt8], location: SourceLocation = #_sourceLocation) -> Bool {
        let file: GGUFFile
        do throws(WeightsError) {
            file = try GGUFFile(bytes: bytes, name: "mutated")
        } catch {
            if error.path != "mutated" || error.offset == nil || error.reason.isEmpty {
                Issue.record("an error without a place: \(error)", sourceLocation: location)
            }
            if let offset = error.offset, offset > UInt64(bytes.count) {
                Issue.record("an error outside the file: \(error)", sourceLocation: location)
            }
            return false
        }
        for key in file.metadata.keys {
            guard let value = file.metadata[key] else {
                Issue.record("a key without a value", sourceLocation: location)
                continue
            }
            walk(value, location)
        }
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
        }
        return true
    }

    private func walk(_ value: GGUFValue, _ location: SourceLocation) {
        guard let array = value.array else { return }
        guard let elements = array.elements, elements.count == array.count else {
            Issue.record("an array that was checked cannot be decoded", sourceLocation: location)
            return
        }
        _ = (array.strings, array.integers, array.floats)
        for element in elements { walk(element, location) }
    }

    @Test func everyTruncationIsRefused() {
        let whole = GGUFFileTests.everything().build()
        #expect(use(whole))
        for length in 0..<whole.count where use(Array(whole[..<length])) {
            Issue.record("accepted the first \(length) of \(whole.count) bytes")
        }
    }

    /// A valid file, and where its tensor data begin.
    private func wholeFile() throws -> (bytes: [UInt8], tableEnd: Int) {
        let bytes = GGUFFileTests.everything().build()
        let first = try #require(try GGUFFile(bytes: bytes, name: "whole").tensors.first)
        return (bytes, Int(first.offset))
    }

    @Test(arguments: 0..<4) func changedBytes(part: Int) throws {
        // A change of tensor data cannot be noticed: aim at what comes before, mostly.
        let (whole, tableEnd) = try wholeFile()
        var generator = SeededGenerator(seed: UInt64(100 + part))
        var accepted = 0
        for round in 0..<5000 {
            var bytes = whole
            for _ in 0..<Int.random(in: 1...3, using: &generator) {
                let range = round % 4 == 0 ? 0..<bytes.count : 0..<tableEnd
                bytes[Int.random(in: range, using: &generator)] = .random(in: .min ... .max, using: &generator)
            }
            if use(bytes) { accepted += 1 }
        }
        #expect((1..<5000).contains(accepted))
    }

    @Test(arguments: 0..<4) func changedWords(part: Int) throws {
        let (whole, tableEnd) = try wholeFile()
        var generator = SeededGenerator(seed: UInt64(200 + part))
        let edges: [UInt64] = [
            0, 1, 2, 3, 8, 9, 12, 31, 32, 33, 0x7F, 0xFF, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFF, 1 << 32, 1 << 40,
            1 << 61, 1 << 62, 1 << 63, (1 << 63) - 1, .max, .max - 31, UInt64(whole.count), UInt64(whole.count) - 1,
        ]
        for _ in 0..<5000 {
            var bytes = whole
            let word =
                Bool.random(using: &generator)
                ? edges.randomElement(using: &generator) ?? 0 : UInt64.random(in: 0 ... .max, using: &generator)
            let width = [2, 4, 8].randomElement(using: &generator) ?? 8
            let position = Int.random(in: 0..<tableEnd, using: &generator)
            for index in 0..<width { bytes[position + index] = UInt8(truncatingIfNeeded: word >> (8 * UInt64(index))) }
            use(bytes)
        }
    }

    @Test func bytesRemovedInsertedAndRepeated() {
        let whole = GGUFFileTests.everything().build()
        var generator = SeededGenerator(seed: 300)
        for round in 0..<3000 {
            var bytes = whole
            let start = Int.random(in: 0..<bytes.count - 64, using: &generator)
            let run = start..<start + Int.random(in: 1...64, using: &generator)
            switch round % 3 {
            case 0: bytes.removeSubrange(run)
            case 1: bytes.insert(contentsOf: whole[run], at: start)
            default: bytes.insert(contentsOf: repeatElement(0, count: run.count), at: start)
            }
            use(bytes)
        }
    }

    @Test func randomBytes() {
        var generator = SeededGenerator(seed: 400)
        let header = GGUFBuilder().build()
        for round in 0..<5000 {
            let count = Int.random(in: 0...512, using: &generator)
            // Small numbers are likelier to pass for lengths and types than any bytes are.
            let limit: UInt8 = round.isMultiple(of: 2) ? 3 : .max
            var bytes = (0..<count).map { _ in UInt8.random(in: 0...limit, using: &generator) }
            if round % 3 != 0 {
                bytes = Array(header[..<8]) + [UInt8(round % 5), 0, 0, 0, 0, 0, 0, 0, UInt8(round % 7)] + bytes
            }
            use(bytes)
        }
    }
}
