// Tandem — Apache-2.0

import Testing

@testable import Gateway

@Suite(.timeLimit(.minutes(10))) struct FrontDoorTests {
    /// Paths are compared as they are sent: nothing is decoded, joined or normalised on the way to an endpoint.
    @Test(arguments: [
        "/v1/../metrics", "//metrics", "/metrics/", "/%6detrics", "/v1/%2e%2e/metrics", "/./metrics", "/metrics;a=b",
        "/v1/models/../../metrics", "/v1/completions/", "/v1//models", "/V1/models", "/metrics%00", "/v1/models/%2e%2e",
    ]) func pathsAreTakenLiterally(path: String) async throws {
        try await MemoryBench.run([MemoryEngine(text: "a")]) { bench in
            let answer = try await bench.get(path)
            #expect(answer.status == 404, "\(answer.body.prefix(200))")
        }
    }
}
