// Tandem — Apache-2.0

extension Document {
    /// The report as one HTML file that needs nothing else. Links beside figures lead to files in `figures/`, which it
    /// does without.
    public func html() -> String {
        let name = MarkupText.escaped(title)
        return """
            <!doctype html><html lang="en"><head><meta charset="utf-8"><title>\(name)</title>\
            <meta name="viewport" content="width=device-width, initial-scale=1">\
            <meta name="color-scheme" content="light dark"><meta name="generator" content="tandem study">\
            <style>\(Palette.properties)\(Palette.rules)\(DocumentStyle.rules)</style></head><body><main>\
            <header><h1>\(name)</h1><p>\(lead.html)</p></header>\(contents)
            \(blocks.map(\.html).joined(separator: "\n"))
            </main></body></html>

            """
    }

    /// Links to the headings of the second level.
    private var contents: String {
        let items = blocks.compactMap { block -> String? in
            guard case .heading(2, let text, let anchor) = block, !anchor.isEmpty else { return nil }
            return "<a href=\"#\(MarkupText.escaped(anchor))\">\(MarkupText.escaped(text))</a>"
        }
        return items.count < 2 ? "" : "<nav aria-label=\"Contents\">\(items.joined())</nav>"
    }
}

extension Document.Block {
    fileprivate var html: String {
        switch self {
        case .heading(let level, let text, let anchor):
            let level = min(max(level, 2), 4)
            let id = anchor.isEmpty ? "" : " id=\"\(MarkupText.escaped(anchor))\""
            return "<h\(level)\(id)>\(MarkupText.escaped(text))</h\(level)>"
        case .paragraph(let prose): return "<p>\(prose.html)</p>"
        case .list(let items): return "<ul>\(items.map { "<li>\($0.html)</li>" }.joined())</ul>"
        case .note(let prose): return "<p class=\"note\">\(prose.html)</p>"
        case .details(let summary, let blocks):
            return """
                <details><summary>\(MarkupText.escaped(summary))</summary>\(blocks.map(\.html).joined(separator: "\n"))\
                </details>
                """
        case .table(let table): return table.html
        case .figure(let figure):
            let drawings = Figure.Layout.allCases.map { layout in
                "<div class=\"\(layout.rawValue)\">\(figure.svg(layout, isAlone: false))</div>"
            }
            let files = "figures/\(MarkupText.escaped(figure.identifier))"
            return """
                <figure id="\(MarkupText.escaped(figure.identifier))">\(drawings.joined())\
                <figcaption><a href="\(files).svg">SVG</a> <a href="\(files).vl.json">data, Vega-Lite</a></figcaption>\
                </figure>
                """
        }
    }
}

extension Document.Table {
    fileprivate var html: String {
        func row(_ cells: [String], _ tag: String) -> String {
            let cells = zip(cells, columns).map { cell, column -> String in
                let style = column.isNumeric ? " class=\"n\"" : column.isName ? " class=\"s\"" : ""
                return "<\(tag)\(tag == "th" ? " scope=\"col\"" : "")\(style)>\(cell)</\(tag)>"
            }
            return "<tr>\(cells.joined())</tr>"
        }
        return """
            <div class="table" tabindex="0"><table><thead>\(row(columns.map { MarkupText.escaped($0.title) }, "th"))\
            </thead><tbody>\(rows.map { row($0.map(\.html), "td") }.joined(separator: "\n"))</tbody></table></div>
            """
    }
}

extension Prose {
    fileprivate var html: String {
        spans.map { span in
            switch span {
            case .plain(let text): MarkupText.escaped(text)
            case .strong(let text): "<strong>\(MarkupText.escaped(text))</strong>"
            case .code(let text): "<code>\(MarkupText.escaped(text))</code>"
            case .link(let text, let target):
                "<a href=\"\(MarkupText.escaped(target))\">\(MarkupText.escaped(text))</a>"
            case .verdict(let text, let tone):
                "<span class=\"verdict \(tone.rawValue)\">\(MarkupText.escaped(text))</span>"
            case .mark(let kind): "<span class=\"mark f-\(kind.rawValue)\">\(kind.rawValue.uppercased())</span>"
            }
        }.joined()
    }
}

