// Tandem — Apache-2.0

internal import CTandemSystem

/// cuBLASLt, found by `dlopen`, in one context.
public final class MatrixLibrary: Sendable {
    public let context: CUDAContext
    public let path: String
    /// Such as 130100 for 13.1.0: saved algorithms are valid for the same version only.
    public let version: Int
    let functions: MatrixFunctions
    let handle: DriverHandle

    /// Finds the library: `TANDEM_CUBLASLT` names a file; else the loader's search, toolkits, and NVIDIA's wheels in
    /// Python environments. The context must be current. Takes seconds when the file is not in the page cache.
    ///
    /// - Throws: `missing` with where to get it; `outOfMemory`.
    public init(_ context: CUDAContext, environment: [String: String]) throws(CUDAError) {
        let library = try Self.open(environment: environment, driver: context.driver)
        functions = try MatrixFunctions(library)
        path = library.file(holding: "cublasLtMatmul")
        version = functions.version()
        self.context = context
        var handle: DriverHandle = 0
        let status = functions.create(&handle)
        guard status == 0 else { throw Self.error(functions, status, "cublasLtCreate") }
        self.handle = handle
    }

    deinit { context.release { functions.destroy(handle) } }

    static func open(environment: [String: String], driver: CUDADriver) throws(CUDAError) -> DynamicLibrary {
        // The double multiplies for itself, unless a real library is named.
        let candidates =
            driver.isDouble && (environment["TANDEM_CUBLASLT"] ?? "").isEmpty
            ? [driver.path]
            : LibrarySearch(environment: environment).matrixCandidates(driverMajor: driver.version.major)
        do throws(DynamicLibrary.OpeningFailure) {
            return try DynamicLibrary.openFirst(of: candidates)
        } catch {
            throw CUDAError(
                kind: .missing, call: "libcublasLt.so.\(driver.version.major)",
                detail: error.fileExists || candidates.count == 1
                    ? "\(error.path) cannot be opened: \(error.reason)" : "cuBLASLt is not here",
                remedy: "pip install 'nvidia-cublas<\(driver.version.major + 1)' or install the CUDA toolkit; "
                    + "TANDEM_CUBLASLT names the file; without it, --deterministic uses kernels of our own")
        }
    }

    func check(_ status: Status, _ call: @autoclosure () -> String, _ detail: @autoclosure () -> String = "")
        throws(CUDAError)
    {
        guard status != 0 else { return }
        throw Self.error(functions, status, call(), detail())
    }

    /// As ``check(_:_:_:)`` for work in a stream, whose own error counts more if the context is lost.
    func check(_ status: Status, in stream: CUDAStream, _ call: String, _ shape: MatrixShape) throws(CUDAError) {
        guard status != 0 else { return }
        let cause = context.driver.error(context.functions.streamQuery(stream.handle), call, shape.description)
        if cause.losesContext { throw cause }
        throw Self.error(functions, status, call, shape.description)
    }

    /// Numbers: `cublasStatus_t`.
    private static func error(
        _ functions: MatrixFunctions, _ status: Status, _ call: String, _ detail: String = ""
    ) -> CUDAError {
        let kind: CUDAError.Kind =
            switch status {
            case 3: .outOfMemory
            // 1: the library does not start, as on a GPU that it does not know. 13, 14: the launch failed; whether the
            // context is lost, only the driver knows.
            case 1, 8, 13, 14, 15: .unsupported
            default: .invalid
            }
        return CUDAError(
            kind: kind, call: call, code: status,
            name: functions.statusName(status).map { String(cString: $0) } ?? "", detail: detail,
            remedy: status == 1 ? "is the context current and the GPU supported by this cuBLASLt?" : "")
    }
}

/// cuBLASLt's functions. Signatures: cuBLAS library documentation, version 13.
struct MatrixFunctions: Sendable {
    typealias Out<Value> = UnsafeMutablePointer<Value>
    typealias Set = @convention(c) @Sendable (DriverHandle, Int32, UnsafeRawPointer, Int) -> Status
    typealias Destroy = @convention(c) @Sendable (DriverHandle) -> Status

    let version: @convention(c) @Sendable () -> Int
    let statusName: @convention(c) @Sendable (Status) -> UnsafePointer<CChar>?
    let create: @convention(c) @Sendable (Out<DriverHandle>) -> Status
    let destroy: Destroy
    let productCreate: @convention(c) @Sendable (Out<DriverHandle>, Int32, Int32) -> Status
    let productDestroy: Destroy
    let productSet: Set
    let layoutCreate: @convention(c) @Sendable (Out<DriverHandle>, Int32, UInt64, UInt64, Int64) -> Status
    let layoutDestroy: Destroy
    let preferenceCreate: @convention(c) @Sendable (Out<DriverHandle>) -> Status
    let preferenceDestroy: Destroy
    let preferenceSet: Set
    let heuristic:
        @convention(c) @Sendable (
            DriverHandle, DriverHandle, DriverHandle, DriverHandle, DriverHandle, DriverHandle, DriverHandle, Int32,
            Out<tandem_cublaslt_choice>, Out<Int32>
        ) -> Status
    let algorithmCheck:
        @convention(c) @Sendable (
            DriverHandle, DriverHandle, DriverHandle, DriverHandle, DriverHandle, DriverHandle,
            UnsafePointer<tandem_cublaslt_algorithm>, Out<tandem_cublaslt_choice>
        ) -> Status
    let multiply:
        @convention(c) @Sendable (
            DriverHandle, DriverHandle, UnsafeRawPointer, UInt64, DriverHandle, UInt64, DriverHandle, UnsafeRawPointer,
            UInt64, DriverHandle, UInt64, DriverHandle, UnsafePointer<tandem_cublaslt_algorithm>, UInt64, Int,
            DriverHandle
        ) -> Status

    init(_ library: DynamicLibrary) throws(CUDAError) {
        version = try library.function("cublasLtGetVersion")
        statusName = try library.function("cublasLtGetStatusName")
        create = try library.function("cublasLtCreate")
        destroy = try library.function("cublasLtDestroy")
        productCreate = try library.function("cublasLtMatmulDescCreate")
        productDestroy = try library.function("cublasLtMatmulDescDestroy")
        productSet = try library.function("cublasLtMatmulDescSetAttribute")
        layoutCreate = try library.function("cublasLtMatrixLayoutCreate")
        layoutDestroy = try library.function("cublasLtMatrixLayoutDestroy")
        preferenceCreate = try library.function("cublasLtMatmulPreferenceCreate")
        preferenceDestroy = try library.function("cublasLtMatmulPreferenceDestroy")
        preferenceSet = try library.function("cublasLtMatmulPreferenceSetAttribute")
        heuristic = try library.function("cublasLtMatmulAlgoGetHeuristic")
        algorithmCheck = try library.function("cublasLtMatmulAlgoCheck")
        multiply = try library.function("cublasLtMatmul")
    }
}
