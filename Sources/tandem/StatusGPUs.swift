// Tandem — Apache-2.0

import Gateway

/// What `tandem status` tells of GPUs: what the processes that watch them left in the run directory.
enum StatusGPUs {
    /// Readings come every second; beyond this age one says nothing of now.
    private static let oldest = 15
    /// GPUs of a server that are looked for.
    private static let most = 16

    /// In the order of the server's GPUs. What is too old has no numbers any more, and says so.
    static func views(directory: String, now: Int) -> [DeviceView] {
        (0..<most).compactMap { place in
            guard let bytes = MonitorFile.read("\(directory)/\(MonitorFile.name(place))"),
                let view = DeviceView(line: bytes)
            else { return nil }
            // One that cannot be watched says so once.
            guard !view.values.isEmpty, now - view.time > oldest || view.time > now + oldest else { return view }
            var stale = DeviceView(gpu: view.gpu, note: "no reading for \(max(0, now - view.time)) s")
            stale.name = view.name
            stale.uuid = view.uuid
            stale.isSimulated = view.isSimulated
            stale.lastFault = view.lastFault
            return stale
        }
    }
}
