// Tandem — Apache-2.0

/// The dashboard: one page that asks for nothing but this server.
enum DashboardPage {
    /// - Parameter nonce: what the policy of the answer permits scripts and styles by.
    static func bytes(nonce: String) -> [UInt8] {
        var page: [UInt8] = []
        for part in [
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Tandem</title>",
            "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">",
            "<meta name=\"color-scheme\" content=\"light dark\">",
            "<link rel=\"icon\" href=\"data:image/svg+xml,\(icon)\">",
            "<style nonce=\"\(nonce)\">", style, "</style></head>", markup,
            "<script nonce=\"\(nonce)\">", script, deviceScript, "</script></body></html>\n",
        ] {
            page.append(contentsOf: part.utf8)
        }
        return page
    }

    private static let icon =
        "%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Ccircle cx='5' cy='8' r='4' "
        + "fill='%232f6fde'/%3E%3Ccircle cx='11' cy='8' r='4' fill='%23e08a1e'/%3E%3C/svg%3E"
}
