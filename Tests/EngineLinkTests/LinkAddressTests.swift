// Tandem — Apache-2.0

import EngineLink
import Testing

@Suite struct LinkAddressTests {
    @Test func addressesAreReadAndWritten() throws {
        let cases: [(String, LinkAddress)] = [
            ("link+unix:/run/tandem/engine-0.sock", .unix(path: "/run/tandem/engine-0.sock")),
            ("link+tcp:node7:9000", .tcp(host: "node7", port: 9000)),
            ("link+tcp:[::1]:9000", .tcp(host: "::1", port: 9000)),
        ]
        for (text, address) in cases {
            #expect(try LinkAddress(text) == address)
            #expect(address.description == text)
        }
    }

    @Test(arguments: [
        "", "/run/engine.sock", "http://localhost:1", "link+unix:", "link+tcp:", "link+tcp:host", "link+tcp::9000",
        "link+tcp:host:65536", "link+tcp:host:-1", "link+tcp:::1:9000", "link+tcp:host:http", "link+tcp:[]:1",
        "link+unix:/" + String(repeating: "x", count: 107), "link+unix:/a\u{0}b",
    ])
    func badAddressesAreRefused(_ text: String) {
        let error = #expect(throws: LinkAddressError.self) { try LinkAddress(text) }
        #expect(error?.address == text)
    }
}

@Suite struct ReconnectBackoffTests {
    @Test func delaysDoubleUpToTheMaximum() {
        var backoff = ReconnectBackoff(initial: .milliseconds(100), maximum: .milliseconds(900))
        let delays = (0..<6).map { _ in backoff.failed(jitter: 0) }
        #expect(delays == [100, 200, 400, 800, 900, 900].map { .milliseconds($0) })
        backoff.succeeded()
        #expect(backoff.failures == 0)
        #expect(backoff.failed(jitter: 1) == .milliseconds(75))
        #expect(backoff.failed(jitter: .nan) == .milliseconds(200))
    }
}