/// What a page looks like beside its figures.
private enum DocumentStyle {
    static let rules = """
        *{box-sizing:border-box}body{margin:0;background:var(--p-ground);color:var(--f-text);\
        font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}\
        :root{--p-ground:#f6f7f9;--p-accent:#2f6fde;--p-bad:#c22f2f;--p-open:#9a6200;--p-good:#1a7f42}\
        @media (prefers-color-scheme:dark){:root{--p-ground:#12161b;--p-accent:#6ea3ff;--p-bad:#ff7b7b;\
        --p-open:#e0a43a;--p-good:#4cc38a}}\
        main{max-width:940px;margin:0 auto;padding:28px 20px 60px}h1{font-size:30px;line-height:1.2;margin:0 0 8px}\
        h2{font-size:22px;line-height:1.3;margin:52px 0 10px;padding-top:18px;border-top:1px solid var(--f-grid)}\
        h3{font-size:17px;margin:30px 0 8px}h4{font-size:15px;margin:22px 0 6px}p{margin:0 0 12px;max-width:74ch}\
        header p{color:var(--f-faint)}a{color:var(--p-accent)}ul{margin:0 0 14px;padding-left:22px}li{margin:3px 0;\
        max-width:74ch}code{font:13px ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace;\
        background:var(--f-soft);border-radius:4px;padding:1px 4px;overflow-wrap:anywhere}\
        nav{display:flex;flex-wrap:wrap;gap:6px 8px;margin:18px 0 0}nav a{background:var(--f-back);\
        border:1px solid var(--f-grid);border-radius:999px;padding:3px 12px;font-size:14px;text-decoration:none}\
        figure{margin:18px 0;background:var(--f-back);border:1px solid var(--f-grid);border-radius:10px;\
        padding:6px 6px 10px;overflow:hidden}figure svg{display:block;width:100%;height:auto}\
        figcaption{font-size:13px;padding:0 14px;text-align:right}figcaption a{margin-left:12px}\
        .narrow{display:none;max-width:480px;margin:0 auto}@media (max-width:640px){.narrow{display:block}\
        .wide{display:none}}\
        .table{overflow-x:auto;margin:14px 0;border:1px solid var(--f-grid);border-radius:10px;\
        background:var(--f-back)}table{border-collapse:collapse;width:100%;font-size:14px}\
        th,td{text-align:left;padding:7px 10px;vertical-align:top;border-bottom:1px solid var(--f-grid)}\
        tr:last-child td{border-bottom:0}th{font-weight:600;color:var(--f-faint);font-size:13px;vertical-align:bottom}\
        td.n{white-space:nowrap}.n{text-align:right;font-variant-numeric:tabular-nums}.s{white-space:nowrap}td:not(.n,.s){min-width:90px}\
        .note{border-left:3px solid var(--p-open);background:var(--f-back);padding:10px 14px;border-radius:0 8px 8px 0;\
        max-width:none}details{margin:14px 0}summary{cursor:pointer;color:var(--p-accent);font-size:15px}\
        .verdict{font-weight:650;white-space:nowrap}.good{color:var(--p-good)}.bad{color:var(--p-bad)}\
        .open{color:var(--p-open)}.mark{font-size:11px;font-weight:700;letter-spacing:.5px;color:var(--c);\
        border:1.2px solid var(--c);border-radius:4px;padding:1px 6px;white-space:nowrap}\
        @media (max-width:640px){body{font-size:15px}main{padding:18px 12px 40px}h1{font-size:24px}\
        h2{font-size:20px;margin-top:38px}th,td{padding:6px 9px}.s{white-space:normal;min-width:105px}figure{padding:2px 0 8px}}\
        @media print{nav{display:none}figure,tr{break-inside:avoid}}
        """
}
