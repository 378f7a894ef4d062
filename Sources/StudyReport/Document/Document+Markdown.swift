// Tandem — Apache-2.0

extension Document {
    /// The report as Markdown, with figures in files beside it: `figures/NAME.svg` and `figures/NAME-narrow.svg`.
    public func markdown() -> String {
        let parts = ["# \(MarkdownText.escaped(title))", lead.markdown] + blocks.map(\.markdown)
        return parts.joined(separator: "\n\n") + "\n"
    }
}

extension Document.Block {
    fileprivate var markdown: String {
        switch self {
        case .heading(let level, let text, let anchor):
            // Renderers name headings each in their own way; links within the report need a name of ours.
            let name = anchor.isEmpty ? "" : "<a id=\"\(MarkupText.escaped(anchor))\"></a>\n\n"
            return name + String(repeating: "#", count: min(max(level, 2), 4)) + " " + MarkdownText.escaped(text)
        case .paragraph(let prose): return prose.markdown
        case .list(let items): return items.map { "- \($0.markdown)" }.joined(separator: "\n")
        case .note(let prose): return "> \(prose.markdown)"
        case .details(let summary, let blocks):
            return """
                <details><summary>\(MarkupText.escaped(summary))</summary>

                \(blocks.map(\.markdown).joined(separator: "\n\n"))

                </details>
                """
        case .table(let table):
            func row(_ cells: [String]) -> String { "| \(cells.joined(separator: " | ")) |" }
            let rows = table.rows.map { row($0.map(\.markdown)) }
            return
                ([
                    row(table.columns.map { MarkdownText.escaped($0.title) }),
                    row(table.columns.map { $0.isNumeric ? "---:" : "---" }),
                ] + rows).joined(separator: "\n")
        case .figure(let figure):
            let name = MarkupText.escaped(figure.identifier)
            let text = figure.provenances.map { "\($0.mark) \($0.place)" }.joined(separator: "; ")
            return """
                <picture>
                  <source media="(max-width: 640px)" srcset="figures/\(name)-narrow.svg">
                  <img alt="\(MarkupText.escaped("\(figure.title). \(text)"))" src="figures/\(name).svg">
                </picture>

                [data, Vega-Lite](figures/\(name).vl.json)
                """
        }
    }
}

extension Prose {
    fileprivate var markdown: String {
        spans.map { span in
            switch span {
            case .plain(let text): return MarkdownText.escaped(text)
            case .strong(let text), .verdict(let text, _): return "**\(MarkdownText.escaped(text))**"
            case .code(let text): return MarkdownText.code(text)
            case .link(let text, let target): return "[\(MarkdownText.escaped(text))](\(target))"
            case .mark(let kind): return "**\(kind.rawValue.uppercased())**"
            }
        }.joined()
    }
}

/// Text made fit for Markdown.
enum MarkdownText {
    static func escaped(_ text: String) -> String {
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\n", "\r", "\t": result += " "
            case "\\", "`", "*", "_", "[", "]", "<", ">", "|", "~": result += "\\\(scalar)"
            case "&": result += "&amp;"
            case "\u{0}"..<"\u{20}", "\u{7F}"..<"\u{A0}": continue
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }

    /// Between as many back-ticks as it takes.
    static func code(_ text: String) -> String {
        let plain = String(String.UnicodeScalarView(text.unicodeScalars.filter { $0.value >= 32 && $0.value != 127 }))
            .split(separator: "|", omittingEmptySubsequences: false).joined(separator: "\\|")
        var fence = "`"
        while plain.contains(fence) { fence += "`" }
        return fence.count > 1 ? "\(fence) \(plain) \(fence)" : "\(fence)\(plain)\(fence)"
    }
}
