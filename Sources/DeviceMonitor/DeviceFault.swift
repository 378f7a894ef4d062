// Tandem — Apache-2.0

/// What the driver means by an XID number, in a few words. Source: NVIDIA, "XID Errors" (GPU deployment documentation).
public enum DeviceFault {
    /// Null for numbers that say nothing to the owner of a server.
    public static func meaning(_ number: UInt64) -> String? {
        switch number {
        case 13: "a kernel did something illegal"
        case 31: "a kernel used an address that is not mapped"
        case 32: "the command stream was corrupt"
        case 43: "a program was stopped for its own error"
        case 45: "work of a program was ended, mostly after another error"
        case 48: "memory lost data: an error of two bits"
        case 61, 62: "the GPU's controller failed: reset the GPU"
        case 63: "a memory page was retired or a row remapped"
        case 64: "a memory page or row could not be taken out of use: reset the GPU"
        case 69: "a kernel did something illegal (compute class)"
        case 74: "NVLink failed"
        case 79: "the GPU fell off the bus: power, cooling or the slot; reboot"
        case 92: "many single-bit errors of the memory"
        case 94: "memory lost data, only one program is concerned"
        case 95: "memory lost data, and any program may be concerned: reset the GPU"
        case 119, 120: "the GPU's system processor does not answer: reset the GPU"
        case 999: "the driver does not say which"
        default: nil
        }
    }
}
