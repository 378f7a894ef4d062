// Tandem — Apache-2.0

import Glibc

/// Arithmetic of embeddings, and how they are sent.
enum Vector {
    /// The first `dimensions` numbers, then of length 1 if `normalizes` says so. A vector of zeros stays one.
    static func finished(_ vector: [Float], dimensions: Int?, normalizes: Bool) -> [Float] {
        let kept = dimensions.map { Array(vector.prefix($0)) } ?? vector
        guard normalizes else { return kept }
        let length = square(kept).squareRoot()
        guard length > 0 else { return kept }
        return kept.map { Float(Double($0) / length) }
    }

    /// Cosine of the angle between two vectors of one length; 0 if one of them is zero.
    static func cosine(_ left: [Float], _ right: [Float]) -> Double {
        // One root of both squares, so that a vector and itself give 1.
        let lengths = (square(left) * square(right)).squareRoot()
        guard lengths > 0 else { return 0 }
        let product = zip(left, right).reduce(0.0) { $0 + Double($1.0) * Double($1.1) }
        return min(1, max(-1, product / lengths))
    }

    private static func square(_ vector: [Float]) -> Double {
        vector.reduce(0.0) { $0 + Double($1) * Double($1) }
    }

    /// The numbers as little-endian 32-bit floats, in base64 (RFC 4648).
    static func base64(_ vector: [Float]) -> String {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(vector.count * 4)
        for number in vector {
            withUnsafeBytes(of: number.bitPattern.littleEndian) { bytes.append(contentsOf: $0) }
        }
        var text: [UInt8] = []
        text.reserveCapacity((bytes.count + 2) / 3 * 4)
        var index = 0
        while index < bytes.count {
            let count = min(3, bytes.count - index)
            var group: UInt32 = 0
            for offset in 0..<3 { group = group << 8 | (offset < count ? UInt32(bytes[index + offset]) : 0) }
            for place in 0..<4 {
                let digit = Int(group >> UInt32(18 - 6 * place)) & 63
                text.append(place <= count ? alphabet[digit] : UInt8(ascii: "="))
            }
            index += 3
        }
        return String(decoding: text, as: UTF8.self)
    }

    private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
}

/// Arithmetic of probabilities.
enum Probability {
    static func each(_ logarithms: [Float]) -> [Double] { logarithms.map { exp(Double($0)) } }

    /// Probabilities that sum to 1, in the proportions of `logarithms`; all the same if none is possible.
    static func softmax(_ logarithms: [Float]) -> [Double] {
        guard let largest = logarithms.max(), largest > -.infinity else {
            return logarithms.map { _ in 1 / Double(logarithms.count) }
        }
        let weights = logarithms.map { exp(Double($0) - Double(largest)) }
        let sum = weights.reduce(0, +)
        return weights.map { $0 / sum }
    }
}
