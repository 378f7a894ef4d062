// Tandem — Apache-2.0

/// What went wrong with the GPU or with a library around it: who says so, and what to do about it.
public struct CUDAError: Error, Sendable, Equatable, CustomStringConvertible {
    public enum Kind: Sendable {
        /// The context is lost (an illegal access, a failed launch, an uncorrectable memory error …): every later call
        /// fails, and under MPS every client of the server is lost with it. The process must end.
        case fatal
        /// Memory did not suffice; nothing changed.
        case outOfMemory
        /// A passing state: the same call may succeed later.
        case retry
        /// This device or driver cannot do it.
        case unsupported
        /// MPS refuses or ended this client (805 to 810). After 806 and 810 the context is lost, see ``losesContext``;
        /// the others are said by `cuInit` or when a context is made.
        case mps
        /// A library, the driver or a device is not there.
        case missing
        /// A call was wrong: an error of this program.
        case invalid
    }

    public var kind: Kind
    /// The call that failed, such as `cuLaunchKernel`, or what was attempted.
    public var call: String
    /// Number in the numbering of the library that was called; 0 if no call failed.
    public var code: Int32
    /// Name of the number, such as `CUDA_ERROR_ILLEGAL_ADDRESS`; may be empty.
    public var name: String
    /// What failed, in a few words, beyond `call` and `name`; may be empty.
    public var detail: String
    /// What to do about it; may be empty.
    public var remedy: String

    public init(kind: Kind, call: String, code: Int32 = 0, name: String = "", detail: String = "", remedy: String = "")
    {
        self.kind = kind
        self.call = call
        self.code = code
        self.name = name
        self.detail = detail
        self.remedy = remedy
    }

    /// Whether nothing can be done any more in this process.
    public var losesContext: Bool { kind == .fatal || (kind == .mps && (code == 806 || code == 810)) }

    public var description: String {
        var text = call
        if code != 0 { text += ": " + (name.isEmpty ? "error" : name) + " (\(code))" }
        if !detail.isEmpty { text += ": " + detail }
        if !remedy.isEmpty { text += "; " + remedy }
        return text
    }
}

extension CUDAError {
    /// An error of the driver API. Numbers: `CUresult`, CUDA driver API reference.
    ///
    /// - Parameters:
    ///   - name: as `cuGetErrorName` gives it; taken from a table for the important ones if it is null.
    init(driver code: Int32, call: String, name: String? = nil, detail: String = "") {
        let known = Self.driverErrors[code]
        self.init(
            kind: known?.kind ?? .invalid, call: call, code: code, name: name ?? known?.name ?? "", detail: detail,
            remedy: known?.remedy ?? "")
    }

    private static let restart = "the context is lost; the engine must be started again"

