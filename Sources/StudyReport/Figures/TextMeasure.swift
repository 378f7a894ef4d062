// Tandem — Apache-2.0

/// Widths of text without a browser: those of DejaVu Sans, which are wider than most system fonts'.
enum TextMeasure {
    /// Advances of the printable ASCII characters from the space on, in thousandths of the font's size.
    private static let advances: [Double] = [
        318, 401, 460, 838, 636, 950, 780, 275, 390, 390, 500, 838, 318, 361, 318, 337, 636, 636, 636, 636, 636, 636,
        636,
        636, 636, 636, 337, 337, 838, 838, 838, 531, 1000, 684, 686, 698, 770, 632, 575, 775, 752, 295, 295, 656, 557,
        863,
        748, 787, 603, 787, 695, 635, 611, 732, 684, 989, 685, 611, 685, 390, 337, 390, 838, 500, 500, 613, 635, 550,
        635,
        615, 352, 635, 634, 278, 278, 579, 278, 974, 634, 612, 635, 635, 411, 521, 392, 634, 592, 818, 592, 592, 525,
        636,
        337, 636, 838,
    ]

    /// Pixels.
    static func width(_ text: String, size: Double, isBold: Bool = false) -> Double {
        var sum = 0.0
        for scalar in text.unicodeScalars {
            let index = Int(scalar.value) - 32
            if advances.indices.contains(index) {
                sum += advances[index]
            } else if scalar == "\u{A0}" {
                sum += 318
            } else {
                // Symbols and letters of other alphabets; East Asian ones fill the square.
                sum += scalar.value >= 0x1100 ? (scalar.value < 0x2E80 ? 838 : 1000) : 700
            }
        }
        return sum / 1000 * size * (isBold ? 1.1 : 1)
    }

    /// Lines no wider than `width`, broken between words, and within those that are wider themselves.
    static func wrapped(_ text: String, size: Double, width: Double, isBold: Bool = false) -> [String] {
        var lines: [String] = []
        var line = ""
        for word in text.split(separator: " ").flatMap({ pieces(String($0), size: size, width: width, isBold: isBold) })
        {
            let longer = line.isEmpty ? word : line + " " + word
            if line.isEmpty || self.width(longer, size: size, isBold: isBold) <= width {
                line = longer
            } else {
                lines.append(line)
                line = word
            }
        }
        if !line.isEmpty { lines.append(line) }
        return lines
    }

    /// The text, or its beginning and an ellipsis.
    static func shortened(_ text: String, size: Double, width: Double) -> String {
        guard self.width(text, size: size) > width else { return text }
        var kept = text
        while !kept.isEmpty, self.width(kept + "…", size: size) > width { kept.removeLast() }
        return kept + "…"
    }

    private static func pieces(_ word: String, size: Double, width: Double, isBold: Bool) -> [String] {
        guard self.width(word, size: size, isBold: isBold) > width else { return [word] }
        var pieces: [String] = []
        var piece = ""
        for character in word {
            if !piece.isEmpty, self.width(piece + String(character), size: size, isBold: isBold) > width {
                pieces.append(piece)
                piece = ""
            }
            piece.append(character)
        }
        return pieces + [piece]
    }
}

/// Text made fit for XML and HTML.
enum MarkupText {
    /// With the five characters replaced that have a meaning; characters that XML forbids are left out.
    static func escaped(_ text: String) -> String {
        var result = ""
        result.reserveCapacity(text.utf8.count)
        for scalar in text.unicodeScalars {
            switch scalar {
            case "&": result += "&amp;"
            case "<": result += "&lt;"
            case ">": result += "&gt;"
            case "\"": result += "&quot;"
            case "'": result += "&#39;"
            case "\t", "\n", "\r": result.unicodeScalars.append(" ")
            case "\u{0}"..<"\u{20}", "\u{7F}"..<"\u{A0}", "\u{FFFE}", "\u{FFFF}": continue
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }
}
