// Tandem — Apache-2.0

internal import Glibc

/// The functions of `math.h` that the model needs, in one place.
func exponential(_ value: Double) -> Double { exp(value) }

func logarithm(_ value: Double) -> Double { log(value) }

func power(_ base: Double, _ exponent: Double) -> Double { pow(base, exponent) }
