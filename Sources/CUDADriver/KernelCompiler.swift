// Tandem — Apache-2.0

internal import Synchronization

/// CUDA C++ to be compiled together; needs no header but those it brings.
public struct KernelSource: Sendable, Equatable {
    public struct Header: Sendable, Equatable {
        /// As `#include "name"` says it.
        public var name: String
        public var text: String

        public init(name: String, text: String) {
            self.name = name
            self.text = text
        }
    }

    /// Names the code in messages and files; no slash.
    public var name: String
    public var text: String
    public var headers: [Header]
    /// Options of NVRTC besides the architecture.
    public var options: [String]

    public init(
        name: String, text: String, headers: [Header] = [], options: [String] = KernelSource.defaultOptions
    ) {
        self.name = name
        self.text = text
        self.headers = headers
        self.options = options
    }

    /// `--ptxas-options=-v` puts registers and spills into the log.
    public static let defaultOptions = ["--std=c++17", "--use_fast_math", "-lineinfo", "--ptxas-options=-v"]

    /// A hash of all that decides the code, but for architecture and compiler: FNV-1a, 128 bits, over name, text,
    /// headers' names and texts, and options, each followed by a zero byte. 32 hexadecimal digits.
    public var key: String {
        var hash = FNVHash()
        for part in [name, text] + headers.flatMap({ [$0.name, $0.text] }) + options {
            hash.add(part.utf8)
            hash.add([0])
        }
        return hash.text
    }
}

/// NVRTC, the run-time compiler, found by `dlopen`.
public final class KernelCompiler: Sendable {
    public let path: String
    public let version: CUDAVersion
    /// What tells its code from that of others, in file names: such as `nvrtc13.0`.
    public let identity: String
    /// Compute capabilities it compiles for, as 80, 90 …
    public let architectures: [Int]
    private let functions: CompilerFunctions

    /// What comes out of a compilation.
    public struct Output: Sendable {
        public var image: [UInt8]
        /// Warnings, and registers and spills of every kernel.
        public var log: String
    }

    /// Finds the compiler: `TANDEM_NVRTC` names a file; else the loader's search, toolkits, and NVIDIA's wheels in
    /// Python environments.
    ///
    /// - Parameter driver: code of a newer major version of CUDA than its cannot be loaded; null to take any.
    public convenience init(environment: [String: String], driver: CUDADriver? = nil) throws(CUDAError) {
        // The double compiles for itself, unless a real compiler is named.
        if let driver, driver.isDouble, (environment["TANDEM_NVRTC"] ?? "").isEmpty {
            try self.init(candidates: [driver.path], search: LibrarySearch(environment: environment), driver: driver)
        } else {
            let search = LibrarySearch(environment: environment)
            try self.init(
                candidates: search.compilerCandidates(driverMajor: driver?.version.major), search: search,
                driver: driver)
        }
    }

    private init(candidates: [String], search: LibrarySearch, driver: CUDADriver?) throws(CUDAError) {
        let library: DynamicLibrary
        do throws(DynamicLibrary.OpeningFailure) {
            library = try DynamicLibrary.openFirst(of: candidates)
        } catch {
            let needed = driver.map { "NVRTC \($0.version.major)" } ?? "NVRTC"
            throw CUDAError(
                kind: .missing, call: "libnvrtc.so",
                detail: error.fileExists || candidates.count == 1
                    ? "\(error.path) cannot be opened: \(error.reason)" : "the run-time compiler is not here",
                remedy: "pip install 'nvidia-cuda-nvrtc\(driver.map { "<\($0.version.major + 1)" } ?? "")' or install "
                    + "the CUDA toolkit (\(needed)); TANDEM_NVRTC names the file, TANDEM_CUDA_CUBINS a folder of "
                    + "compiled kernels")
        }
        functions = try CompilerFunctions(library)
        path = library.file(holding: "nvrtcVersion")
        // It opens its builtins by bare name, which fails for a folder that the loader does not search.
        for builtins in search.builtins(besideCompiler: path) {
            _ = try? DynamicLibrary.open(builtins, global: true)
        }
        var (major, minor): (Int32, Int32) = (0, 0)
        guard functions.version(&major, &minor) == 0 else {
            throw CUDAError(kind: .missing, call: "nvrtcVersion", detail: "\(path) does not tell its version")
        }
        version = CUDAVersion(major: Int(major), minor: Int(minor))
        let isDouble = library.symbol("tandem_cuda_double_version", as: CUDADriver.DoubleVersion.self) != nil
        identity = "\(isDouble ? "double" : "nvrtc")\(version)"
        var count: Int32 = 0
        guard functions.architectureCount(&count) == 0, (0...4096).contains(count) else {
            architectures = []
            return
        }
        var list = [Int32](repeating: 0, count: max(1, Int(count)))
        architectures = functions.architectures(&list) == 0 ? list.prefix(Int(count)).map(Int.init) : []
    }

