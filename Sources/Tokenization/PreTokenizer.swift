// Tandem — Apache-2.0

/// Splits text into the words that byte-pair encoding may merge within.
///
/// The patterns are matched by hand: they are fixed, and a match never looks further than the end of its run.
struct PreTokenizer: Sendable {
    /// Which regular expression splits the text.
    enum Pattern: Sendable, Equatable {
        /// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
        case gpt2
        /// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits}| ?[^\s\p{L}\p{N}]+[\r\n]*|`
        /// `\s*[\r\n]+|\s+(?!\S)|\s+`
        case llama3(digits: Int)
    }

    /// Every character of `\p{N}` is a word of its own, split off before the pattern is applied to what lies between.
    var isolatesDigits = false
    var pattern: Pattern
    /// A word that is a token is that token, whatever the merges say.
    var ignoresMerges = false

    /// Calls `body` with the byte range of each word, in order; the ranges are not empty and cover the text.
    ///
    /// - Parameter text: valid UTF-8; ranges count from its start.
    func forEachWord(in text: ArraySlice<UInt8>, _ body: (Range<Int>) -> Void) {
        let scanner = WordScanner(text: text, classes: ScalarClass.classify(text))
        guard isolatesDigits else { return split(0..<text.count, scanner, body) }
        var start = 0
        var index = 0
        while index < text.count {
            guard scanner.classes[index] == .number else {
                index += 1
                continue
            }
            split(start..<index, scanner, body)
            let end = scanner.nextScalar(index)
            body(index..<end)
            start = end
            index = end
        }
        split(start..<text.count, scanner, body)
    }

    private func split(_ range: Range<Int>, _ scanner: WordScanner, _ body: (Range<Int>) -> Void) {
        var position = range.lowerBound
        while position < range.upperBound {
            let end =
                switch pattern {
                case .gpt2: scanner.gpt2Word(at: position, limit: range.upperBound)
                case .llama3(let digits):
                    scanner.llama3Word(at: position, limit: range.upperBound, digits: digits)
                }
            body(position..<end)
            position = end
        }
    }
}

/// Finds the end of the word that starts at a position, one method for each pattern.
private struct WordScanner {
    let text: ArraySlice<UInt8>
    /// Of the same length as `text`, indexed from 0.
    let classes: [ScalarClass]

    func byte(_ index: Int) -> UInt8 { text[text.startIndex + index] }

    /// The start of the character after the one that starts at `index`.
    func nextScalar(_ index: Int) -> Int {
        var next = index + 1
        while next < classes.count, byte(next) & 0xC0 == 0x80 { next += 1 }
        return next
    }

    func endOfRun(at start: Int, limit: Int) -> Int {
        let scalarClass = classes[start]
        var end = start + 1
        while end < limit, classes[end] == scalarClass { end += 1 }
        return end
    }

    func gpt2Word(at start: Int, limit: Int) -> Int {
        if let end = contraction(at: start, limit: limit, ignoringCase: false) { return end }
        if classes[start] != .whitespace { return endOfRun(at: start, limit: limit) }
        if byte(start) == UInt8(ascii: " "), start + 1 < limit, classes[start + 1] != .whitespace {
            return endOfRun(at: start + 1, limit: limit)
        }
        return whitespaceWord(at: start, limit: limit)
    }

    func llama3Word(at start: Int, limit: Int, digits: Int) -> Int {
        if let end = contraction(at: start, limit: limit, ignoringCase: true) { return end }
        let next = nextScalar(start)
        switch classes[start] {
        case .letter:
            return endOfRun(at: start, limit: limit)
        case .number:
            var end = next
            var count = 1
            while end < limit, count < digits, classes[end] == .number {
                end = nextScalar(end)
                count += 1
            }
            return end
        case .whitespace, .other:
            if !isNewline(start), next < limit, classes[next] == .letter {
                return endOfRun(at: next, limit: limit)
            }
        }
        var marks = start
        if byte(start) == UInt8(ascii: " "), next < limit { marks = next }
        if classes[marks] == .other {
            var end = endOfRun(at: marks, limit: limit)
            while end < limit, isNewline(end) { end += 1 }
            return end
        }
        var end = endOfRun(at: start, limit: limit)
        let runEnd = end
        while end > start, !isNewline(end - 1) { end -= 1 }
        return end > start ? end : whitespaceWord(at: start, runEnd: runEnd, limit: limit)
    }

    private func isNewline(_ index: Int) -> Bool {
        byte(index) == UInt8(ascii: "\n") || byte(index) == UInt8(ascii: "\r")
    }

    private func whitespaceWord(at start: Int, limit: Int) -> Int {
        whitespaceWord(at: start, runEnd: endOfRun(at: start, limit: limit), limit: limit)
    }

    /// `\s+(?!\S)|\s+`: the run without its last character, unless the text ends there or nothing would be left.
    private func whitespaceWord(at start: Int, runEnd: Int, limit: Int) -> Int {
        if runEnd == limit { return runEnd }
        var last = runEnd - 1
        while last > start, byte(last) & 0xC0 == 0x80 { last -= 1 }
        return last > start ? last : runEnd
    }

    /// `'s|'t|'re|'ve|'m|'ll|'d`. Ignoring case, U+017F (long s) is an s, as Unicode folds it.
    private func contraction(at start: Int, limit: Int, ignoringCase: Bool) -> Int? {
        guard byte(start) == UInt8(ascii: "'"), start + 1 < limit else { return nil }
        let fold: UInt8 = ignoringCase ? 0x20 : 0
        let first = byte(start + 1) | fold
        switch first {
        case UInt8(ascii: "s"), UInt8(ascii: "t"), UInt8(ascii: "m"), UInt8(ascii: "d"):
            return start + 2
        default:
            break
        }
        guard start + 2 < limit else { return nil }
        if ignoringCase, byte(start + 1) == 0xC5, byte(start + 2) == 0xBF { return start + 3 }
        switch (first, byte(start + 2) | fold) {
        case (UInt8(ascii: "r"), UInt8(ascii: "e")), (UInt8(ascii: "v"), UInt8(ascii: "e")),
            (UInt8(ascii: "l"), UInt8(ascii: "l")):
            return start + 3
        default:
            return nil
        }
    }
}
