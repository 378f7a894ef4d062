// Tandem — Apache-2.0

import TestSupport

/// Makes inputs out of valid files.
struct Mutator: Sendable {
    let seeds: [[UInt8]]
    let dialect: FuzzTarget.Dialect

    /// Longer inputs are cut: more of the same finds nothing and takes time.
    private static let maximumBytes = 1 << 16

    func input(_ generator: inout SeededGenerator) -> [UInt8] {
        var input = seeds.randomElement(using: &generator) ?? []
        if dialect == .template, generator.next() % 3 == 0 {
            var grammar = TemplateGrammar()
            input = Array((TemplateGrammar.names(&generator) + grammar.template(&generator)).utf8)
            if generator.next() % 512 == 0 { input = Array(grammar.greedyTemplate(&generator).utf8) }
            if generator.next() % 4 != 0 { return input }
        }
        // Mostly one or two changes, so that the reader gets far; now and then many.
        let rounds = [1, 1, 1, 2, 2, 3, 4, 12].randomElement(using: &generator) ?? 1
        for _ in 0..<rounds { mutate(&input, &generator) }
        if input.count > Mutator.maximumBytes { input.removeSubrange(Mutator.maximumBytes...) }
        return input
    }

    private func mutate(_ input: inout [UInt8], _ generator: inout SeededGenerator) {
        let other = seeds.randomElement(using: &generator) ?? []
        switch dialect {
        case .binary:
            BinaryMutation.mutate(&input, other, &generator)
        case .json:
            if generator.next() % 8 == 0 {
                BinaryMutation.mutate(&input, other, &generator)
            } else {
                JSONMutation.mutate(&input, other, &generator)
            }
        case .template:
            if generator.next() % 8 == 0 {
                BinaryMutation.mutate(&input, other, &generator)
            } else {
                TemplateMutation.mutate(&input, other, &generator)
            }
        case .safetensors:
            let length = Mutator.headerLength(input)
            guard let length, generator.next() % 4 != 0 else {
                BinaryMutation.mutate(&input, other, &generator)
                return
            }
            var header = Array(input[8..<8 + length])
            let otherHeader = Mutator.headerLength(other).map { Array(other[8..<8 + $0]) } ?? []
            JSONMutation.mutate(&header, otherHeader, &generator)
            // Usually with the length that fits, so that the header is read.
            let stated = generator.next() % 16 == 0 ? length : header.count
            input = withUnsafeBytes(of: UInt64(stated).littleEndian) { Array($0) } + header + input[(8 + length)...]
        }
    }

    private static func headerLength(_ file: [UInt8]) -> Int? {
        guard file.count >= 8 else { return nil }
        let length = file[..<8].reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        return length <= UInt64(file.count - 8) ? Int(length) : nil
    }
}

extension RangeReplaceableCollection where Self: RandomAccessCollection, Index == Int {
    /// A range of this collection, mostly short.
    func randomRange(_ generator: inout SeededGenerator, longest: Int = 64) -> Range<Int> {
        guard !isEmpty else { return 0..<0 }
        let start = Int.random(in: 0..<count, using: &generator)
        let limit = generator.next() % 16 == 0 ? count : longest
        return start..<start + Int.random(in: 1...Swift.max(1, Swift.min(limit, count - start)), using: &generator)
    }
}
