// Tandem — Apache-2.0

/// Why a GPU cannot be watched. Nothing depends on it: what cannot be read is left out.
public struct DeviceMonitorError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The call that failed, or what was looked for.
    public var call: String
    /// `nvmlReturn_t`; 0 if no call failed.
    public var code: Int32
    public var detail: String

    public var description: String { code == 0 ? "\(call): \(detail)" : "\(call): \(detail) (\(code))" }
}
