// Tandem — Apache-2.0

/// A moment in UTC by the Gregorian calendar, as templates print it.
struct TemplateTime {
    let year: Int64
    /// From 1.
    let month: Int64
    /// From 1.
    let day: Int64
    let hour: Int64
    let minute: Int64
    let second: Int64
    /// From 0, a Sunday.
    let weekday: Int64
    /// From 1.
    let dayOfYear: Int64

    /// - Parameter secondsSince1970: within ten thousand years of it; others are taken as the nearest that is.
    init(secondsSince1970: Int64) {
        let seconds = min(max(secondsSince1970, -60_000_000_000), 250_000_000_000)
        let secondOfDay = seconds - Self.floorDivide(seconds, 86_400) * 86_400
        let days = Self.floorDivide(seconds, 86_400)
        hour = secondOfDay / 3600
        minute = secondOfDay / 60 % 60
        second = secondOfDay % 60
        weekday = (days + 4) - Self.floorDivide(days + 4, 7) * 7
        // Years are counted from 1 March, so that the leap day is their last, within cycles of 400 years.
        let shifted = days + 719_468
        let cycle = Self.floorDivide(shifted, 146_097)
        let dayOfCycle = shifted - cycle * 146_097
        let yearOfCycle = (dayOfCycle - dayOfCycle / 1460 + dayOfCycle / 36_524 - dayOfCycle / 146_096) / 365
        let dayFromMarch = dayOfCycle - (365 * yearOfCycle + yearOfCycle / 4 - yearOfCycle / 100)
        let monthFromMarch = (5 * dayFromMarch + 2) / 153
        day = dayFromMarch - (153 * monthFromMarch + 2) / 5 + 1
        month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9
        year = yearOfCycle + cycle * 400 + (month <= 2 ? 1 : 0)
        let isLeap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0
        dayOfYear = month <= 2 ? dayFromMarch - 305 : dayFromMarch + 60 + (isLeap ? 0 : -1) + 1
    }

    private static func floorDivide(_ value: Int64, _ divisor: Int64) -> Int64 {
        value >= 0 ? value / divisor : (value + 1) / divisor - 1
    }

    private static let months = [
        "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
        "December",
    ]
    private static let weekdays = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]

    /// Python's `datetime.strftime` on Linux in the C locale, for a time without zone.
    ///
    /// - Returns: nil for a directive that is not supported.
    func text(format: String) -> String? {
        var result = ""
        var scalars = Substring(format).unicodeScalars
        while let scalar = scalars.popFirst() {
            guard scalar == "%" else {
                result.unicodeScalars.append(scalar)
                continue
            }
            guard var directive = scalars.popFirst() else { return nil }
            var padding: Character?
            var isPadded = true
            if directive == "-" || directive == "_" {
                isPadded = directive != "-"
                padding = " "
                guard let next = scalars.popFirst() else { return nil }
                directive = next
            }
            guard let part = part(directive, padding: padding, isPadded: isPadded) else { return nil }
            result += part
        }
        return result
    }

    private func part(_ directive: Unicode.Scalar, padding: Character?, isPadded: Bool) -> String? {
        func number(_ value: Int64, _ width: Int, _ usual: Character = "0") -> String {
            let digits = String(value)
            guard isPadded, digits.utf8.count < width else { return digits }
            return String(repeating: padding ?? usual, count: width - digits.utf8.count) + digits
        }
        let hour12 = hour % 12 == 0 ? 12 : hour % 12
        let monthName = Self.months[Int(month - 1)]
        let weekdayName = Self.weekdays[Int(weekday)]
        switch directive {
        case "Y": return String(year)
        case "y": return number((year % 100 + 100) % 100, 2)
        case "C": return number(year / 100, 2)
        case "m": return number(month, 2)
        case "d": return number(day, 2)
        case "e": return number(day, 2, " ")
        case "j": return number(dayOfYear, 3)
        case "H": return number(hour, 2)
        case "I": return number(hour12, 2)
        case "k": return number(hour, 2, " ")
        case "l": return number(hour12, 2, " ")
        case "M": return number(minute, 2)
        case "S": return number(second, 2)
        case "f": return "000000"
        case "u": return String(weekday == 0 ? 7 : weekday)
        case "w": return String(weekday)
        case "B": return monthName
        case "b", "h": return String(monthName.prefix(3))
        case "A": return weekdayName
        case "a": return String(weekdayName.prefix(3))
        case "p": return hour < 12 ? "AM" : "PM"
        case "P": return hour < 12 ? "am" : "pm"
        case "F": return text(format: "%Y-%m-%d")
        case "T", "X": return text(format: "%H:%M:%S")
        case "R": return text(format: "%H:%M")
        case "D", "x": return text(format: "%m/%d/%y")
        case "c": return text(format: "%a %b %e %H:%M:%S %Y")
        case "r": return text(format: "%I:%M:%S %p")
        case "z", "Z": return ""
        case "n": return "\n"
        case "t": return "\t"
        case "%": return "%"
        default: return nil
        }
    }
}