    /// Compiles to a cubin.
    ///
    /// - Parameter architecture: such as `sm_90a`.
    /// - Throws: `unsupported` with the compiler's log if the text is not accepted.
    public func compile(_ source: KernelSource, architecture: String) throws(CUDAError) -> Output {
        // One at a time: large programs take hundreds of megabytes each.
        let result = Self.turn.withLock { _ in
            Result { () throws(CUDAError) in try program(source, architecture: architecture) }
        }
        return try result.get()
    }

    private static let turn = Mutex(())

    private func program(_ source: KernelSource, architecture: String) throws(CUDAError) -> Output {
        var program: DriverHandle = 0
        let created = CStrings.withPointers(source.headers.map(\.name)) { names, count in
            CStrings.withPointers(source.headers.map(\.text)) { texts, _ in
                functions.create(&program, source.text, source.name, count, texts, names)
            }
        }
        try check(created, "nvrtcCreateProgram", "")
        defer { _ = functions.destroy(&program) }
        let status = CStrings.withPointers(["--gpu-architecture=\(architecture)"] + source.options) { options, count in
            functions.compile(program, count, options)
        }
        let log = text(program, functions.logSize, functions.log)
        guard status == 0 else {
            throw error(status, "nvrtcCompileProgram", "\(source.name), \(architecture):\n\(log)")
        }
        let image = bytes(program, functions.cubinSize, functions.cubin)
        guard !image.isEmpty else {
            throw error(
                0, "nvrtcGetCUBIN", "no code came out: \(architecture) must be a real architecture (sm_…)")
        }
        return Output(image: image, log: log)
    }

    private func bytes(
        _ program: DriverHandle, _ size: CompilerFunctions.Size, _ get: CompilerFunctions.Get
    ) -> [UInt8] {
        var count = 0
        guard size(program, &count) == 0, count > 0 else { return [] }
        var bytes = [UInt8](repeating: 0, count: count)
        return get(program, &bytes) == 0 ? bytes : []
    }

    private func text(
        _ program: DriverHandle, _ size: CompilerFunctions.Size, _ get: CompilerFunctions.Get
    ) -> String {
        String(decoding: bytes(program, size, get).prefix { $0 != 0 }, as: UTF8.self)
    }

    private func check(_ status: Status, _ call: String, _ detail: String) throws(CUDAError) {
        guard status != 0 else { return }
        throw error(status, call, detail)
    }

    private func error(_ status: Status, _ call: String, _ detail: String) -> CUDAError {
        let remedy =
            switch status {
            // NVRTC_ERROR_BUILTIN_OPERATION_FAILURE
            case 7: "put libnvrtc-builtins of the same version beside \(path)"
            // NVRTC_ERROR_INVALID_OPTION: most often an architecture that is too new for this compiler.
            case 5: "\(path) is NVRTC \(version): install a newer one"
            default: ""
            }
        return CUDAError(
            kind: status == 1 ? .outOfMemory : .unsupported, call: call, code: status,
            name: functions.errorString(status).map { String(cString: $0) } ?? "", detail: detail, remedy: remedy)
    }
}

/// NVRTC's functions. Signatures: NVRTC documentation, version 13.0.
private struct CompilerFunctions: Sendable {
    typealias Size = @convention(c) @Sendable (DriverHandle, UnsafeMutablePointer<Int>) -> Status
    typealias Get = @convention(c) @Sendable (DriverHandle, UnsafeMutablePointer<UInt8>) -> Status
    typealias Strings = UnsafePointer<UnsafePointer<CChar>?>?

    let version: @convention(c) @Sendable (UnsafeMutablePointer<Int32>, UnsafeMutablePointer<Int32>) -> Status
    let errorString: @convention(c) @Sendable (Status) -> UnsafePointer<CChar>?
    let architectureCount: @convention(c) @Sendable (UnsafeMutablePointer<Int32>) -> Status
    let architectures: @convention(c) @Sendable (UnsafeMutablePointer<Int32>) -> Status
    let create:
        @convention(c) @Sendable (
            UnsafeMutablePointer<DriverHandle>, UnsafePointer<CChar>, UnsafePointer<CChar>, Int32, Strings, Strings
        ) -> Status
    let destroy: @convention(c) @Sendable (UnsafeMutablePointer<DriverHandle>) -> Status
    let compile: @convention(c) @Sendable (DriverHandle, Int32, Strings) -> Status
    let logSize: Size
    let log: Get
    let cubinSize: Size
    let cubin: Get

    init(_ library: DynamicLibrary) throws(CUDAError) {
        version = try library.function("nvrtcVersion")
        errorString = try library.function("nvrtcGetErrorString")
        architectureCount = try library.function("nvrtcGetNumSupportedArchs")
        architectures = try library.function("nvrtcGetSupportedArchs")
        create = try library.function("nvrtcCreateProgram")
        destroy = try library.function("nvrtcDestroyProgram")
        compile = try library.function("nvrtcCompileProgram")
        logSize = try library.function("nvrtcGetProgramLogSize")
        log = try library.function("nvrtcGetProgramLog")
        cubinSize = try library.function("nvrtcGetCUBINSize")
        cubin = try library.function("nvrtcGetCUBIN")
    }
}
