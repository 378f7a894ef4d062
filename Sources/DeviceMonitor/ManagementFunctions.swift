// Tandem — Apache-2.0

internal import CUDADriver

/// NVML's functions. Signatures and layouts: NVML API reference, version 13. Of those that are newer, or that a device
/// may not have, each may be missing.
struct ManagementFunctions: Sendable {
    typealias Status = Int32
    typealias Handle = UInt
    typealias Out<Value> = UnsafeMutablePointer<Value>
    typealias Number = @convention(c) @Sendable (Handle, Out<UInt32>) -> Status
    typealias LargeNumber = @convention(c) @Sendable (Handle, Out<UInt64>) -> Status
    typealias Kind = @convention(c) @Sendable (Handle, Int32, Out<UInt32>) -> Status
    typealias Text = @convention(c) @Sendable (Handle, Out<CChar>, UInt32) -> Status

    let initialize: @convention(c) @Sendable () -> Status
    let shutdown: @convention(c) @Sendable () -> Status
    let errorString: @convention(c) @Sendable (Status) -> UnsafePointer<CChar>?
    let byUUID: @convention(c) @Sendable (UnsafePointer<CChar>, Out<Handle>) -> Status
    let byIndex: @convention(c) @Sendable (UInt32, Out<Handle>) -> Status
    let name: Text
    let uuid: Text?
    let index: Number?
    let minor: Number?
    /// `nvmlMemory_t`: total, free, used.
    let memory: LargeNumber
    /// `nvmlUtilization_t`: computing, memory; percent of the time in which any kernel ran.
    let utilization: Number?
    let power: Number?
    let powerLimit: Number?
    let energy: LargeNumber?
    let temperature: Kind?
    let clock: Kind?
    let clockReasons: LargeNumber?
    let eventSetCreate: (@convention(c) @Sendable (Out<Handle>) -> Status)?
    let eventSetFree: (@convention(c) @Sendable (Handle) -> Status)?
    let registerEvents: (@convention(c) @Sendable (Handle, UInt64, Handle) -> Status)?
    let eventSetWait: (@convention(c) @Sendable (Handle, UnsafeMutableRawPointer, UInt32) -> Status)?
    let activitySupport: Number?
    let sampleAllocate: (@convention(c) @Sendable (Out<Handle>) -> Status)?
    let sampleFree: (@convention(c) @Sendable (Handle) -> Status)?
    let sampleGet: (@convention(c) @Sendable (Handle, Handle) -> Status)?
    let metricsGet: (@convention(c) @Sendable (UnsafeMutableRawPointer) -> Status)?

    /// Null if one of the functions that every driver has is missing.
    init?(_ library: DynamicLibrary) {
        guard let initialize: @convention(c) @Sendable () -> Status = library.symbol("nvmlInit_v2"),
            let shutdown: @convention(c) @Sendable () -> Status = library.symbol("nvmlShutdown"),
            let errorString: @convention(c) @Sendable (Status) -> UnsafePointer<CChar>? = library.symbol(
                "nvmlErrorString"),
            let byUUID: @convention(c) @Sendable (UnsafePointer<CChar>, Out<Handle>) -> Status = library.symbol(
                "nvmlDeviceGetHandleByUUID"),
            let byIndex: @convention(c) @Sendable (UInt32, Out<Handle>) -> Status = library.symbol(
                "nvmlDeviceGetHandleByIndex_v2"),
            let name: Text = library.symbol("nvmlDeviceGetName"),
            let memory: LargeNumber = library.symbol("nvmlDeviceGetMemoryInfo")
        else { return nil }
        self.initialize = initialize
        self.shutdown = shutdown
        self.errorString = errorString
        self.byUUID = byUUID
        self.byIndex = byIndex
        self.name = name
        uuid = library.symbol("nvmlDeviceGetUUID")
        index = library.symbol("nvmlDeviceGetIndex")
        minor = library.symbol("nvmlDeviceGetMinorNumber")
        self.memory = memory
        utilization = library.symbol("nvmlDeviceGetUtilizationRates")
        power = library.symbol("nvmlDeviceGetPowerUsage")
        powerLimit = library.symbol("nvmlDeviceGetEnforcedPowerLimit")
        energy = library.symbol("nvmlDeviceGetTotalEnergyConsumption")
        temperature = library.symbol("nvmlDeviceGetTemperature")
        clock = library.symbol("nvmlDeviceGetClockInfo")
        // The name before driver 535 is still there.
        clockReasons =
            library.symbol("nvmlDeviceGetCurrentClocksEventReasons")
            ?? library.symbol("nvmlDeviceGetCurrentClocksThrottleReasons")
        eventSetCreate = library.symbol("nvmlEventSetCreate")
        eventSetFree = library.symbol("nvmlEventSetFree")
        registerEvents = library.symbol("nvmlDeviceRegisterEvents")
        eventSetWait = library.symbol("nvmlEventSetWait_v2")
        activitySupport = library.symbol("nvmlGpmQueryDeviceSupport")
        sampleAllocate = library.symbol("nvmlGpmSampleAlloc")
        sampleFree = library.symbol("nvmlGpmSampleFree")
        sampleGet = library.symbol("nvmlGpmSampleGet")
        metricsGet = library.symbol("nvmlGpmMetricsGet")
    }
}
