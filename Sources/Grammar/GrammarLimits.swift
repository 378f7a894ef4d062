// Tandem — Apache-2.0

/// What a grammar may cost at most. Work is counted, not timed, so that a source is refused everywhere or nowhere.
enum GrammarLimits {
    /// Bytes of a source, with prefix and suffix.
    static let sourceBytes = 256 << 10
    /// How deep groups, rules of a schema and values may nest in a source.
    static let nesting = 64
    /// Rules of a GBNF grammar.
    static let rules = 4096
    /// The largest count in `{m,n}`, `minLength`, `maxItems` and the like.
    static let repetitions = 20_000
    /// Steps of the nondeterministic automaton, all rules together.
    static let steps = 200_000
    /// Positions of the deterministic rules, all together.
    static let positions = 40_000
    /// Units of work (about 10 ns each) in making rules deterministic.
    static let work = 2_500_000
    /// Schemas looked at, those behind a `$ref` each time.
    static let schemas = 4096
    /// Alternatives of one schema after `anyOf`, `oneOf` and `allOf` were merged.
    static let alternatives = 256
    /// States of an automaton over characters (a pattern, a format, a length, or several of them together).
    static let characterStates = 20_000
    /// States of all such automata of a schema together, those that were put together from others included.
    static let allCharacterStates = 400_000
    /// Names in a `required`, values in an `enum`.
    static let listedValues = 10_000
    /// Rules that wait for one another while a text is matched.
    static let depth = 256
    /// Readings of a text that are followed at the same time.
    static let readings = 128
    /// Units of work (about 5 ns each) in finding which tokens may follow one text.
    static let maskWork = 50_000_000
    /// Stacks of waiting rules that are joined for one byte.
    static let unions = 512
}
