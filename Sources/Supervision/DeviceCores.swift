// Tandem — Apache-2.0

internal import Glibc

/// Cores that are near an NVIDIA GPU: on the other socket of a large machine every transfer takes a detour.
struct DeviceCores {
    /// Where the kernel shows devices.
    var root = "/sys/bus/pci/devices"
    /// Which GPU, as the kernel names it (`0000:3b:00.0`) or the driver's tools do (`00000000:3B:00.0`); null if that is
    /// not known.
    var device: String?

    /// NVIDIA's number, and the classes of display and 3D controllers.
    private static let vendor = "0x10de"
    private static let classes = ["0x0300", "0x0302"]

    /// CPU numbers near the GPU; empty if there is none, or several of which nobody knows which is meant.
    func local() -> [Int32] {
        let gpus = RunDirectory.names(in: root).compactMap { name -> (name: String, cores: [Int32])? in
            let path = "\(root)/\(name)"
            guard text(path + "/vendor") == Self.vendor, let kind = text(path + "/class"),
                Self.classes.contains(where: kind.hasPrefix), let list = text(path + "/local_cpulist")
            else { return nil }
            return (name, Self.numbers(list))
        }
        guard let device else { return gpus.count == 1 ? gpus[0].cores : [] }
        let wanted = device.lowercased().suffix(12)
        return gpus.first { $0.name == wanted }?.cores ?? []
    }

    /// Usable cores with those near the GPU first, so that engines get them and the rest is for others.
    func ordered(_ usable: [Int32]) -> [Int32] {
        let near = Set(local())
        return usable.filter(near.contains) + usable.filter { !near.contains($0) }
    }

    /// The kernel's lists, such as `0-3,8,10-11`; what is none is empty.
    static func numbers(_ list: String) -> [Int32] {
        var numbers: [Int32] = []
        for part in list.split(separator: ",") {
            let ends = part.split(separator: "-", omittingEmptySubsequences: false).map { Int32($0) }
            guard let first = ends.first ?? nil, let last = ends.last ?? nil, ends.count <= 2, first >= 0,
                first <= last,
                last < 8192
            else { return [] }
            numbers += first...last
        }
        return numbers
    }

    private func text(_ path: String) -> String? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = read(descriptor, &buffer, buffer.count)
        guard count > 0 else { return nil }
        return String(decoding: buffer[..<count].prefix { $0 > UInt8(ascii: " ") }, as: UTF8.self)
    }
}
