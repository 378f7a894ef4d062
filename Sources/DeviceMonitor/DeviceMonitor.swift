// Tandem — Apache-2.0

internal import CUDADriver
internal import Synchronization

/// Watches one GPU through NVML, which is found at run time. Takes no context and no device memory, and needs no rights.
///
/// Calls take up to some milliseconds, and wait for each other.
public final class DeviceMonitor: Sendable {
    public enum Device: Sendable, Equatable {
        /// `GPU-…` or `MIG-…`, as CUDA names it.
        case uuid(String)
        /// In NVML's own order, which CUDA's need not be.
        case index(Int)
    }

    public let name: String
    /// `GPU-…` or `MIG-…`; empty if NVML does not say.
    public let uuid: String
    /// In NVML's order; null if NVML does not say.
    public let index: Int?
    /// Of the file `/dev/nvidia…`; null if NVML does not say.
    public let minor: Int?
    /// The library's file.
    public let path: String
    /// Whether ``activity()`` can tell something.
    public let hasActivity: Bool
    /// Whether ``faults()`` can tell something.
    public let hasFaults: Bool
    private let functions: ManagementFunctions
    private let device: UInt
    private let state: Mutex<State>

    private struct State {
        /// Samples of GPM, in turn; 0 if there are none.
        var samples: (earlier: UInt, later: UInt) = (0, 0)
        var hasEarlier = false
        /// A set of events that tells of faults; 0 if there is none.
        var events: UInt = 0
    }

    /// - Parameter environment: `TANDEM_NVML` names a file; else where drivers are.
    /// - Throws: if there is no NVML or no such device.
    public init(_ device: Device, environment: [String: String]) throws(DeviceMonitorError) {
        let library: DynamicLibrary
        do throws(DynamicLibrary.OpeningFailure) {
            library = try DynamicLibrary.openFirst(
                of: LibrarySearch(environment: environment).managementCandidates(), having: "nvmlInit_v2")
        } catch {
            throw DeviceMonitorError(call: "libnvidia-ml.so.1", code: 0, detail: error.reason)
        }
        guard let functions = ManagementFunctions(library) else {
            throw DeviceMonitorError(call: "libnvidia-ml.so.1", code: 0, detail: "\(library.path) is too old")
        }
        func check(_ status: Int32, _ call: String) throws(DeviceMonitorError) {
            guard status != 0 else { return }
            throw DeviceMonitorError(
                call: call, code: status,
                detail: functions.errorString(status).map { String(cString: $0) } ?? "an unknown error")
        }
        try check(functions.initialize(), "nvmlInit")
        var handle: UInt = 0
        do throws(DeviceMonitorError) {
            switch device {
            case .uuid(let uuid): try check(functions.byUUID(uuid, &handle), "nvmlDeviceGetHandleByUUID \(uuid)")
            case .index(let index):
                try check(
                    functions.byIndex(UInt32(exactly: index) ?? .max, &handle), "nvmlDeviceGetHandleByIndex \(index)")
            }
        } catch {
            _ = functions.shutdown()
            throw error
        }
        self.functions = functions
        self.device = handle
        path = library.file(holding: "nvmlInit_v2")
        func text(_ function: ManagementFunctions.Text?) -> String {
            var text = [CChar](repeating: 0, count: 96)
            guard function?(handle, &text, 96) == 0 else { return "" }
            return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        }
        func number(_ function: ManagementFunctions.Number?) -> Int? {
            var value: UInt32 = 0
            return function?(handle, &value) == 0 ? Int(value) : nil
        }
        name = text(functions.name)
        uuid = text(functions.uuid)
        index = number(functions.index)
        minor = number(functions.minor)
        var state = State()
        // `nvmlGpmSupport_t`: version 1, then the answer.
        var support: (UInt32, UInt32) = (1, 0)
        let status = withUnsafeMutableBytes(of: &support) { bytes in
            bytes.baseAddress.flatMap { functions.activitySupport?(handle, $0.assumingMemoryBound(to: UInt32.self)) }
        }
        if status == 0, support.1 != 0, let allocate = functions.sampleAllocate,
            allocate(&state.samples.earlier) == 0, allocate(&state.samples.later) != 0
        {
            _ = functions.sampleFree?(state.samples.earlier)
            state.samples = (0, 0)
        }
        hasActivity = state.samples.later != 0 && functions.sampleGet != nil && functions.metricsGet != nil
        // 8: `nvmlEventTypeXidCriticalError`.
        if let create = functions.eventSetCreate, let register = functions.registerEvents, create(&state.events) == 0,
            register(handle, 8, state.events) != 0
        {
            _ = functions.eventSetFree?(state.events)
            state.events = 0
        }
        hasFaults = state.events != 0 && functions.eventSetWait != nil
        self.state = Mutex(state)
    }

