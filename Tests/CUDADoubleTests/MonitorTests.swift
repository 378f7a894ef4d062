// Tandem — Apache-2.0

import DeviceMonitor
import Glibc
import Testing

@testable import CUDADriver

@Test func aDeviceIsWatched() throws {
    let bench = try Workbench(["NAME": "A GPU", "MEMORY_MIB": "64"])
    let monitor = try DeviceMonitor(.uuid(bench.context.device.uuid), environment: bench.library.environment)
    #expect(monitor.name == "A GPU")
    #expect(monitor.path == bench.library.path)
    #expect(monitor.hasActivity)
    let idle = monitor.reading()
    #expect(idle.memoryTotalBytes == 64 << 20)
    #expect(idle.memoryUsedBytes == 0)
    #expect(idle.clockLimits == [.idle])
    #expect(idle.powerWatts == 70)
    #expect(idle.powerLimitWatts == 700)
    #expect(idle.multiprocessorClockMegahertz == 1980)
    #expect(idle.memoryClockMegahertz == 2619)
    #expect(idle.temperatureCelsius == 40)
    // The first call has nothing to compare with.
    #expect(monitor.activity() == nil)
    let memory = try bench.memory([1])
    try bench.scale(memory.address, by: 2, count: 1)
    try bench.stream.synchronize()
    var expected = DeviceActivity()
    expected.engine = 1
    expected.multiprocessors = 0.75
    expected.occupancy = 0.5
    expected.tensor = 0.25
    expected.memoryBandwidth = 0.6
    #expect(monitor.activity() == expected)
    #expect(monitor.activity()?.engine == 0)
    #expect(monitor.reading().clockLimits == [.power])
    #expect(monitor.reading().memoryUsedBytes == 512)
    #expect(monitor.faults().isEmpty)
    try bench.stray()
    #expect(throws: CUDAError.self) { try bench.stream.synchronize() }
    #expect(monitor.faults() == [31])
    #expect(monitor.faults().isEmpty)
}

@Test func anOlderDeviceTellsNoActivity() throws {
    let library = try DoubleLibrary(["CAPABILITY": "8.0"])
    let monitor = try DeviceMonitor(.index(0), environment: library.environment)
    #expect(!monitor.hasActivity)
    #expect(monitor.activity() == nil)
    #expect(monitor.activity() == nil)
}

@Test func aDeviceThatIsNotThereIsNamed() throws {
    let library = try DoubleLibrary()
    for device in [DeviceMonitor.Device.uuid("GPU-1"), .index(1), .index(-1)] {
        let error = #expect(throws: DeviceMonitorError.self) {
            try DeviceMonitor(device, environment: library.environment)
        }
        #expect(error?.code != 0)
    }
    try library.planFaults("manage=9")
    let error = #expect(throws: DeviceMonitorError.self) {
        try DeviceMonitor(.index(0), environment: library.environment)
    }
    #expect(error?.description == "nvmlInit: Driver Not Loaded (9)")
    // Nothing is held by what failed.
    #expect(try library.counter("live_objects") == 0)
}

@Test func aWatcherOfItsOwnSeesWhatIsAskedFor() throws {
    let xid = "/tmp/tandem-xid-\(getpid())-\(UInt64.random(in: 0 ... .max))"
    let library = try DoubleLibrary([
        "BUSY": "1", "MEMORY_USED_MIB": "100", "POWER_WATTS": "421", "CELSIUS": "66", "DEVICES": "2", "XID_FILE": xid,
    ])
    let monitor = try DeviceMonitor(.index(1), environment: library.environment)
    #expect(monitor.index == 1 && monitor.minor == 1)
    #expect(monitor.uuid.hasPrefix("GPU-"))
    #expect(try DeviceMonitor(.uuid(monitor.uuid), environment: library.environment).index == 1)
    let reading = monitor.reading()
    #expect(reading.powerWatts == 421 && reading.temperatureCelsius == 66 && reading.busyShare == 1)
    #expect(reading.memoryUsedBytes == 100 << 20)
    #expect(reading.clockLimits?.filter(\.isThrottling) == [.power])
    #expect(monitor.activity() == nil)
    #expect(monitor.activity()?.multiprocessors == 0.75)
    #expect(monitor.hasFaults && monitor.faults().isEmpty)
    try #require(CacheFolder.write(Array("79".utf8), to: xid))
    #expect(monitor.faults() == [79])
    #expect(monitor.faults().isEmpty)
    let metrics = DeviceMetric.metrics(reading, nil, fault: 79)
    #expect(metrics.first { $0.name == "DCGM_FI_DEV_XID_ERRORS" }?.value == 79)
    #expect(metrics.first { $0.name == "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS" }?.value == 4)
}
