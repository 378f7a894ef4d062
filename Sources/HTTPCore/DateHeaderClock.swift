// Tandem — Apache-2.0

import Glibc
import Synchronization

/// The value of the Date header, made once a second.
final class DateHeaderClock: Sendable {
    private let cached = Mutex<(second: Int, text: String)>((second: .min, text: ""))

    /// The current date in the form of RFC 9110, section 5.6.7.
    func now() -> String {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME_COARSE, &time)
        let second = time.tv_sec
        return cached.withLock { cached in
            if cached.second != second { cached = (second, Self.format(secondsSinceEpoch: second)) }
            return cached.text
        }
    }

    /// For example `Sun, 06 Nov 1994 08:49:37 GMT`.
    ///
    /// The civil date is computed in years that begin in March, so that the leap day is a year's last.
    static func format(secondsSinceEpoch: Int) -> String {
        func floorDivide(_ value: Int, _ divisor: Int) -> (quotient: Int, remainder: Int) {
            let (quotient, remainder) = value.quotientAndRemainder(dividingBy: divisor)
            return remainder < 0 ? (quotient - 1, remainder + divisor) : (quotient, remainder)
        }
        let (days, secondOfDay) = floorDivide(secondsSinceEpoch, 86_400)
        // Days since 1 March of the year 0, in eras of 400 years.
        let (era, dayOfEra) = floorDivide(days + 719_468, 146_097)
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let marchMonth = (5 * dayOfYear + 2) / 153
        let day = dayOfYear - (153 * marchMonth + 2) / 5 + 1
        let month = marchMonth < 10 ? marchMonth + 3 : marchMonth - 9
        let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
        let weekday = floorDivide(days + 4, 7).remainder
        return "\(weekdays[weekday]), \(padded(day)) \(months[month - 1]) \(padded(year, 4)) "
            + "\(padded(secondOfDay / 3600)):\(padded(secondOfDay / 60 % 60)):\(padded(secondOfDay % 60)) GMT"
    }

    private static let weekdays = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
    private static let months = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ]

    private static func padded(_ number: Int, _ width: Int = 2) -> String {
        let digits = String(number)
        return String(repeating: "0", count: max(0, width - digits.count)) + digits
    }
}
