// Tandem — Apache-2.0

internal import CTandemSystem

/// A `CUresult`: 0 is success.
typealias Status = Int32
/// A pointer that the driver hands out and only the driver looks into, kept as a number so that it can be sent.
typealias DriverHandle = UInt

/// The driver's functions, found once. Names and signatures: CUDA driver API reference, version 13.0; all but those of
/// the last groups exist since version 11.
struct DriverFunctions: Sendable {
    typealias Out<Value> = UnsafeMutablePointer<Value>

    // MARK: Driver and devices
    let initialize: @convention(c) @Sendable (UInt32) -> Status
    let driverVersion: @convention(c) @Sendable (Out<Int32>) -> Status
    let errorName: @convention(c) @Sendable (Status, Out<UnsafePointer<CChar>?>) -> Status
    let deviceCount: @convention(c) @Sendable (Out<Int32>) -> Status
    let device: @convention(c) @Sendable (Out<Int32>, Int32) -> Status
    let deviceName: @convention(c) @Sendable (Out<CChar>, Int32, Int32) -> Status
    let deviceUUID: @convention(c) @Sendable (Out<UInt8>, Int32) -> Status
    let deviceBusID: @convention(c) @Sendable (Out<CChar>, Int32, Int32) -> Status
    let deviceMemory: @convention(c) @Sendable (Out<Int>, Int32) -> Status
    let deviceAttribute: @convention(c) @Sendable (Out<Int32>, Int32, Int32) -> Status

    // MARK: Contexts
    let primaryRetain: @convention(c) @Sendable (Out<DriverHandle>, Int32) -> Status
    let primaryRelease: @convention(c) @Sendable (Int32) -> Status
    let primarySetFlags: @convention(c) @Sendable (Int32, UInt32) -> Status
    let contextSetCurrent: @convention(c) @Sendable (DriverHandle) -> Status
    let contextPush: @convention(c) @Sendable (DriverHandle) -> Status
    let contextPop: @convention(c) @Sendable (Out<DriverHandle>) -> Status
    let contextSynchronize: @convention(c) @Sendable () -> Status
    let streamPriorityRange: @convention(c) @Sendable (Out<Int32>, Out<Int32>) -> Status

    // MARK: Memory
    let allocate: @convention(c) @Sendable (Out<UInt64>, Int) -> Status
    let free: @convention(c) @Sendable (UInt64) -> Status
    let memoryInformation: @convention(c) @Sendable (Out<Int>, Out<Int>) -> Status
    let allocateHost: @convention(c) @Sendable (Out<UInt>, Int, UInt32) -> Status
    let freeHost: @convention(c) @Sendable (UInt) -> Status
    let copyToDevice: @convention(c) @Sendable (UInt64, UnsafeRawPointer, Int, DriverHandle) -> Status
    let copyToHost: @convention(c) @Sendable (UnsafeMutableRawPointer, UInt64, Int, DriverHandle) -> Status
    let copyOnDevice: @convention(c) @Sendable (UInt64, UInt64, Int, DriverHandle) -> Status
    let fillBytes: @convention(c) @Sendable (UInt64, UInt8, Int, DriverHandle) -> Status
    let fillWords: @convention(c) @Sendable (UInt64, UInt32, Int, DriverHandle) -> Status

    // MARK: Virtual memory
    let granularity:
        @convention(c) @Sendable (Out<Int>, UnsafePointer<tandem_cuda_allocation_properties>, Int32) -> Status
    let addressReserve: @convention(c) @Sendable (Out<UInt64>, Int, Int, UInt64, UInt64) -> Status
    let addressFree: @convention(c) @Sendable (UInt64, Int) -> Status
    let physicalCreate:
        @convention(c) @Sendable (Out<UInt64>, Int, UnsafePointer<tandem_cuda_allocation_properties>, UInt64) -> Status
    let physicalRelease: @convention(c) @Sendable (UInt64) -> Status
    let map: @convention(c) @Sendable (UInt64, Int, Int, UInt64, UInt64) -> Status
    let unmap: @convention(c) @Sendable (UInt64, Int) -> Status
    let setAccess: @convention(c) @Sendable (UInt64, Int, UnsafePointer<tandem_cuda_memory_access>, Int) -> Status
    let exportHandle: @convention(c) @Sendable (Out<Int32>, UInt64, Int32, UInt64) -> Status
    /// The descriptor travels in place of a pointer.
    let importHandle: @convention(c) @Sendable (Out<UInt64>, UInt, Int32) -> Status
    let ipcExport: @convention(c) @Sendable (Out<tandem_cuda_ipc_handle>, UInt64) -> Status
    let ipcOpen: @convention(c) @Sendable (Out<UInt64>, tandem_cuda_ipc_handle, UInt32) -> Status
    let ipcClose: @convention(c) @Sendable (UInt64) -> Status

