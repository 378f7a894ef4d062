// Tandem — Apache-2.0

#if COVERAGE_GUIDED
    import Fuzzing
    import Glibc

    /// What libFuzzer drives, which has a `main` of its own; the environment variable `FUZZ_TARGET` names the target.
    private enum CoverageGuided {
        static let target: FuzzTarget? = {
            guard let name = getenv("FUZZ_TARGET"), let directory = Files.makeDirectory() else { return nil }
            return FuzzTarget.named(String(cString: name), directory: directory)
        }()
    }

    /// Reads one input; a fault traps, which libFuzzer reports with the input.
    @_cdecl("LLVMFuzzerTestOneInput")
    public func readOneInput(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
        guard let target = CoverageGuided.target else {
            fatalError("FUZZ_TARGET must be one of \(FuzzTarget.names.joined(separator: ", "))")
        }
        if case .fault(let text) = target.execute(Array(UnsafeBufferPointer(start: bytes, count: count))) {
            fatalError(text)
        }
        return 0
    }
#endif