    deinit {
        state.withLock { state in
            for sample in [state.samples.earlier, state.samples.later] where sample != 0 {
                _ = functions.sampleFree?(sample)
            }
            if state.events != 0 { _ = functions.eventSetFree?(state.events) }
        }
        _ = functions.shutdown()
    }

    /// What can be read now.
    public func reading() -> DeviceReading {
        state.withLock { _ in
            var reading = DeviceReading()
            if let memory = numbers(3, functions.memory) {
                reading.memoryTotalBytes = memory[0]
                reading.memoryUsedBytes = memory[2]
            }
            reading.powerWatts = number(functions.power).map { Double($0) / 1000 }
            reading.powerLimitWatts = number(functions.powerLimit).map { Double($0) / 1000 }
            reading.energyJoules = numbers(1, functions.energy).map { Double($0[0]) / 1000 }
            // `nvmlClockType_t` 1: multiprocessors, 2: memory. Sensor 0: the chip.
            reading.multiprocessorClockMegahertz = number(functions.clock, kind: 1).map(Int.init)
            reading.memoryClockMegahertz = number(functions.clock, kind: 2).map(Int.init)
            reading.temperatureCelsius = number(functions.temperature, kind: 0).map(Int.init)
            if let utilization = functions.utilization {
                var shares: [UInt32] = [0, 0]
                if utilization(device, &shares) == 0 { reading.busyShare = Double(shares[0]) / 100 }
            }
            reading.clockLimitBits = numbers(1, functions.clockReasons).map { $0[0] }
            return reading
        }
    }

    /// How busy the device was since the last call; null at the first, or if GPM cannot tell. Calls should be at least a
    /// tenth of a second apart.
    public func activity() -> DeviceActivity? {
        state.withLock { state in
            guard hasActivity, let get = functions.sampleGet, get(device, state.samples.later) == 0 else { return nil }
            defer {
                state.samples = (state.samples.later, state.samples.earlier)
                state.hasEarlier = true
            }
            return state.hasEarlier ? activity(from: state.samples.earlier, to: state.samples.later) : nil
        }
    }

    /// Faults that the driver reported since the last call (XID numbers, as `dmesg` has them). Of any process; 999 is an
    /// unknown one.
    public func faults() -> [UInt64] {
        state.withLock { state in
            var faults: [UInt64] = []
            guard state.events != 0, let wait = functions.eventSetWait else { return faults }
            // `nvmlEventData_t`: device, kind, number, two ids.
            var event: [UInt64] = [0, 0, 0, 0]
            // A broken driver might say the same for ever.
            while faults.count < 64, wait(state.events, &event, 0) == 0 {
                if event[1] == 8 { faults.append(event[2]) }
            }
            return faults
        }
    }

    private func number(_ function: ManagementFunctions.Number?) -> UInt32? {
        var value: UInt32 = 0
        return function?(device, &value) == 0 ? value : nil
    }

    private func number(_ function: ManagementFunctions.Kind?, kind: Int32) -> UInt32? {
        var value: UInt32 = 0
        return function?(device, kind, &value) == 0 ? value : nil
    }

    private func numbers(_ count: Int, _ function: ManagementFunctions.LargeNumber?) -> [UInt64]? {
        var values = [UInt64](repeating: 0, count: count)
        return function?(device, &values) == 0 ? values : nil
    }

    /// `nvmlGpmMetricsGet_t`: version 1 and the number of metrics, the two samples, then the metrics, of 40 bytes each:
    /// number, status, value, three texts.
    private func activity(from earlier: UInt, to later: UInt) -> DeviceActivity? {
        let metrics = DeviceActivity.metricNumbers
        // Newer drivers know more metrics, and may clear as many: room for more than any has.
        var buffer = [UInt64](repeating: 0, count: 3 + 5 * 1024)
        buffer[0] = 1 | UInt64(metrics.count) << 32
        buffer[1] = UInt64(earlier)
        buffer[2] = UInt64(later)
        for (index, metric) in metrics.enumerated() { buffer[3 + 5 * index] = UInt64(metric) }
        guard functions.metricsGet?(&buffer) == 0 else { return nil }
        var activity = DeviceActivity()
        for (index, metric) in metrics.enumerated() where buffer[3 + 5 * index] >> 32 == 0 {
            let value = Double(bitPattern: buffer[4 + 5 * index])
            if value.isFinite { activity.set(metric, value) }
        }
        return activity
    }
}
