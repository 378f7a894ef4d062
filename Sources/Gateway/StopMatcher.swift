// Tandem — Apache-2.0

/// Finds stop strings in text that arrives in pieces, and holds back what might be the beginning of one, so that no
/// part of a stop string is ever sent.
///
/// Each stop string is matched by the automaton of Knuth, Morris and Pratt: constant time a byte, whatever the strings.
struct StopMatcher: Sendable {
    private let stops: [Pattern]
    private let includesStop: Bool
    /// For each stop string, how much of its beginning the text ends with.
    private var states: [Int]
    /// Text that was not sent yet.
    private var held: [UInt8] = []

    /// - Parameters:
    ///   - stops: non-empty strings.
    ///   - includesStop: whether the matched string stays in the text.
    init(stops: [String], includesStop: Bool) {
        self.stops = stops.map { Pattern(Array($0.utf8)) }
        self.includesStop = includesStop
        states = Array(repeating: 0, count: stops.count)
    }

    /// Text that may be sent, and the stop string that ended it.
    struct Match: Equatable {
        var text: String
        /// Index of the stop string in the order given.
        var stop: Int?
    }

    /// Takes the next piece. The stop string that ends first wins, among those the longest; after a match the rest of
    /// the piece is dropped.
    ///
    /// - Parameter mayEnd: false if a stop string that ends in this piece does not count; one that only begins in it
    ///   does.
    mutating func append(_ piece: String, mayEnd: Bool = true) -> Match {
        guard !stops.isEmpty else { return Match(text: piece, stop: nil) }
        for byte in piece.utf8 {
            held.append(byte)
            var matched: Int?
            for index in stops.indices {
                states[index] = stops[index].advance(states[index], by: byte)
                guard states[index] == stops[index].bytes.count else { continue }
                if !mayEnd {
                    states[index] = stops[index].failure[states[index]]
                } else if matched.map({ stops[index].bytes.count > stops[$0].bytes.count }) ?? true {
                    matched = index
                }
            }
            if let matched {
                let end = includesStop ? held.count : held.count - stops[matched].bytes.count
                let text = String(decoding: held[..<end], as: UTF8.self)
                held = []
                return Match(text: text, stop: matched)
            }
        }
        // A stop string begins at a character boundary, and so does what might be its beginning: no character is cut.
        let sendable = held.count - (states.max() ?? 0)
        let text = String(decoding: held[..<sendable], as: UTF8.self)
        held.removeFirst(sendable)
        return Match(text: text, stop: nil)
    }

    /// What was held back, once no more text comes.
    mutating func finish() -> String {
        defer { held = [] }
        return String(decoding: held, as: UTF8.self)
    }

    private struct Pattern: Sendable {
        let bytes: [UInt8]
        /// `failure[n]`: length of the longest proper prefix of the first `n` bytes that is also their suffix.
        let failure: [Int]

        init(_ bytes: [UInt8]) {
            self.bytes = bytes
            var failure = [0, 0]
            var length = 0
            for index in 1..<max(bytes.count, 1) {
                while length > 0, bytes[index] != bytes[length] { length = failure[length] }
                if bytes[index] == bytes[length] { length += 1 }
                failure.append(length)
            }
            self.failure = failure
        }

        func advance(_ state: Int, by byte: UInt8) -> Int {
            var state = state
            while state > 0, state == bytes.count || bytes[state] != byte { state = failure[state] }
            return bytes[state] == byte ? state + 1 : 0
        }
    }
}
