// Tandem — Apache-2.0

/// The formats of strings, as regular expressions for the whole string. Some describe less than their standards do, and
/// none describes more.
enum StringFormats {
    static let patterns: [String: String] = [
        "date": date,
        "time": time,
        "date-time": "(?:\(date))[Tt](?:\(time))",
        "duration": "P(?:\\d{1,9}W|(?:\(days))(?:T(?:\(times)))?|T(?:\(times)))",
        "uuid": "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}",
        "ipv4": ipv4,
        "ipv6": ipv6,
        "hostname": hostname,
        "email": "(?:\(atom)\\.){0,2}\(atom)@\(hostname)",
        "uri": uri,
        "json-pointer": "(?:/(?:[^~/]|~[01])*)*",
    ]

    private static let date = "\(days31)|\(year)-02-(?:0[1-9]|1\\d|2[0-8])|\(leapYear)-02-29"
    private static let days31 =
        "\(year)-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\\d|30))"
    private static let year = "(?:[1-9]\\d{3}|0[1-9]\\d{2}|00[1-9]\\d|000[1-9])"
    private static let leapYear =
        "(?:\\d{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"

    // Without leap seconds: whether there is one depends on the date and the offset.
    private static let time =
        "(?:[01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(?:\\.\\d{1,9})?(?:[Zz]|[+-](?:[01]\\d|2[0-3]):[0-5]\\d)"

    private static let days =
        "\\d{1,9}Y(?:\\d{1,9}M(?:\\d{1,9}D)?)?|\\d{1,9}M(?:\\d{1,9}D)?|\\d{1,9}D"
    private static let times =
        "\\d{1,9}H(?:\\d{1,9}M(?:\\d{1,9}S)?)?|\\d{1,9}M(?:\\d{1,9}S)?|\\d{1,9}S"

    private static let byte = "(?:\\d|[1-9]\\d|1\\d\\d|2[0-4]\\d|25[0-5])"
    private static let ipv4 = "\(byte)\\.\(byte)\\.\(byte)\\.\(byte)"
    private static let h = "[0-9a-fA-F]{1,4}"

    /// All places of the double colon; without embedded IPv4 addresses and zones.
    private static let ipv6: String = {
        var forms = ["(?:\(h):){7}\(h)", "::", "::(?:\(h):){0,6}\(h)", "(?:\(h):){1,7}:"]
        for before in 1...6 { forms.append("(?:\(h):){\(before)}(?::\(h)){1,\(7 - before)}") }
        return forms.joined(separator: "|")
    }()

    // Labels of up to four words with hyphens between, at most 63 characters each, the last beginning with a letter;
    // 253 characters in all.
    private static let label = "(?:[A-Za-z0-9]{1,12}-){0,3}[A-Za-z0-9]{1,20}"
    private static let hostname = "(?:\(label)\\.){0,3}[A-Za-z][A-Za-z0-9]{0,20}"
    private static let atom = "[A-Za-z0-9_+-]{1,20}"

    private static let segment = "(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})"
    private static let authority = "(?:\(hostname)|\(ipv4))(?::\\d{1,5})?"
    private static let uri =
        "[A-Za-z][A-Za-z0-9+.-]{0,15}:(?://\(authority)(?:/\(segment)*)*|\(segment)+(?:/\(segment)*)*)"
        + "(?:\\?(?:\(segment)|[/?])*)?(?:#(?:\(segment)|[/?])*)?"
}
