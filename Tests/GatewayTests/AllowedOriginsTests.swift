// Tandem — Apache-2.0

import Testing

@testable import Gateway

@Suite(.timeLimit(.minutes(10))) struct AllowedOriginsTests {
    static let page = "Origin: https://chat.example.org\r\n"
    static let preflight =
        page + "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization, content-type\r\n"

    static func bench(_ origins: [String], _ body: (MemoryBench) async throws -> Void) async throws {
        try await MemoryBench.run(
            [MemoryEngine(text: "a")],
            configure: { configuration in
                configuration.allowedOrigins = AllowedOrigins(origins)
                configuration.apiKeys = ["k"]
            }, body)
    }

    static func value(_ name: String, _ answer: TestClient.Answer) -> String? {
        answer.headers.split(whereSeparator: \.isNewline).first { $0.hasPrefix("\(name): ") }
            .map { String($0.dropFirst(name.count + 2)) }
    }

    @Test func withoutOriginsNothingIsSaid() async throws {
        try await Self.bench([]) { bench in
            let health = try await bench.client.get("/health", headers: Self.page)
            #expect(Self.value("Access-Control-Allow-Origin", health) == nil)
            let asked = try await bench.client.get("/v1/completions", method: "OPTIONS", headers: Self.preflight)
            #expect(asked.status == 401)
        }
    }

    @Test(arguments: [["*"], ["https://other.example", "https://Chat.example.org"]])
    func aPageMayAsk(_ origins: [String]) async throws {
        try await Self.bench(origins) { bench in
            let asked = try await bench.client.get("/v1/chat/completions", method: "OPTIONS", headers: Self.preflight)
            #expect(asked.status == 204 && asked.body.isEmpty)
            let allowed = origins == ["*"] ? "*" : "https://chat.example.org"
            #expect(Self.value("Access-Control-Allow-Origin", asked) == allowed)
            #expect(Self.value("Access-Control-Allow-Headers", asked) == "authorization, content-type")
            #expect(Self.value("Access-Control-Allow-Methods", asked) == "GET, HEAD, POST")
            // Errors, too, are for the page to read.
            let refused = try await bench.client.get("/v1/models", headers: Self.page)
            #expect(refused.status == 401 && Self.value("Access-Control-Allow-Origin", refused) == allowed)
            #expect(Self.value("Vary", refused) == (origins == ["*"] ? nil : "Origin"))
        }
    }

    @Test func anotherPageMayNot() async throws {
        try await Self.bench(["https://other.example"]) { bench in
            let asked = try await bench.client.get("/v1/completions", method: "OPTIONS", headers: Self.preflight)
            #expect(asked.status == 401 && Self.value("Access-Control-Allow-Origin", asked) == nil)
            #expect(Self.value("Vary", asked) == "Origin")
        }
    }
}
