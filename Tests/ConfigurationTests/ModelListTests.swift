// Tandem — Apache-2.0

import Foundation
import Testing

@testable import Configuration

/// A file that lists models, named `t.yaml`, and whatever else is given.
private func configuration(
    _ yaml: String, flags: [String: String] = [:], environment: [String: String] = [:]
) throws(ConfigurationError) -> ServeConfiguration {
    let file = try ConfigurationFile(
        name: "t.yaml", yaml: yaml, keys: ServeConfiguration.keys, entryKeys: ModelSettings.entryKeys)
    return try ServeConfiguration(SettingLayers(flags: flags, environment: environment, file: file))
}

private func refusal(
    _ yaml: String, flags: [String: String] = [:], environment: [String: String] = [:]
) -> ConfigurationError? {
    do throws(ConfigurationError) {
        _ = try configuration(yaml, flags: flags, environment: environment)
        return nil
    } catch {
        return error
    }
}

@Suite struct ModelListTests {
    @Test func everyKeyOfAnEntryArrives() throws {
        let result = try configuration(
            """
            port: 9
            models:
              - model: a
              - model: org/b
                name: coder
                aliases: [fast, "other name"]
                tokenizer: t.gguf
                load-format: dummy
                ablation: mlpOnly
                engines: 1
                threads: 3
                cpu-compute: bf16
                max-model-len: 4096
                max-num-seqs: 7
                max-num-batched-tokens: 64
                kv-cache-memory: 2MiB
                async-scheduling: yes
                prompt-lookup: 0
            """)
        var first = ModelSettings()
        first.place = "t.yaml: models[0]"
        first.model = "a"
        var second = ModelSettings()
        second.place = "t.yaml: models[1]"
        second.model = "org/b"
        second.servedModelName = "coder"
        second.aliases = ["fast", "other name"]
        second.tokenizer = "t.gguf"
        second.loadFormat = .dummy
        second.ablation = .mlpOnly
        second.engines = 1
        second.threads = 3
        second.cpuCompute = .bf16
        second.maximumContextLength = 4096
        second.maximumSequences = 7
        second.maximumBatchedTokens = 64
        second.keyValueBytes = 2 << 20
        second.asynchronousScheduling = true
        second.promptLookup = 0
        #expect(result.models == [first, second])
        #expect(result.port == 9)
        #expect(second.names(ownName: "b") == ["coder", "fast", "other name"])
        #expect(first.names(ownName: "own") == ["own"])
    }

    @Test func whatAnEntryDoesNotSayComesFromOutsideTheList() throws {
        let yaml = """
            engines: 3
            threads: 1
            max-model-len: 100
            models:
              - model: a
                threads: 2
                max-model-len: null
              - model: b
                served-model-name: c
            """
        // Flags and variables take the place of the file's own values, not of an entry's.
        let result = try configuration(
            yaml, flags: ["engines": "5"], environment: ["TANDEM_THREADS": "7", "TANDEM_ALIASES": "x"])
        #expect(result.models.map(\.engines) == [5, 5])
        #expect(result.models.map(\.threads) == [2, 7])
        #expect(result.models.map(\.maximumContextLength) == [100, 100])
        #expect(result.models.map(\.servedModelName) == [nil, "c"])
        #expect(result.models.map(\.aliases) == [[], []])
    }

    @Test func withoutAListThereIsOneModel() throws {
        let result = try configuration("model: a\nserved-model-name: b\nmodels: null\n")
        #expect(result.models.count == 1)
        #expect(result.models[0].place == nil)
        #expect(result.models[0].servedModelName == "b")
        #expect(result.models[0].source(of: "threads") == "--threads")
    }