    // MARK: Streams and events
    let streamCreate: @convention(c) @Sendable (Out<DriverHandle>, UInt32, Int32) -> Status
    let streamDestroy: @convention(c) @Sendable (DriverHandle) -> Status
    let streamSynchronize: @convention(c) @Sendable (DriverHandle) -> Status
    let streamQuery: @convention(c) @Sendable (DriverHandle) -> Status
    let streamWait: @convention(c) @Sendable (DriverHandle, DriverHandle, UInt32) -> Status
    let eventCreate: @convention(c) @Sendable (Out<DriverHandle>, UInt32) -> Status
    let eventDestroy: @convention(c) @Sendable (DriverHandle) -> Status
    let eventRecord: @convention(c) @Sendable (DriverHandle, DriverHandle) -> Status
    let eventQuery: @convention(c) @Sendable (DriverHandle) -> Status
    let eventSynchronize: @convention(c) @Sendable (DriverHandle) -> Status
    let eventElapsed: @convention(c) @Sendable (Out<Float>, DriverHandle, DriverHandle) -> Status

    // MARK: Kernels
    let moduleLoad: @convention(c) @Sendable (Out<DriverHandle>, UnsafeRawPointer) -> Status
    let moduleUnload: @convention(c) @Sendable (DriverHandle) -> Status
    let moduleFunction: @convention(c) @Sendable (Out<DriverHandle>, DriverHandle, UnsafePointer<CChar>) -> Status
    let functionAttribute: @convention(c) @Sendable (Out<Int32>, Int32, DriverHandle) -> Status
    let functionSetAttribute: @convention(c) @Sendable (DriverHandle, Int32, Int32) -> Status
    let occupancy: @convention(c) @Sendable (Out<Int32>, DriverHandle, Int32, Int) -> Status
    let launch:
        @convention(c) @Sendable (
            DriverHandle, UInt32, UInt32, UInt32, UInt32, UInt32, UInt32, UInt32, DriverHandle,
            UnsafeMutablePointer<UnsafeMutableRawPointer?>?, UnsafeMutablePointer<UnsafeMutableRawPointer?>?
        ) -> Status
    /// As `launch`, with attributes; since 11.8.
    let launchWithAttributes:
        @convention(c) @Sendable (
            UnsafePointer<tandem_cuda_launch_config>, DriverHandle,
            UnsafeMutablePointer<UnsafeMutableRawPointer?>?, UnsafeMutablePointer<UnsafeMutableRawPointer?>?
        ) -> Status

    // MARK: Graphs
    let beginCapture: @convention(c) @Sendable (DriverHandle, Int32) -> Status
    let endCapture: @convention(c) @Sendable (DriverHandle, Out<DriverHandle>) -> Status
    let graphNodes: @convention(c) @Sendable (DriverHandle, Out<DriverHandle>?, Out<Int>) -> Status
    let graphDestroy: @convention(c) @Sendable (DriverHandle) -> Status
    let graphInstantiate: @convention(c) @Sendable (Out<DriverHandle>, DriverHandle, UInt64) -> Status
    let graphExecutableDestroy: @convention(c) @Sendable (DriverHandle) -> Status
    let graphUpload: @convention(c) @Sendable (DriverHandle, DriverHandle) -> Status
    let graphLaunch: @convention(c) @Sendable (DriverHandle, DriverHandle) -> Status

    /// Null with drivers that have none.
    let greenContexts: GreenContextFunctions?

