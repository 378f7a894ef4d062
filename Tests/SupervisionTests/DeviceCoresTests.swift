// Tandem — Apache-2.0

import Foundation
import Testing

@testable import Supervision

@Suite struct DeviceCoresTests {
    @Test(arguments: [
        ("0-3,8,10-11", [0, 1, 2, 3, 8, 10, 11]), ("5", [5]), ("", []), ("a", []), ("3-1", []), ("1-2-3", []),
        ("0-999999", []), ("-1", []),
    ])
    func lists(text: String, numbers: [Int32]) {
        #expect(DeviceCores.numbers(text) == numbers)
    }

    @Test func coresNearTheGPUComeFirst() throws {
        let root = NSTemporaryDirectory() + "tandem-pci-\(UUID().uuidString.prefix(8))"
        defer { try? FileManager.default.removeItem(atPath: root) }
        func device(_ name: String, _ files: [String: String]) throws {
            try FileManager.default.createDirectory(atPath: "\(root)/\(name)", withIntermediateDirectories: true)
            for (file, text) in files {
                try (text + "\n").write(toFile: "\(root)/\(name)/\(file)", atomically: false, encoding: .utf8)
            }
        }
        let cores = DeviceCores(root: root)
        #expect(cores.local() == [])
        try device("0000:00:01.0", ["vendor": "0x8086", "class": "0x030000", "local_cpulist": "0-1"])
        // Its sound.
        try device("0000:41:00.1", ["vendor": "0x10de", "class": "0x040300", "local_cpulist": "0-1"])
        #expect(cores.ordered([0, 1, 2]) == [0, 1, 2])
        try device("0000:81:00.0", ["vendor": "0x10de", "class": "0x030200", "local_cpulist": "2-3,6-7"])
        #expect(cores.local() == [2, 3, 6, 7])
        #expect(cores.ordered([0, 1, 2, 3, 4, 5, 6]) == [2, 3, 6, 0, 1, 4, 5])
        // Of several it is the one that is served, or none.
        try device("0000:3b:00.0", ["vendor": "0x10de", "class": "0x030200", "local_cpulist": "0-1,4-5"])
        #expect(cores.local() == [])
        #expect(DeviceCores(root: root, device: "00000000:81:00.0").local() == [2, 3, 6, 7])
        #expect(DeviceCores(root: root, device: "00000000:3B:00.0").local() == [0, 1, 4, 5])
        #expect(DeviceCores(root: root, device: "00000000:3C:00.0").local() == [])
    }
}
