// Tandem — Apache-2.0

import JSON
import Testing

@testable import LoadGenerator

@Suite struct WorkloadTests {
    private func words(_ item: WorkloadItem) -> [Substring] {
        guard case .text(let text) = item.prompt else { return [] }
        return text.split(separator: " ")
    }

    private func synthetic(_ workload: SyntheticWorkload, seed: UInt64 = 1) -> Workload {
        Workload(source: .synthetic(workload), text: PromptText(), seed: seed)
    }

    @Test func lengthsAreRead() {
        #expect(LengthDistribution("128") == .fixed(128))
        #expect(LengthDistribution("64-256") == .uniform(64...256))
        #expect(LengthDistribution("lognormal:200:50") == .logNormal(mean: 200, deviation: 50))
        for text in [
            "", "0", "-4", "9-3", "1-", "x", "lognormal:1", "lognormal:0:1", "lognormal:9:-1", "lognormal:nan:1",
        ]
            + ["99999999999", "lognormal:inf:1", "lognormal:10:inf"]
        { #expect(LengthDistribution(text) == nil, "\(text)") }
    }

    @Test func lengthsAreDistributed() throws {
        var random = RandomSource(seed: 5)
        let uniform = (0..<5000).map { _ in LengthDistribution.uniform(3...7).length(&random) }
        #expect(Set(uniform) == [3, 4, 5, 6, 7])
        let distribution = LengthDistribution.logNormal(mean: 200, deviation: 100)
        let lengths = (0..<20_000).map { _ in Double(distribution.length(&random)) }
        let statistics = try #require(Statistics(lengths))
        #expect(abs(statistics.mean - 200) < 5 && abs(statistics.deviation - 100) < 8)
        // Of a lognormal distribution the median is below the mean: 200 / √1.25.
        #expect(abs(statistics.median - 178.9) < 5)
        #expect(LengthDistribution.logNormal(mean: 30, deviation: 0).length(&random) == 30)
    }

    @Test func promptsHaveTheirLength() {
        let workload = synthetic(SyntheticWorkload(inputTokens: .fixed(40), outputTokens: .fixed(9)))
        let items = (0..<20).map { workload.item(at: $0) }
        for item in items { #expect(words(item).count == 40 && item.maximumTokens == 9 && item.promptTokens == nil) }
        #expect(Set(items.map { words($0).joined() }).count == 20)
        #expect(workload.item(at: 7) == items[7])
        #expect(
            synthetic(SyntheticWorkload(inputTokens: .fixed(40), outputTokens: .fixed(9)), seed: 2).item(at: 7)
                != items[7])
    }

    @Test func prefixesAreShared() {
        var definition = SyntheticWorkload(inputTokens: .fixed(30), outputTokens: .fixed(1))
        (definition.prefixTokens, definition.prefixes) = (20, 3)
        let workload = synthetic(definition)
        let prompts = (0..<50).map { words(workload.item(at: $0)) }
        #expect(prompts.allSatisfy { $0.count == 30 })
        #expect(Set(prompts.map { $0.prefix(20).joined(separator: " ") }).count == 3)
        #expect(Set(prompts.map { $0.joined(separator: " ") }).count == 50)
        // Prompts too short for it share what they can and still differ.
        definition.inputTokens = .fixed(5)
        #expect((0..<9).allSatisfy { words(synthetic(definition).item(at: $0)).count == 5 })
    }

    @Test(arguments: WorkloadPreset.allCases)
    func presetsMakeRequests(preset: WorkloadPreset) throws {
        let workload = synthetic(preset.workload)
        for index in 0..<20 {
            let item = workload.item(at: index)
            #expect(words(item).count >= 1 && (item.maximumTokens ?? 0) >= 1)
        }
        let grammar = synthetic(WorkloadPreset.grammar.workload).item(at: 0)
        #expect(grammar.maximumTokens == words(grammar).count - 11)
    }

    @Test func datasetsAreRead() throws {
        let text = """
            {"prompt": "one", "output_tokens": 3, "top_k": 5, "stream": false}

            {"custom_id": "x", "body": {"prompt": "two", "model": "m"}}
            """
        let items = try WorkloadFile.dataset(Array(text.utf8), path: "f", isChat: false)
        #expect(items.map(\.prompt) == [.text("one"), .text("two")] && items.map(\.maximumTokens) == [3, nil])
        #expect(items[0].fields.entries.map(\.key) == ["top_k"] && items[1].fields.count == 0)
        let chat = try WorkloadFile.dataset(Array(#"{"messages": [], "max_tokens": 4}"#.utf8), path: "f", isChat: true)
        #expect(chat[0].prompt == .messages(.array([])) && chat[0].maximumTokens == 4)
        let again = Workload(source: .dataset(items), text: PromptText(), seed: 1)
        #expect(again.item(at: 3) == items[1])
    }

    @Test(arguments: [
        ("", "no line"), ("[1]", "line 1: it is no JSON object"), ("{}\n{", "line 1: it must have either"),
        (#"{"prompt":"a","max_tokens":0}"#, "`max_tokens`"), (#"{"prompt":"a"}"# + "\n{", "line 2: byte"),
        (#"{"messages":[]}"#, "--chat"), (#"{"prompt":"a","messages":[]}"#, "either"),
    ])
    func badDatasetsAreRefused(text: String, reason: String) {
        let error = #expect(throws: LoadGeneratorError.self) {
            try WorkloadFile.dataset(Array(text.utf8), path: "f", isChat: false)
        }
        #expect(error?.description.contains(reason) == true, "\(error?.description ?? "")")
    }

    @Test func tracesShareBlocks() throws {
        let text = """
            {"timestamp": 500, "input_length": 1030, "output_length": 7, "hash_ids": [1, 2, 3]}
            {"timestamp": 0, "input_length": 600, "output_length": 8, "hash_ids": [1, 9]}
            """
        let entries = try WorkloadFile.trace(Array(text.utf8), path: "f")
        #expect(entries.map(\.moment) == [0.5, 0] && entries.map(\.outputTokens) == [7, 8])
        let workload = Workload(source: .trace(entries), text: PromptText(), seed: 1)
        let (first, second) = (words(workload.item(at: 0)), words(workload.item(at: 1)))
        #expect(first.count == 1030 && second.count == 600)
        #expect(first[..<512] == second[..<512] && first[512..<600] != second[512..<600])
        for bad in [
            #"{"timestamp": -1, "input_length": 1, "output_length": 1}"#, #"{"timestamp": 1, "input_length": 1}"#,
            #"{"timestamp": 1, "input_length": 1, "output_length": 1, "hash_ids": ["a"]}"#,
        ] { #expect(throws: LoadGeneratorError.self) { try WorkloadFile.trace(Array(bad.utf8), path: "f") } }
    }

    @Test func bodiesAreWritten() throws {
        var fields = JSONObject()
        fields["ignore_eos"] = .bool(true)
        fields["top_k"] = .integer(1)
        var own = JSONObject()
        own["top_k"] = .integer(5)
        let item = WorkloadItem(prompt: .text("a \"b\""), maximumTokens: 4, fields: own)
        var template = RequestTemplate(model: "m", isChat: false, streams: true, fields: fields)
        #expect(template.target == "/v1/completions")
        #expect(
            String(decoding: template.body(item), as: UTF8.self)
                == #"{"model":"m","prompt":"a \"b\"","max_tokens":4,"stream":true,"stream_options":{"include_usage":true},"top_k":5,"ignore_eos":true}"#
        )
        (template.isChat, template.streams) = (true, false)
        #expect(template.target == "/v1/chat/completions")
        #expect(
            String(decoding: template.body(item), as: UTF8.self)
                == #"{"model":"m","messages":[{"role":"user","content":"a \"b\""}],"max_tokens":4,"top_k":5,"ignore_eos":true}"#
        )
    }
}
