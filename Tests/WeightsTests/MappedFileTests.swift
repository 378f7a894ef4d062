// Tandem — Apache-2.0

import Foundation
import TestSupport
import Testing
import Weights

@Suite struct MappedFileTests {
    private func withDirectory(_ body: (String) throws -> Void) throws {
        let directory = FileManager.default.temporaryDirectory.appendingPathComponent("weights-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        try body(directory.path)
    }

    private func reason(_ path: String) -> String? {
        do throws(WeightsError) {
            _ = try MappedFile(path: path)
            return nil
        } catch {
            #expect(error.path == path)
            #expect(error.offset == nil)
            return error.reason
        }
    }

    @Test func aFileIsReadAsItIs() throws {
        try withDirectory { directory in
            let path = directory + "/model.gguf"
            let content = GGUFFileTests.everything().build()
            try Data(content).write(to: URL(fileURLWithPath: path))
            let mapped = try MappedFile(path: path)
            #expect(mapped.bytes.elementsEqual(content))
            let file = try GGUFFile(path: path)
            #expect(file.path == path)
            // A mapping outlives the file's name.
            try FileManager.default.removeItem(atPath: path)
            let norm = try #require(file.tensor(named: "norm.weight"))
            #expect(file.floats(of: norm) == [1, 2, 3, 4, 5])
            #expect(file.metadata.strings("a.strings")?.count == 5)
        }
    }

    @Test func whatIsNoFileIsRefused() throws {
        try withDirectory { directory in
            #expect(reason(directory)?.contains("directory") == true)
            #expect(reason(directory + "/nothing")?.contains("No such file") == true)
            #expect(reason("")?.contains("empty") == true)
            #expect(reason(directory + "\0/x")?.contains("zero byte") == true)
            #expect(reason("/dev/null")?.contains("regular") == true)
            let empty = directory + "/empty"
            try Data().write(to: URL(fileURLWithPath: empty))
            #expect(reason(empty) == "is empty")
            // Opening a pipe that nobody writes to must not wait.
            let pipe = directory + "/pipe"
            #expect(mkfifo(pipe, 0o600) == 0)
            #expect(reason(pipe)?.contains("regular") == true)
        }
    }

    @Test func anErrorOfTheContentNamesThePath() throws {
        try withDirectory { directory in
            let path = directory + "/text.gguf"
            try Data("hello, world".utf8).write(to: URL(fileURLWithPath: path))
            let error = #expect(throws: WeightsError.self) { try GGUFFile(path: path) }
            #expect(error?.description.hasPrefix("\(path): byte 0: not a GGUF file") == true)
        }
    }
}
