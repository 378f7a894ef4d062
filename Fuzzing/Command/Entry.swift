// Tandem — Apache-2.0

#if !COVERAGE_GUIDED
    /// Where the program begins, unless libFuzzer brings its own beginning.
    @main
    private enum Entry {
        static func main() { Fuzz.main() }
    }
#endif
