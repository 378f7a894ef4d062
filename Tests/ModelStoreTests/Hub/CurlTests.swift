// Tandem — Apache-2.0

import Testing

@testable import ModelStore

@Suite struct CurlTests {
    private func lines(_ request: CurlRequest) -> [String] {
        String(decoding: request.configuration(userAgent: "t"), as: UTF8.self).split(separator: "\n").map(String.init)
    }

    private let plain = CurlRequest(address: "https://h/a", output: "/o", heads: "/h", allowsPlain: false)

    @Test func tokensAndRedirectsExcludeEachOther() {
        var request = plain
        #expect(lines(request).contains("location"))
        request.token = "hf_x"
        #expect(lines(request).contains(#"header = "Authorization: Bearer hf_x""#))
        #expect(!lines(request).contains("location"))
        request.token = nil
        request.isHead = true
        #expect(!lines(request).contains("location"))
    }

    @Test func protocolsAreFew() {
        #expect(lines(plain).contains(#"proto = "=https""#))
        #expect(lines(plain).contains(#"proto-redir = "=https""#))
        var request = plain
        request.allowsPlain = true
        #expect(lines(request).contains(#"proto = "=http,https""#))
    }

    @Test func contentIsResumedAndKeptClean() {
        var request = plain
        #expect(!lines(request).contains { $0.hasPrefix("continue-at") || $0 == "fail" })
        request.isContent = true
        request.offset = 12
        #expect(lines(request).contains(#"continue-at = "12""#))
        #expect(lines(request).contains("fail"))
    }

    /// Nothing from outside ends a line or a quotation, and so adds an option.
    @Test func quotationsHold() {
        let request = CurlRequest(
            address: "https://h/\"\nupload-file = \"/etc/passwd", output: "/a\\\"\r\n\tb", heads: "/h",
            allowsPlain: false)
        #expect(lines(request).contains(#"url = "https://h/\"\nupload-file = \"/etc/passwd""#))
        #expect(lines(request).contains(#"output = "/a\\\"\r\n\tb""#))
    }

    @Test func reportsAreRead() {
        let report = CurlRequest.Report(
            "\ntandem-status: 302 https://cdn/x?a=b c\ncurl: (33) HTTP server doesn't seem to support byte ranges.\n")
        #expect(report.status == 302)
        #expect(report.redirect == "https://cdn/x?a=b c")
        #expect(report.message == "HTTP server doesn't seem to support byte ranges")
        let advice = CurlRequest.Report(
            "curl: (60) SSL certificate problem\nMore details here: …\nto fix it, visit it.\n")
        #expect(advice.message == "SSL certificate problem")
        #expect(CurlRequest.Report("tandem-status: 200 \n").redirect == nil)
        #expect(CurlRequest.Report("").status == 0)
    }

    @Test func exitCodes() {
        func exit(_ code: Int32, signal: Int32 = 0) -> CurlExit {
            CurlExit(ToolProcess.Outcome(exitCode: code, signal: signal, output: ""))
        }
        #expect(exit(0) == .done)
        #expect(exit(22) == .refused)
        #expect(exit(33) == .noRanges)
        #expect(exit(23) == .notWritten)
        for code: Int32 in [6, 7, 18, 28, 35, 52, 56, 92] { #expect(exit(code) == .transient) }
        // A malformed address, a protocol that is not allowed, a certificate that cannot be trusted.
        for code: Int32 in [1, 3, 60, 77] { #expect(exit(code) == .hopeless) }
        #expect(exit(0, signal: 9) == .hopeless)
    }
}
