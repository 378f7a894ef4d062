// Tandem — Apache-2.0

import Glibc

extension Double {
    var exponential: Double { exp(self) }
    /// To base e.
    var logarithm: Double { log(self) }

    func power(_ exponent: Double) -> Double { pow(self, exponent) }
}
