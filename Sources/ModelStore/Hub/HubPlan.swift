// Tandem — Apache-2.0

/// Which files of a repository make the model that was asked for.
///
/// GGUF files go before safetensors files, as they are smaller and hold everything. One of them is taken: the one that
/// was asked for, the only one, or the first quantization of ``preferredQuantizations``. Without GGUF files it is the
/// model's configuration, its tokenizer and its safetensors files.
enum HubPlan: Equatable {
    /// One file is the whole model.
    case gguf(HubFile)
    /// `config.json`, what goes with it, and the weights.
    case directory(configuration: HubFile, others: [HubFile], weights: Weights)

    /// Where the weights of a directory are.
    enum Weights: Equatable {
        case file(HubFile)
        /// In the files that this index names.
        case index(HubFile)
    }

    /// Taken from a repository with several GGUF files when no choice was made: about half a byte a weight first, as
    /// llama.cpp and Ollama do with Q4_K_M.
    static let preferredQuantizations = [
        "Q4_K_M", "Q4_K_S", "Q4_K_L", "Q5_K_M", "Q5_K_S", "Q6_K", "Q8_0", "Q4_1", "Q4_0", "Q5_1", "Q5_0", "BF16", "F16",
        "FP16", "F32",
    ]

    /// What a directory needs besides its configuration and weights, as far as it is there.
    static let companions = [
        "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
        "chat_template.jinja", "chat_template.json",
    ]

    /// - Throws: ``ModelStoreError/hub(_:)`` that lists what there is to choose from.
    init(_ files: [HubFile], for reference: HubReference) throws(ModelStoreError) {
        let ggufs = files.filter { $0.path.lowercased().hasSuffix(".gguf") }
        let models = ggufs.filter { !Self.isPart($0) && !Self.isNoModel($0) }.sorted { $0.path < $1.path }
        switch reference.choice {
        case .safetensors:
            self = try Self.directory(files, reference)
        case .file(let path):
            self = .gguf(try Self.file(path, among: ggufs, models: models, reference))
        case .quantization(let label):
            let found = Self.files(of: models, labelled: label)
            guard let first = found.first else {
                let parts = Self.files(of: ggufs.filter(Self.isPart), labelled: label)
                if let part = parts.first { throw Self.refusal(ofPart: part, reference) }
                throw .hub(
                    .noSuchChoice(reference.repository, choice: label, choices: Self.choices(models)))
            }
            guard found.count == 1 else {
                throw .hub(
                    .severalChoices(reference.repository, choice: label, choices: Self.choices(found)))
            }
            self = .gguf(first)
        case .automatic:
            if let file = try Self.preferred(among: models, reference) {
                self = .gguf(file)
            } else {
                self = try Self.directory(files, reference, ggufs: ggufs)
            }
        }
    }

    // MARK: - GGUF

    /// Whether a file is one of several that make a model together.
    static func isPart(_ file: HubFile) -> Bool {
        let words = stem(file).split(separator: "-").suffix(3)
        guard words.count == 3, words[words.startIndex + 1].lowercased() == "of" else { return false }
        return [words[words.startIndex], words[words.startIndex + 2]].allSatisfy { word in
            word.count == 5 && word.allSatisfy(\.isNumber)
        }
    }

    /// Image encoders and importance matrices are in GGUF files too.
    static func isNoModel(_ file: HubFile) -> Bool {
        let name = file.fileName.lowercased()
        return name.contains("mmproj") || name.contains("imatrix")
    }

    /// Files whose names end with a label, or else hold it, or else lie in a directory of that name.
    static func files(of files: [HubFile], labelled label: String) -> [HubFile] {
        let wanted = Array(label.lowercased().utf8)
        func rank(_ file: HubFile) -> Int? {
            let name = Array(stem(file).lowercased().utf8)
            let ends = name.count >= wanted.count && name.suffix(wanted.count).elementsEqual(wanted)
            if ends, name.count == wanted.count || isSeparator(name[name.count - wanted.count - 1]) { return 0 }
            if name.count > wanted.count {
                for start in 0..<(name.count - wanted.count) {
                    guard name[start..<(start + wanted.count)].elementsEqual(wanted) else { continue }
                    let next = name[start + wanted.count]
                    // Q4_K_M has a quantization Q4_K in it, and is another.
                    guard next == UInt8(ascii: "-") || next == UInt8(ascii: ".") else { continue }
                    if start == 0 || isSeparator(name[start - 1]) { return 1 }
                }
            }
            let directories = file.path.split(separator: "/").dropLast()
            return directories.contains { $0.lowercased() == label.lowercased() } ? 2 : nil
        }
        let ranked = files.compactMap { file in rank(file).map { (rank: $0, file: file) } }
        let best = ranked.map(\.rank).min()
        return ranked.filter { $0.rank == best }.map(\.file)
    }

