// Tandem — Apache-2.0

/// Figures that come with Tandem, as the text of their definition files.
public struct BuiltInStudy: Sendable, Equatable {
    /// `F1`.
    public let name: String
    /// The definition file.
    public let text: String

    /// The article's figures and table, in order.
    public static let article: [BuiltInStudy] = [
        BuiltInStudy(name: "F1", text: textF1), BuiltInStudy(name: "F2", text: textF2),
        BuiltInStudy(name: "F3", text: textF3), BuiltInStudy(name: "F3-prefill", text: textF3prefill),
        BuiltInStudy(name: "F4", text: textF4), BuiltInStudy(name: "F5", text: textF5),
        BuiltInStudy(name: "F6", text: textF6), BuiltInStudy(name: "T1", text: textT1),
    ]

    /// Figures of the machine that runs Tandem, without a GPU.
    public static let processor: [BuiltInStudy] = [
        BuiltInStudy(name: "CPU1", text: textCPU1), BuiltInStudy(name: "CPU2", text: textCPU2),
        BuiltInStudy(name: "CPU3", text: textCPU3), BuiltInStudy(name: "CPU4", text: textCPU4),
    ]

    /// All of them.
    public static let all = article + processor + [BuiltInStudy(name: "CPU5", text: textCPU5)]

    /// Those that a name stands for: one figure, or a group of them. Empty if there are none.
    public static func named(_ name: String) -> [BuiltInStudy] {
        switch name.lowercased() {
        case "all": article
        case "cpu": processor
        default: all.filter { $0.name.lowercased() == name.lowercased() }
        }
    }

    /// - Throws: ``StudyError``; not for those that come with Tandem.
    public func definition() throws(StudyError) -> StudyDefinition {
        try StudyDefinition(json: Array(text.utf8), name: name)
    }
}
