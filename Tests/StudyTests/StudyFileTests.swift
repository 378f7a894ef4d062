// Tandem — Apache-2.0

import Glibc
import Study
import Testing

@Suite struct StudyFileTests {
    private let definition = StudyFixture.definition(arms: [StudyFixture.one])

    /// Calls `body` with a path at which there is no file, and removes what is there afterwards.
    private func withPath(_ body: (String) throws -> Void) throws {
        var template = Array("/tmp/study-test-XXXXXX".utf8CString)
        try #require(mkdtemp(&template) != nil)
        let directory = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        defer {
            unlink(directory + "/X1.jsonl")
            rmdir(directory)
        }
        try body(directory + "/X1.jsonl")
    }

    private func append(_ text: String, to path: String) throws {
        let file = open(path, O_WRONLY | O_APPEND)
        try #require(file >= 0)
        let bytes = Array(text.utf8)
        try #require(write(file, bytes, bytes.count) == bytes.count)
        close(file)
    }

    @Test func `a study goes on where it stopped`() throws {
        try withPath { path in
            let study = try StudyFixture.simulated(definition)
            let tasks = definition.tasks()
            let header = StudyFixture.header(definition)
            do {
                let file = try StudyFile(path: path, header: header, resumes: true)
                #expect(file.before.measurements.isEmpty)
                for task in tasks.prefix(3) { try file.append(.measurement(study.measure(task))) }
            }
            try append("{\"measurement\":{\"cell\":{\"fig", to: path)
            #expect { try StudyFile.result(path: path) } throws: { "\($0)".contains("line 5: is cut off") }

            do {
                let file = try StudyFile(path: path, header: header, resumes: true)
                #expect(file.before.measurements == tasks.prefix(3).map(study.measure))
                // Nobody else may write meanwhile, to begin it anew least of all.
                for resumes in [true, false] {
                    #expect { try StudyFile(path: path, header: header, resumes: resumes) } throws: {
                        "\($0)".contains("is being written by another study")
                    }
                }
                try file.append(.measurement(study.measure(tasks[3])))
            }

            #expect(try StudyFile.result(path: path).measurements == tasks.prefix(4).map(study.measure))
            _ = try StudyFile(path: path, header: header, resumes: false)
            #expect(try StudyFile.result(path: path).measurements.isEmpty)
        }
    }

    @Test func `results of another study are left alone`() throws {
        try withPath { path in
            let header = StudyFixture.header(definition)
            _ = try StudyFile(path: path, header: header, resumes: true)
            let before = try StudyFile.read(path)
            var changes: [StudyHeader] = []
            for change in [\StudyHeader.device, \.version] {
                var other = header
                other[keyPath: change] = "other"
                changes.append(other)
            }
            var parameters = header
            parameters.parameters["slice"] = "3 ms"
            changes.append(parameters)
            changes.append(StudyFixture.header(StudyFixture.definition(contexts: [65], arms: [StudyFixture.one])))
            for change in changes {
                #expect { try StudyFile(path: path, header: change, resumes: true) } throws: {
                    "\($0)".contains("--no-resume")
                }
            }
            #expect(try StudyFile.read(path) == before)
            // When it was begun does not matter.
            var later = header
            later.date = "tomorrow"
            #expect(throws: Never.self) { try StudyFile(path: path, header: later, resumes: true) }
        }
    }

    @Test func `corrupt lines are named`() throws {
        let study = try StudyFixture.simulated(definition)
        let header = StudyRecord.header(StudyFixture.header(definition)).line
        let line = StudyRecord.measurement(study.measure(definition.tasks()[0])).line
        func error(_ bytes: [UInt8]) -> String {
            do {
                _ = try StudyResult(lines: bytes, name: "f")
                return "none"
            } catch {
                return "\(error)"
            }
        }
        func replaced(_ old: String, _ new: String) -> [UInt8] {
            let text = String(decoding: line, as: UTF8.self)
            return Array(text.split(separator: old, omittingEmptySubsequences: false).joined(separator: new).utf8)
        }

        #expect(error(header + line) == "none")
        #expect(error([]).contains("no header"))
        #expect(error(line).contains("line 1: must be a header"))
        #expect(error(header + header).contains("line 2: is a second header"))
        #expect(error(header + line + line).contains("line 3: repeats"))
        #expect(error(header + Array("\n".utf8)).contains("line 2: is no JSON"))
        #expect(error(header + Array("{\"other\":1}\n".utf8)).contains("line 2: holds neither"))
        #expect(error(header + replaced("\"X1\"", "\"X2\"")).contains("belongs to figure X2"))
        #expect(error(header + replaced("\"decode\"", "\"dekode\"")).contains("line 2, \"measurement\", \"cell\""))
        #expect(error(header + replaced("generated_tokens", "made_tokens")).contains("is unknown"))
        let newer = String(decoding: header, as: UTF8.self).split(separator: "\"format\":1").joined(
            separator: "\"format\":9")
        #expect(error(Array(newer.utf8)).contains("measure again"))
    }

    @Test func `what cannot be opened is named`() {
        #expect { try StudyFile.result(path: "/nowhere/F1.jsonl") } throws: { "\($0)".contains("/nowhere/F1.jsonl") }
        #expect {
            try StudyFile(path: "/nowhere/X1.jsonl", header: StudyFixture.header(definition), resumes: true)
        } throws: { "\($0)".contains("cannot be written") }
    }

    @Test func `tasks are given out once, and none after a stop`() {
        let tasks = definition.tasks()
        let run = StudyRun(tasks)

        #expect(run.next() == tasks[0] && run.next() == tasks[1])
        var failed = StudyMeasurement(cell: tasks[0].cell, repetition: 0, seed: 1, failure: "no")
        run.finish(failed, of: tasks[0])
        failed.failure = nil
        run.finish(failed, of: tasks[1])
        #expect(run.progress.done == 2 && run.progress.failed == 1 && run.progress.total == tasks.count)
        #expect(!run.hasFinished("X1") && run.hasFinished("X2"))
        run.stop(StudyError(subject: "a", reason: "b"))
        run.stop(StudyError(subject: "c", reason: "d"))
        #expect(run.next() == nil && run.isStopped && run.error?.subject == "a")
    }

    @Test func `what cannot be measured is refused`() {
        func error(_ definition: StudyDefinition, cores: Int = 2) -> String {
            do {
                try MeasuredStudy.check(definition, cores: cores)
                return "none"
            } catch {
                return "\(error)"
            }
        }
        var good = StudyFixture.definition(hosts: [], arms: [StudyFixture.one])
        good.caches = [.equal]

        #expect(error(good) == "none")
        #expect(error(StudyFixture.definition(hosts: [], arms: [StudyFixture.mps])).contains("arm \"mps\" (mps)"))
        good.arms = [StudyArm(id: "big", title: "", engines: 2, sharing: .cores, isAsynchronous: false, cores: 2)]
        #expect(error(good).contains("needs 4 cores, and there are 2"))
        #expect(error(good, cores: 4) == "none")
        good.device = "cuda:0"
        #expect(error(good).contains("cannot run on a GPU"))
        good.arms[0].command = "vllm"
        #expect(error(good).contains("\"serving\""))
        good.phase = .serving
        #expect(error(good).contains("\"mps\""))
        good.arms[0].sharing = .mps
        #expect(error(good).contains("\"caches\": [\"memory\"]"))
        good.caches = [.memory]
        #expect(error(good) == "none")
        (good.phase, good.arms[0].command) = (.decode, nil)
        #expect(error(good) == "none")
        good = StudyFixture.definition(hosts: [], arms: [StudyFixture.one])
        good.caches = [.equal]
        good.hosts = [StudyFixture.host]
        #expect(error(good, cores: 4).contains("\"hosts\""))
    }
}
