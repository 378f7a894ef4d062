// Tandem — Apache-2.0

/// Writes elements of SVG by appending to text.
struct SVGWriter {
    private(set) var text = ""

    /// Opens an element; ``close(_:)`` ends it.
    mutating func open(_ name: String, _ attributes: [(String, String)] = []) {
        text += "<\(name)" + SVGWriter.written(attributes) + ">"
    }

    mutating func close(_ name: String) { text += "</\(name)>" }

    /// An element without content but what is shown when the pointer rests on it.
    mutating func element(_ name: String, _ attributes: [(String, String)], tooltip: String = "") {
        text += "<\(name)" + SVGWriter.written(attributes)
        text += tooltip.isEmpty ? "/>" : "><title>\(MarkupText.escaped(tooltip))</title></\(name)>"
    }

    mutating func line(_ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double, _ style: String) {
        element("line", [("x1", x1.px), ("y1", y1.px), ("x2", x2.px), ("y2", y2.px), ("class", style)])
    }

    mutating func rectangle(
        _ x: Double, _ y: Double, _ width: Double, _ height: Double, _ style: String, radius: Double = 0,
        opacity: Double? = nil, tooltip: String = ""
    ) {
        var attributes = [
            ("x", x.px), ("y", y.px), ("width", max(0, width).px), ("height", max(0, height).px), ("class", style),
        ]
        if radius > 0 { attributes.append(("rx", radius.px)) }
        if let opacity { attributes.append(("fill-opacity", DecimalText.fixed(opacity, 2))) }
        element("rect", attributes, tooltip: tooltip)
    }

    enum Anchor: String {
        case start
        case middle
        case end
    }

    mutating func label(_ x: Double, _ y: Double, _ content: String, _ style: String = "", _ anchor: Anchor = .start) {
        var attributes = [("x", x.px), ("y", y.px)]
        if !style.isEmpty { attributes.append(("class", style)) }
        if anchor != .start { attributes.append(("text-anchor", anchor.rawValue)) }
        text += "<text" + SVGWriter.written(attributes) + ">" + MarkupText.escaped(content) + "</text>"
    }

    mutating func path(_ data: String, _ style: String) { element("path", [("d", data), ("class", style)]) }

    mutating func raw(_ markup: String) { text += markup }

    private static func written(_ attributes: [(String, String)]) -> String {
        attributes.map { " \($0)=\"\(MarkupText.escaped($1))\"" }.joined()
    }
}

extension Double {
    /// A coordinate with a tenth of a pixel.
    var px: String {
        guard isFinite, abs(self) < 1e9 else { return "0" }
        let tenths = Int((self * 10).rounded())
        let (whole, rest) = abs(tenths).quotientAndRemainder(dividingBy: 10)
        return (tenths < 0 ? "-" : "") + "\(whole)" + (rest == 0 ? "" : ".\(rest)")
    }
}
