// Tandem — Apache-2.0

/// A binary heap of words, smallest first.
struct MinHeap {
    private var words: [UInt64]

    init(_ words: [UInt64]) {
        self.words = words
        for index in stride(from: words.count / 2 - 1, through: 0, by: -1) { siftDown(index) }
    }

    mutating func push(_ word: UInt64) {
        words.append(word)
        var index = words.count - 1
        while index > 0 {
            let parent = (index - 1) / 2
            if words[parent] <= word { break }
            words[index] = words[parent]
            index = parent
        }
        words[index] = word
    }

    mutating func popSmallest() -> UInt64? {
        guard let smallest = words.first, let last = words.popLast() else { return nil }
        if !words.isEmpty {
            words[0] = last
            siftDown(0)
        }
        return smallest
    }

    private mutating func siftDown(_ start: Int) {
        let word = words[start]
        var index = start
        while true {
            var child = index * 2 + 1
            if child >= words.count { break }
            if child + 1 < words.count, words[child + 1] < words[child] { child += 1 }
            if word <= words[child] { break }
            words[index] = words[child]
            index = child
        }
        words[index] = word
    }
}
