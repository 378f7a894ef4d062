// Tandem — Apache-2.0

internal import Dispatch
internal import Synchronization

/// What of CUDA is on this machine, for somebody who wants to know why an engine does not start. Makes no context and
/// takes no device memory.
public struct CUDAFacts: Sendable, Equatable {
    public struct Library: Sendable, Equatable {
        public var path: String
        public var version: String

        public init(path: String, version: String) {
            self.path = path
            self.version = version
        }
    }

    public struct Device: Sendable, Equatable {
        public var index: Int
        public var name: String
        public var uuid: String
        public var computeCapability: ComputeCapability
        public var multiprocessors: Int
        public var memoryBytes: Int
        /// Whether a context made now would go through MPS.
        public var usesMPS: Bool

        public init(
            index: Int, name: String, uuid: String, computeCapability: ComputeCapability, multiprocessors: Int,
            memoryBytes: Int, usesMPS: Bool
        ) {
            self.index = index
            self.name = name
            self.uuid = uuid
            self.computeCapability = computeCapability
            self.multiprocessors = multiprocessors
            self.memoryBytes = memoryBytes
            self.usesMPS = usesMPS
        }
    }

    public typealias Answer<Value> = Result<Value, CUDAError>

    public var driver: Answer<Library>
    /// Whether the driver is the test double.
    public var isDouble = false
    /// Empty if the driver could not be used.
    public var devices: [Device] = []
    public var compiler: Answer<Library>
    public var matrices: Answer<Library>
    /// A folder of kernels compiled elsewhere, with at least one of them.
    public var precompiledFolder: String?

    public init(driver: Answer<Library>, compiler: Answer<Library>, matrices: Answer<Library>) {
        self.driver = driver
        self.compiler = compiler
        self.matrices = matrices
    }

    /// Opens the driver and what an engine needs beside it.
    public static func gather(environment: [String: String]) -> CUDAFacts {
        let driver = Answer { () throws(CUDAError) in try CUDADriver(environment: environment) }
        let usable = try? driver.get()
        var facts = CUDAFacts(
            driver: driver.map { Library(path: $0.path, version: "\($0.version)") },
            compiler: Answer { () throws(CUDAError) in
                let compiler = try KernelCompiler(environment: environment, driver: usable)
                return Library(path: compiler.path, version: "\(compiler.version)")
            },
            matrices: Answer { () throws(CUDAError) in
                let driver = try driver.get()
                let library = try MatrixLibrary.open(environment: environment, driver: driver)
                let version = try MatrixFunctions(library).version()
                return Library(
                    path: library.file(holding: "cublasLtMatmul"),
                    version: "\(version / 10000).\(version / 100 % 100).\(version % 100)")
            })
        facts.isDouble = usable?.isDouble ?? false
        facts.devices = ((try? usable?.devices()) ?? []).map {
            Device(
                index: $0.index, name: $0.name, uuid: $0.uuid, computeCapability: $0.computeCapability,
                multiprocessors: $0.multiprocessors, memoryBytes: $0.memoryBytes, usesMPS: $0.usesMPS)
        }
        if let folder = KernelCache(environment: environment).precompiledFolder,
            CacheFolder.names(folder).contains(where: { $0.hasSuffix(".cubin") })
        {
            facts.precompiledFolder = folder
        }
        return facts
    }

    /// As ``gather(environment:)``, in a thread that is given up after a while: a driver can hang, as it does when an
    /// MPS daemon does not answer.
    ///
    /// - Returns: null if that time did not suffice.
    public static func gather(environment: [String: String], limit: Duration) -> CUDAFacts? {
        let answer = LateAnswer()
        DispatchQueue.global().async {
            let facts = gather(environment: environment)
            answer.facts.withLock { $0 = facts }
            answer.arrived.signal()
        }
        let (seconds, attoseconds) = limit.components
        let nanoseconds = Int(seconds) * 1_000_000_000 + Int(attoseconds / 1_000_000_000)
        guard answer.arrived.wait(timeout: .now() + .nanoseconds(nanoseconds)) == .success else { return nil }
        return answer.facts.withLock { $0 }
    }

    /// What a thread leaves for another one, which may have gone on meanwhile.
    private final class LateAnswer: Sendable {
        let facts = Mutex<CUDAFacts?>(nil)
        let arrived = DispatchSemaphore(value: 0)
    }
}
