// Tandem — Apache-2.0

extension Document {
    /// A file of a report.
    public struct File: Sendable, Equatable {
        /// Within the report's folder.
        public var path: String
        public var bytes: [UInt8]
    }

    /// All files: `index.html`, which needs no other; `README.md` with its figures in both layouts; and each figure's
    /// Vega-Lite specification.
    public func files() -> [File] {
        var files = [
            File(path: "index.html", bytes: Array(html().utf8)), File(path: "README.md", bytes: Array(markdown().utf8)),
        ]
        for figure in figures {
            files.append(File(path: "figures/\(figure.identifier).svg", bytes: Array(figure.svg(.wide).utf8)))
            files.append(File(path: "figures/\(figure.identifier)-narrow.svg", bytes: Array(figure.svg(.narrow).utf8)))
            files.append(File(path: "figures/\(figure.identifier).vl.json", bytes: figure.vegaLite()))
        }
        return files
    }
}
