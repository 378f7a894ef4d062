// Tandem — Apache-2.0

import Requests

/// A request's place in a distributed trace (W3C Trace Context, https://www.w3.org/TR/trace-context/): which trace it
/// belongs to, and which of its spans is ours.
struct TraceContext: Sendable, Equatable {
    let traceID: Digest128
    /// Of the one who asks us; `nil` if the trace begins here.
    let parentID: UInt64?
    /// Ours.
    let spanID: UInt64
    /// Bit 0: whether the trace is recorded.
    let flags: UInt8

    /// The header that carries it.
    static let header = "traceparent"
    /// The header of the answer (Trace Context, level 3 draft), in the same form.
    static let responseHeader = "traceresponse"

    /// A span of ours in the trace that a client names.
    ///
    /// - Parameters:
    ///   - traceparent: the header as it came; what is no valid one gives `nil`, as if there was none.
    ///   - spanID: a random number; 0 is taken as 1, since it means none.
    init?(traceparent: String, spanID: UInt64) {
        let bytes = Array(traceparent.utf8)
        // 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01; later versions may say more behind a dash.
        guard bytes.count >= 55, [2, 35, 52].allSatisfy({ bytes[$0] == UInt8(ascii: "-") }),
            let version = Self.number(bytes[0..<2]), version != 0xFF,
            bytes.count == 55 || (version > 0 && bytes[55] == UInt8(ascii: "-")),
            let high = Self.number(bytes[3..<19]), let low = Self.number(bytes[19..<35]), high | low != 0,
            let parent = Self.number(bytes[36..<52]), parent != 0,
            let flags = Self.number(bytes[53..<55])
        else { return nil }
        traceID = Digest128(high: high, low: low)
        parentID = parent
        self.spanID = max(1, spanID)
        // Of another version only the bit that we know.
        self.flags = UInt8(flags) & (version == 0 ? 0xFF : 1)
    }

    /// The header for those that we ask, and for the answer.
    var traceparent: String { "00-\(traceID)-\(Self.text(spanID))-\(Self.digits(flags))" }

    /// 16 lower-case hexadecimal digits.
    static func text(_ spanID: UInt64) -> String {
        let digits = String(spanID, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }

    private static func digits(_ flags: UInt8) -> String { (flags < 16 ? "0" : "") + String(flags, radix: 16) }

    /// Lower-case hexadecimal digits, at most 16.
    private static func number(_ digits: ArraySlice<UInt8>) -> UInt64? {
        var number: UInt64 = 0
        for digit in digits {
            switch digit {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): number = number << 4 | UInt64(digit - UInt8(ascii: "0"))
            case UInt8(ascii: "a")...UInt8(ascii: "f"): number = number << 4 | UInt64(digit - UInt8(ascii: "a") + 10)
            default: return nil
            }
        }
        return number
    }
}