    @Test(arguments: [
        ("models: []", "t.yaml: models", "- model: NAME"), ("models: a", "t.yaml: models", "- model: NAME"),
        ("models: {model: a}", "t.yaml: models", "- model: NAME"),
        ("models: [a]", "t.yaml: models[0]", "model: NAME"),
        ("models: [{model: a}, {engines: 1}]", "t.yaml: models[1].model", "missing"),
        ("models: [{model: a}, {model: ''}]", "t.yaml: models[1].model", "empty"),
        ("models: [{model: a}, {model: b, engines: 0}]", "t.yaml: models[1].engines", "from 1 to 1024"),
        ("models: [{model: a, engines: [1]}]", "t.yaml: models[0].engines", "single value"),
        ("models: [{model: a, kv-cache-memory: much}]", "t.yaml: models[0].kv-cache-memory", "512MiB"),
        ("models: [{model: a, port: 8}]", "t.yaml: models[0]", "unknown key \"port\" in line 1"),
        ("models: [{model: a, models: []}]", "t.yaml: models[0]", "unknown key \"models\""),
        ("models: [{model: a, name: ''}]", "t.yaml: models[0].name", "empty"),
        ("models: [{model: a, name: x, served-model-name: x}]", "t.yaml: models[0]", "the same"),
        ("models: [{model: a, aliases: x}]", "t.yaml: models[0].aliases", "list"),
        ("models: [{model: a, aliases: [x, '']}]", "t.yaml: models[0].aliases[1]", "empty"),
        ("models: [{model: a, aliases: [[x]]}]", "t.yaml: models[0].aliases[0]", "single value"),
        (
            "models: [{model: a, name: x}, {model: b, aliases: [y, x]}]", "t.yaml: models[1].name",
            "\"x\" is already a name of t.yaml: models[0]"
        ),
        ("models: [{model: a, name: x, aliases: [x]}]", "t.yaml: models[0].name", "of itself"),
        ("models: [{model: a, engines: 1000}, {model: b, engines: 25}]", "t.yaml: models", "1025 engines"),
        ("engines: x\nmodels: [{model: a}]", "t.yaml: engines", "whole number"),
        ("model: a\nmodels: [{model: a}]", "t.yaml: model", "lists the `models:`"),
        ("served-model-name: a\nmodels: [{model: a}]", "t.yaml: served-model-name", "lists the `models:`"),
    ])
    func whatCannotBeIsNamedWithItsPlace(yaml: String, source: String, reason: String) throws {
        let error = try #require(refusal(yaml), "accepted: \(yaml)")
        #expect(error.source == source)
        #expect(error.reason.contains(reason), "\(error)")
    }

    @Test func aListLeavesNoRoomForOneModel() {
        let yaml = "models: [{model: a}]"
        #expect(refusal(yaml, flags: ["model": "m"])?.source == "MODEL")
        #expect(refusal(yaml, flags: ["served-model-name": "m"])?.source == "--served-model-name")
        #expect(refusal(yaml, environment: ["TANDEM_MODEL": "m"])?.source == "environment variable TANDEM_MODEL")
        #expect(
            refusal(yaml, environment: ["TANDEM_SERVED_MODEL_NAME": "m"])?.source
                == "environment variable TANDEM_SERVED_MODEL_NAME")
        #expect(refusal(yaml, flags: ["model": "m"])?.reason.contains("t.yaml") == true)
    }

    @Test func namesThatTheModelsBringCountToo() throws {
        let models = try configuration("models: [{model: a}, {model: a}]").models
        try ModelSettings.checkNames([(models[0], ["a"]), (models[1], ["b"])])
        #expect(
            throws: ConfigurationError(
                source: "t.yaml: models[1].name",
                reason: "\"a\" is already a name of t.yaml: models[0]; give each model a name of its own")
        ) { try ModelSettings.checkNames([(models[0], ["a"]), (models[1], ["a"])]) }
    }

    @Test func errorsOfFlagsAreFoundInTheList() throws {
        let model = try configuration("models: [{model: a}]").models[0]
        let error = ConfigurationError(source: "--max-model-len", reason: "too long")
        #expect(model.located(error).source == "t.yaml: models[0].max-model-len")
        #expect(ModelSettings().located(error) == error)
        let other = ConfigurationError(source: "file", reason: "r")
        #expect(model.located(other) == other)
    }
}
