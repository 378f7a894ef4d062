// Tandem — Apache-2.0

public import CUDADriver
public import MPS

/// What the machine says of itself, gathered before it is judged.
public struct MachineFacts: Sendable, Equatable {
    /// A GPU as `nvidia-smi` lists it.
    public struct GPU: Sendable, Equatable {
        public var index: Int
        public var uuid: String
        public var name: String
        /// `Default`, `Exclusive_Process`, `Prohibited`.
        public var computeMode: String
        public var memoryMebibytes: Int?
        public var usesMIG: Bool
        /// Where it is plugged in, as `nvidia-smi` writes it: `00000000:3B:00.0`.
        public var busID: String?

        public init(
            index: Int, uuid: String, name: String, computeMode: String = "Default", memoryMebibytes: Int? = nil,
            usesMIG: Bool = false, busID: String? = nil
        ) {
            self.busID = busID
            self.index = index
            self.uuid = uuid
            self.name = name
            self.computeMode = computeMode
            self.memoryMebibytes = memoryMebibytes
            self.usesMIG = usesMIG
        }
    }

    /// A control daemon in the pipe directory that CUDA programs would use.
    public struct Daemon: Sendable, Equatable {
        public var pipeDirectory: String
        /// Whose sockets they are; null if there are none.
        public var owner: UInt32?
        public var outcome: ControlOutcome
        /// Clients of all its servers; null if it did not say.
        public var clients: Int?
        /// Whether one of its servers is in state FAULT.
        public var isInFault = false
    }

    /// A process of MPS on this machine.
    public struct ServiceProcess: Sendable, Equatable {
        public var process: MPSProcess
        /// Whether its pipe directory is there; null if it is not known which that is.
        public var directoryExists: Bool?
    }

    /// What became of looking for CUDA.
    public enum CUDAAnswer: Sendable, Equatable {
        /// There is no sign of an NVIDIA driver.
        case notAsked
        /// The driver did not answer in time.
        case silence
        case facts(CUDAFacts)
    }

    /// What became of looking for NVML.
    public enum MonitorAnswer: Sendable, Equatable {
        /// In words: the library, and whether it tells how busy the parts of a GPU are.
        case found(String, hasActivity: Bool)
        case missing(String)
        /// It did not answer in time.
        case silence
    }

    /// Number of the driver, such as 580.65.06.
    public var driver: String?
    /// Null if `nvidia-smi` could not be asked.
    public var gpus: [GPU]?
    /// Errno of opening `/dev/nvidiactl`; 0 if it can be opened.
    public var deviceError: Int32?
    /// What of CUDA is here.
    public var cuda = CUDAAnswer.notAsked
    /// What watches the GPU, or why nothing does; null if nobody asked.
    public var monitor: MonitorAnswer?
    public var mpsControl: String?
    public var mpsServer: String?
    public var daemon: Daemon?
    public var mpsProcesses: [ServiceProcess] = []
    public var user: UInt32 = 0
    public var environment: [String: String] = [:]
    /// Bytes of `/dev/shm`; null if it is not there.
    public var sharedMemoryBytes: UInt64?
    public var openFileLimit: UInt64 = .max
    /// Where sockets would go.
    public var runDirectory = "/tmp"
    public var runDirectoryIsWritable = true
    /// The directory that the environment names, if sockets cannot go there; null if they do, or none is named.
    public var refusedRunDirectory: String?
    public var port: UInt16 = 8000
    /// Errno of binding the port; 0 if it is free.
    public var portError: Int32 = 0
    public var modelName = ""
    /// Null if it has to be fetched.
    public var modelPath: String?
    /// Why it cannot be served; null if nothing is known against it.
    public var modelProblem: String?
    /// Which of the tools that fetch models are missing.
    public var missingTools: [String] = []
    public var cores = 1
    /// Cores that a control group lets this process use; null without a limit.
    public var coreQuota: Double?
    public var memoryAvailable: UInt64?
    /// `pid:[4026531836]` is that of the host.
    public var pidNamespace: String?
    /// `ipc:[4026531839]` is that of the host.
    public var ipcNamespace: String?
    public var kernelIsWSL = false

    public init() {}
}
