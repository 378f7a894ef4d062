// Tandem — Apache-2.0

import Testing

@testable import DeviceMonitor

@Test func whatIsNotKnownIsLeftOut() {
    #expect(DeviceMetric.metrics(DeviceReading(), nil).isEmpty)
    #expect(DeviceMetric.metrics(DeviceReading(), DeviceActivity()).isEmpty)
}

@Test func valuesHaveTheNamesAndUnitsOfDCGM() {
    var reading = DeviceReading()
    reading.memoryUsedBytes = 3 << 20
    reading.memoryTotalBytes = 10 << 20
    reading.powerWatts = 350.5
    reading.energyJoules = 2
    reading.busyShare = 0.25
    var activity = DeviceActivity()
    activity.multiprocessors = 0.5
    activity.hostSent = 2
    let values = Dictionary(
        uniqueKeysWithValues: DeviceMetric.metrics(reading, activity).map { ($0.name, $0.value) })
    #expect(
        values == [
            "DCGM_FI_DEV_FB_USED": 3, "DCGM_FI_DEV_FB_FREE": 7, "DCGM_FI_DEV_POWER_USAGE": 350.5,
            "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": 2000, "DCGM_FI_DEV_GPU_UTIL": 25, "DCGM_FI_PROF_SM_ACTIVE": 0.5,
            "DCGM_FI_PROF_PCIE_TX_BYTES": 2_097_152,
        ])
}

@Test func nonsenseOfTheDriverDoesNotTrap() {
    var reading = DeviceReading()
    reading.memoryUsedBytes = 10
    reading.memoryTotalBytes = 3
    #expect(DeviceMetric.metrics(reading, nil).map(\.name) == ["DCGM_FI_DEV_FB_USED"])
}

@Test func limitsOfTheClockAreReadFromBits() {
    #expect(DeviceReading.ClockLimit.limits(0).isEmpty)
    #expect(DeviceReading.ClockLimit.limits(0x24) == [.power, .temperature])
    #expect(DeviceReading.ClockLimit.limits(1 << 40).isEmpty)
}

@Test(arguments: ["/nowhere/libnvidia-ml.so.1", "libc.so.6"])
func withoutTheLibraryNothingIsWatched(_ path: String) {
    let error = #expect(throws: DeviceMonitorError.self) {
        try DeviceMonitor(.index(0), environment: ["TANDEM_NVML": path])
    }
    #expect(error?.call == "libnvidia-ml.so.1")
}