    init(_ library: DynamicLibrary) throws(CUDAError) {
        greenContexts = GreenContextFunctions(library)
        initialize = try library.function("cuInit")
        driverVersion = try library.function("cuDriverGetVersion")
        errorName = try library.function("cuGetErrorName")
        deviceCount = try library.function("cuDeviceGetCount")
        device = try library.function("cuDeviceGet")
        deviceName = try library.function("cuDeviceGetName")
        deviceUUID = try library.function("cuDeviceGetUuid_v2")
        deviceBusID = try library.function("cuDeviceGetPCIBusId")
        deviceMemory = try library.function("cuDeviceTotalMem_v2")
        deviceAttribute = try library.function("cuDeviceGetAttribute")
        primaryRetain = try library.function("cuDevicePrimaryCtxRetain")
        primaryRelease = try library.function("cuDevicePrimaryCtxRelease_v2")
        primarySetFlags = try library.function("cuDevicePrimaryCtxSetFlags_v2")
        contextSetCurrent = try library.function("cuCtxSetCurrent")
        contextPush = try library.function("cuCtxPushCurrent_v2")
        contextPop = try library.function("cuCtxPopCurrent_v2")
        contextSynchronize = try library.function("cuCtxSynchronize")
        streamPriorityRange = try library.function("cuCtxGetStreamPriorityRange")
        allocate = try library.function("cuMemAlloc_v2")
        free = try library.function("cuMemFree_v2")
        memoryInformation = try library.function("cuMemGetInfo_v2")
        allocateHost = try library.function("cuMemHostAlloc")
        freeHost = try library.function("cuMemFreeHost")
        copyToDevice = try library.function("cuMemcpyHtoDAsync_v2")
        copyToHost = try library.function("cuMemcpyDtoHAsync_v2")
        copyOnDevice = try library.function("cuMemcpyDtoDAsync_v2")
        fillBytes = try library.function("cuMemsetD8Async")
        fillWords = try library.function("cuMemsetD32Async")
        granularity = try library.function("cuMemGetAllocationGranularity")
        addressReserve = try library.function("cuMemAddressReserve")
        addressFree = try library.function("cuMemAddressFree")
        physicalCreate = try library.function("cuMemCreate")
        physicalRelease = try library.function("cuMemRelease")
        map = try library.function("cuMemMap")
        unmap = try library.function("cuMemUnmap")
        setAccess = try library.function("cuMemSetAccess")
        exportHandle = try library.function("cuMemExportToShareableHandle")
        importHandle = try library.function("cuMemImportFromShareableHandle")
        ipcExport = try library.function("cuIpcGetMemHandle")
        ipcOpen = try library.function("cuIpcOpenMemHandle_v2")
        ipcClose = try library.function("cuIpcCloseMemHandle")
        streamCreate = try library.function("cuStreamCreateWithPriority")
        streamDestroy = try library.function("cuStreamDestroy_v2")
        streamSynchronize = try library.function("cuStreamSynchronize")
        streamQuery = try library.function("cuStreamQuery")
        streamWait = try library.function("cuStreamWaitEvent")
        eventCreate = try library.function("cuEventCreate")
        eventDestroy = try library.function("cuEventDestroy_v2")
        eventRecord = try library.function("cuEventRecord")
        eventQuery = try library.function("cuEventQuery")
        eventSynchronize = try library.function("cuEventSynchronize")
        eventElapsed = try library.function("cuEventElapsedTime")
        moduleLoad = try library.function("cuModuleLoadData")
        moduleUnload = try library.function("cuModuleUnload")
        moduleFunction = try library.function("cuModuleGetFunction")
        functionAttribute = try library.function("cuFuncGetAttribute")
        functionSetAttribute = try library.function("cuFuncSetAttribute")
        occupancy = try library.function("cuOccupancyMaxActiveBlocksPerMultiprocessor")
        launch = try library.function("cuLaunchKernel")
        launchWithAttributes = try library.function("cuLaunchKernelEx")
        beginCapture = try library.function("cuStreamBeginCapture_v2")
        endCapture = try library.function("cuStreamEndCapture")
        graphNodes = try library.function("cuGraphGetNodes")
        graphDestroy = try library.function("cuGraphDestroy")
        graphInstantiate = try library.function("cuGraphInstantiateWithFlags")
        graphExecutableDestroy = try library.function("cuGraphExecDestroy")
        graphUpload = try library.function("cuGraphUpload")
        graphLaunch = try library.function("cuGraphLaunch")
    }
}