    private static let driverErrors: [Int32: (kind: Kind, name: String, remedy: String)] = [
        1: (.invalid, "CUDA_ERROR_INVALID_VALUE", ""),
        2: (
            .outOfMemory, "CUDA_ERROR_OUT_OF_MEMORY",
            "lower --gpu-memory-fraction or --engines, or end other users of the GPU"
        ),
        3: (.invalid, "CUDA_ERROR_NOT_INITIALIZED", ""),
        4: (.fatal, "CUDA_ERROR_DEINITIALIZED", restart),
        34: (
            .missing, "CUDA_ERROR_STUB_LIBRARY",
            "a stub of the toolkit was found in place of the driver's libcuda.so.1; take it out of LD_LIBRARY_PATH"
        ),
        36: (.unsupported, "CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER", "install a newer driver"),
        46: (
            .retry, "CUDA_ERROR_DEVICE_UNAVAILABLE",
            "another process holds the GPU in exclusive mode: end it, or let all clients share one MPS daemon"
        ),
        100: (
            .missing, "CUDA_ERROR_NO_DEVICE",
            "the driver shows no GPU: look at nvidia-smi and CUDA_VISIBLE_DEVICES, start containers with --gpus all"
        ),
        101: (.missing, "CUDA_ERROR_INVALID_DEVICE", "nvidia-smi -L lists the GPUs"),
        200: (.unsupported, "CUDA_ERROR_INVALID_IMAGE", "the compiled kernels are damaged: empty the kernel cache"),
        201: (.invalid, "CUDA_ERROR_INVALID_CONTEXT", ""),
        209: (
            .unsupported, "CUDA_ERROR_NO_BINARY_FOR_GPU",
            "the kernels were compiled for another GPU: empty the kernel cache"
        ),
        214: (.fatal, "CUDA_ERROR_ECC_UNCORRECTABLE", restart + "; nvidia-smi -q -d ECC,ROW_REMAPPER shows the card"),
        218: (.unsupported, "CUDA_ERROR_INVALID_PTX", ""),
        220: (.fatal, "CUDA_ERROR_NVLINK_UNCORRECTABLE", restart),
        221: (.missing, "CUDA_ERROR_JIT_COMPILER_NOT_FOUND", "install libnvidia-ptxjitcompiler of the driver"),
        222: (.unsupported, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "install a newer driver, or an older NVRTC"),
        226: (.fatal, "CUDA_ERROR_CONTAINED", restart),
        304: (.unsupported, "CUDA_ERROR_OPERATING_SYSTEM", ""),
        400: (.invalid, "CUDA_ERROR_INVALID_HANDLE", ""),
        500: (.invalid, "CUDA_ERROR_NOT_FOUND", ""),
        600: (.retry, "CUDA_ERROR_NOT_READY", ""),
        700: (.fatal, "CUDA_ERROR_ILLEGAL_ADDRESS", restart),
        701: (.invalid, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", ""),
        702: (.fatal, "CUDA_ERROR_LAUNCH_TIMEOUT", restart),
        709: (.fatal, "CUDA_ERROR_CONTEXT_IS_DESTROYED", restart),
        710: (.fatal, "CUDA_ERROR_ASSERT", restart),
        714: (.fatal, "CUDA_ERROR_HARDWARE_STACK_ERROR", restart),
        715: (.fatal, "CUDA_ERROR_ILLEGAL_INSTRUCTION", restart),
        716: (.fatal, "CUDA_ERROR_MISALIGNED_ADDRESS", restart),
        717: (.fatal, "CUDA_ERROR_INVALID_ADDRESS_SPACE", restart),
        718: (.fatal, "CUDA_ERROR_INVALID_PC", restart),
        719: (.fatal, "CUDA_ERROR_LAUNCH_FAILED", restart),
        721: (.fatal, "CUDA_ERROR_TENSOR_MEMORY_LEAK", restart),
        800: (.unsupported, "CUDA_ERROR_NOT_PERMITTED", ""),
        801: (.unsupported, "CUDA_ERROR_NOT_SUPPORTED", ""),
        802: (.retry, "CUDA_ERROR_SYSTEM_NOT_READY", "start nvidia-persistenced or the fabric manager, and wait"),
        803: (
            .unsupported, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
            "libcuda.so.1 and the kernel module are of different versions: reboot, or mount the driver's own library"
        ),
        804: (
            .unsupported, "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE",
            "take the toolkit's compat folder out of LD_LIBRARY_PATH"
        ),
        805: (
            .mps, "CUDA_ERROR_MPS_CONNECTION_FAILED",
            "is nvidia-cuda-mps-control running, as this user, with this CUDA_MPS_PIPE_DIRECTORY?"
        ),
        806: (.mps, "CUDA_ERROR_MPS_RPC_FAILURE", "the MPS server is gone; " + restart),
        807: (
            .mps, "CUDA_ERROR_MPS_SERVER_NOT_READY",
            "the MPS server is starting, or in state FAULT until all its clients are gone: try again"
        ),
        808: (.mps, "CUDA_ERROR_MPS_MAX_CLIENTS_REACHED", "end clients, or lower --engines"),
        809: (.mps, "CUDA_ERROR_MPS_MAX_CONNECTIONS_REACHED", "end clients, or set CUDA_DEVICE_MAX_CONNECTIONS lower"),
        810: (.mps, "CUDA_ERROR_MPS_CLIENT_TERMINATED", "the MPS daemon ended this client; " + restart),
        900: (.invalid, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", ""),
        901: (.invalid, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", ""),
        999: (.fatal, "CUDA_ERROR_UNKNOWN", "look at dmesg for NVRM: Xid; " + restart),
    ]
}
