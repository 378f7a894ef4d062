// Tandem — Apache-2.0

import Foundation
import Testing

@testable import MPS

@Suite struct MarkedProcessTests {
    private let mark = "TANDEM_TEST_MARK_\(UInt32.random(in: 0 ... .max))"

    /// A shell that says its process id, and that of a child which lives on in a group of its own.
    private func start(
        _ variables: [String: String], script: String
    ) throws -> (shell: Foundation.Process, pids: [Int32]) {
        let process = Foundation.Process()
        let output = Foundation.Pipe()
        process.executableURL = URL(fileURLWithPath: "/bin/sh")
        process.arguments = ["-c", script]
        process.environment = variables.merging(["PATH": "/usr/bin:/bin"]) { $1 }
        process.standardOutput = output
        process.standardInput = FileHandle.nullDevice
        try process.run()
        var text = ""
        while !text.hasSuffix(".\n") {
            let data = output.fileHandleForReading.availableData
            if data.isEmpty { break }
            text += String(decoding: data, as: UTF8.self)
        }
        let pids = text.split(whereSeparator: { !$0.isNumber }).compactMap { Int32($0) }
        // While a process goes over to another program its environment cannot be read.
        for _ in 0..<6000
        where pids.last.map({ ProcessTable.read("/proc/\($0)/comm", limit: 64) }) != Array("sleep\n".utf8) {
            usleep(10_000)
        }
        return (process, pids)
    }

    @Test func exactlyTheMarkedAreKilled() throws {
        let table = ProcessTable()
        let script = "setsid sleep 600 >/dev/null & echo $$ $! .; wait"
        let marked = try start([mark: "a", "X": "1"], script: script)
        let other = try start([mark: "ab", "X": "1"], script: script)
        let cleared = try start([mark: "a"], script: script)
        defer {
            for process in [marked, other, cleared] {
                for pid in process.pids { kill(pid, SIGKILL) }
                process.shell.waitUntilExit()
            }
        }
        let found = table.processes(marked: [mark: "a", "X": "1"])
        #expect(found.map(\.identity.pid).sorted() == marked.pids.sorted())
        #expect(table.processes(marked: [mark: "a"]).count == 4)
        #expect(table.processes(marked: [:]).isEmpty)
        let killed = table.kill(marked: [mark: "a", "X": "1"], patience: 60_000)
        #expect(killed.map(\.identity.pid).sorted() == marked.pids.sorted())
        #expect(table.processes(marked: [mark: "a", "X": "1"]).isEmpty)
        #expect(table.kill(marked: [mark: "a", "X": "1"], patience: 60_000).isEmpty)
        for pid in other.pids + cleared.pids { #expect(table.identity(of: pid) != nil) }
    }
}
