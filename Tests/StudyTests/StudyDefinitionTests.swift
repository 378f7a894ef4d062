// Tandem — Apache-2.0

import Study
import Testing

@Suite struct StudyDefinitionTests {
    @Test(arguments: BuiltInStudy.all.map(\.name)) func `what comes with Tandem can be read`(name: String) throws {
        let study = try #require(BuiltInStudy.named(name).first)
        let definition = try study.definition()

        #expect(definition.figure == name)
        let tasks = definition.tasks()
        #expect(Set(tasks).count == tasks.count)
        #expect(definition.phase == .resources || tasks.count >= 3 * definition.arms.count)
        #expect(definition.phase == .resources || definition.repetitions >= 3)
        let quick = definition.quick()
        #expect(quick.tasks().count <= tasks.count)
        #expect(quick.contexts.first == definition.contexts.first && quick.contexts.last == definition.contexts.last)
    }

    @Test func `names stand for groups`() {
        #expect(BuiltInStudy.named("all") == BuiltInStudy.article)
        #expect(BuiltInStudy.named("cpu") == BuiltInStudy.processor)
        #expect(BuiltInStudy.named("f4").map(\.name) == ["F4"])
        #expect(BuiltInStudy.named("F7").isEmpty)
    }

    @Test func `arms take turns in beginning, and share a seed`() {
        let definition = StudyFixture.definition(arms: [StudyFixture.one, StudyFixture.mps])
        let tasks = definition.tasks()

        #expect(tasks.count == 3 * 2 * 2 * 2 * 2)
        #expect(tasks[0].cell.arm == "one" && tasks[1].cell.arm == "mps")
        #expect(tasks[0].seed == tasks[1].seed && tasks[0].seed != tasks[2].seed)
        #expect(tasks[16].repetition == 1 && tasks[16].cell.arm == "mps" && tasks[17].cell.arm == "one")
    }

    private func error(_ change: (String) -> String) -> String {
        let text = BuiltInStudy.named("F1").first.map(\.text) ?? ""
        do {
            _ = try StudyDefinition(json: Array(change(text).utf8), name: "mine.json")
            return "none"
        } catch {
            return "\(error)"
        }
    }

    private func replacing(_ old: String, _ new: String) -> (String) -> String {
        { text in
            guard let range = text.firstRange(of: old) else { return text }
            return text.replacingCharacters(in: range, with: new)
        }
    }

    @Test func `bad definitions are refused by name`() {
        #expect(error { $0 } == "none")
        #expect(error(replacing("\"question\"", "\"quest\"")).contains("\"question\" is missing"))
        #expect(error(replacing("\"decode\"", "\"decoding\"")).contains("it must be decode, prefill"))
        #expect(error(replacing("\"repetitions\": 3", "\"repetitions\": 0")).contains("\"repetitions\" must be"))
        #expect(
            error(replacing("\"repetitions\": 3", "\"repetitions\": 3, \"seed\": 1")).contains("\"seed\" is unknown"))
        #expect(error(replacing("\"contexts\": [128,", "\"contexts\": [128, 128,")).contains("has 128 twice"))
        #expect(error(replacing("\"sharing\": \"mps\"", "\"sharing\": \"alone\"")).contains("\"alone\""))
        #expect(error(replacing("[1024]", "[]")).contains("\"batches\" is empty"))
        #expect(error { String($0.dropLast(20)) }.contains("mine.json: is no definition"))
        #expect(error { _ in "[]" }.contains("no JSON object"))
    }

    @Test func `another simulated device keeps what is assumed, a measured one has its own`() throws {
        let definition = StudyFixture.definition()

        #expect(try definition.selecting(device: "simulated:l4").hosts == definition.hosts)
        let measured = try definition.selecting(device: "cuda:0")
        #expect(try definition.selecting(device: "cpu").caches == [.equal])
        #expect(measured.hosts.isEmpty && measured.caches == [.memory] && measured.device == "cuda:0")
    }

    @Test func `an empty choice is refused`() {
        let definition = StudyFixture.definition()

        #expect(throws: StudyError.self) { try definition.selecting(models: []) }
        #expect(throws: StudyError.self) { try definition.selecting(contexts: []) }
        #expect(throws: StudyError.self) { try definition.selecting(contexts: [0]) }
        #expect(throws: StudyError.self) { try definition.selecting(repetitions: 0) }
        #expect(throws: Never.self) { try definition.selecting(models: ["other"], contexts: [7], repetitions: 1) }
    }
}

extension String {
    fileprivate func replacingCharacters(in range: Range<String.Index>, with text: String) -> String {
        self[..<range.lowerBound] + text + self[range.upperBound...]
    }
}