    private static func isSeparator(_ byte: UInt8) -> Bool {
        byte == UInt8(ascii: "-") || byte == UInt8(ascii: ".") || byte == UInt8(ascii: "_")
    }

    private static func stem(_ file: HubFile) -> String {
        String(file.fileName.dropLast(file.fileName.lowercased().hasSuffix(".gguf") ? 5 : 0))
    }

    private static func preferred(
        among models: [HubFile], _ reference: HubReference
    ) throws(ModelStoreError) -> HubFile? {
        if models.count <= 1 { return models.first }
        for label in preferredQuantizations {
            let found = files(of: models, labelled: label)
            if found.count == 1 { return found[0] }
            // Two models, not two quantizations of one.
            if found.count > 1 { break }
        }
        throw .hub(.severalChoices(reference.repository, choice: nil, choices: choices(models)))
    }

    private static func file(
        _ path: String, among ggufs: [HubFile], models: [HubFile], _ reference: HubReference
    ) throws(ModelStoreError) -> HubFile {
        let exact = ggufs.first { $0.path == path }
        // The name alone is enough where no other file has it.
        let named = ggufs.filter { $0.fileName.lowercased() == path.lowercased() }
        guard let file = exact ?? (named.count == 1 ? named[0] : nil) else {
            throw .hub(.noSuchChoice(reference.repository, choice: path, choices: choices(models)))
        }
        if isPart(file) { throw refusal(ofPart: file, reference) }
        return file
    }

    private static func refusal(ofPart file: HubFile, _ reference: HubReference) -> ModelStoreError {
        .hub(
            .notServable(
                reference.repository,
                reason:
                    "\(Printable.text(file.path)) is one of several parts of a GGUF file, which are not put together "
                    + "here (llama-gguf-split --merge does)"))
    }

    private static func choices(_ files: [HubFile]) -> [String] {
        files.map { "\($0.path) (\(ByteText.size($0.byteCount)))" }
    }

    // MARK: - Directory

    private static func directory(
        _ files: [HubFile], _ reference: HubReference, ggufs: [HubFile] = []
    ) throws(ModelStoreError) -> HubPlan {
        let atTop = Dictionary(files.map { ($0.path, $0) }) { first, _ in first }
        let weights: Weights
        if let file = atTop["model.safetensors"] {
            weights = .file(file)
        } else if let file = atTop["model.safetensors.index.json"] {
            weights = .index(file)
        } else {
            throw .hub(.notServable(reference.repository, reason: withoutWeights(files, ggufs: ggufs)))
        }
        guard let configuration = atTop["config.json"] else {
            throw .hub(.notServable(reference.repository, reason: "it has safetensors files but no config.json"))
        }
        return .directory(
            configuration: configuration, others: companions.compactMap { atTop[$0] }, weights: weights)
    }

    private static func withoutWeights(_ files: [HubFile], ggufs: [HubFile]) -> String {
        let nothing = "it has neither a GGUF file nor model.safetensors"
        if ggufs.contains(where: isPart) {
            return "its GGUF files come in several parts, which are not put together here"
        }
        if files.contains(where: { $0.path == "adapter_config.json" }) {
            return nothing + "; it is an adapter to another model"
        }
        let others = [".bin", ".pt", ".pth", ".ckpt", ".onnx", ".msgpack", ".h5", ".mlmodel", ".llamafile"]
        let found = others.filter { ending in files.contains { $0.path.lowercased().hasSuffix(ending) } }
        guard !found.isEmpty else { return nothing }
        return nothing + "; \(found.joined(separator: ", ")) files are not read"
    }

    /// The shards of an index.
    ///
    /// - Throws: ``ModelStoreError/hub(_:)`` if the repository does not have them all.
    static func shards(
        _ index: SafetensorsIndex, in files: [HubFile], _ reference: HubReference
    ) throws(ModelStoreError) -> [HubFile] {
        let byPath = Dictionary(files.map { ($0.path, $0) }) { first, _ in first }
        var shards: [HubFile] = []
        for name in index.files {
            guard let file = byPath[name] else {
                throw .hub(
                    .notServable(
                        reference.repository,
                        reason: "its index names \(Printable.quoted(name)), which the repository does not have"))
            }
            shards.append(file)
        }
        return shards
    }
}
