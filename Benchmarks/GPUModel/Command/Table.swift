// Tandem — Apache-2.0

/// Markdown.
enum Table {
    static func text(_ header: [String], _ rows: [[String]]) -> String {
        let lines = [header, header.map { _ in "---" }] + rows
        return lines.map { "| " + $0.joined(separator: " | ") + " |\n" }.joined()
    }

    /// Paragraphs and lists in lines of at most 120 characters; tables as they are.
    static func wrapped(_ text: String) -> String {
        text.split(separator: "\n", omittingEmptySubsequences: false).map { line -> String in
            guard line.count > 120, !line.hasPrefix("|") else { return String(line) }
            let isList = line.hasPrefix("- ")
            let isNumbered = line.first?.isNumber == true && line.dropFirst().hasPrefix(". ")
            let indent = String(repeating: " ", count: isList ? 2 : isNumbered ? 3 : 0)
            var lines: [String] = []
            var current = ""
            for word in line.split(separator: " ") {
                if !current.isEmpty, current.count + 1 + word.count > 120 {
                    lines.append(current)
                    current = indent + word
                } else {
                    current += (current.isEmpty ? "" : " ") + word
                }
            }
            return (lines + [current]).joined(separator: "\n")
        }.joined(separator: "\n")
    }

    static func number(_ value: Double, _ digits: Int) -> String {
        var factor = 1.0
        for _ in 0..<digits { factor *= 10 }
        let scaled = Int((abs(value) * factor).rounded())
        let sign = value < 0 && scaled > 0 ? "-" : ""
        guard digits > 0 else { return "\(sign)\(scaled)" }
        let rest = String(scaled % Int(factor))
        return "\(sign)\(scaled / Int(factor))." + String(repeating: "0", count: digits - rest.count) + rest
    }

    static func percent(_ share: Double) -> String { number(share * 100, 0) + " %" }

    static func points(_ share: Double) -> String { number(share * 100, 1) }

    static func signed(_ share: Double) -> String {
        let points = number(share * 100, 0)
        return (points.hasPrefix("-") || points == "0" ? points : "+" + points) + " %"
    }
}
