// Tandem — Apache-2.0

import Testing

@testable import ModelStore

@Suite struct HubAnswerTests {
    private let reference = HubReference(organization: "org", name: "name", revision: "dev")

    private func endpoint(token: String? = nil, base: String = "https://huggingface.co") throws -> HubEndpoint {
        try HubEndpoint(environment: ["HF_ENDPOINT": base, "HF_TOKEN": token ?? ""])
    }

    // MARK: - Heads

    @Test func lastHeadCounts() {
        let dump = """
            HTTP/1.1 200 Connection established\r
            Retry-After: 1\r
            \r
            HTTP/2 429 \r
            x-error-code: GatedRepo\r
            X-Error-Message:   Too: many\r
            retry-after: 7\r
            \r

            """
        let head = HubHead(status: 429, dump: dump)
        #expect(head["X-Error-Code"] == "GatedRepo")
        #expect(head["x-error-message"] == "Too: many")
        #expect(head.secondsToWait == 7)
        #expect(HubHead(status: 200, dump: "HTTP/1.1 200 OK\n")["Retry-After"] == nil)
    }

    @Test func digestsOfLinkedFiles() {
        let digest = String(repeating: "a", count: 64)
        for tag in ["\"\(digest)\"", digest, "W/\"\(digest)\""] {
            #expect(HubHead(status: 302, headers: ["X-Linked-ETag": tag]).linkedContent == .sha256(digest))
        }
        for tag in ["", "\"\"", "\"abc\"", "\"../x\""] {
            #expect(HubHead(status: 302, headers: ["X-Linked-ETag": tag]).linkedContent == nil)
        }
        #expect(HubHead(status: 200, headers: ["ETag": digest]).linkedContent == nil)
    }

    @Test func pausesThatAreAskedFor() {
        #expect(HubHead(status: 429, headers: ["RateLimit": #""api";r=0;t=55"#]).secondsToWait == 55)
        #expect(HubHead(status: 429, headers: ["RateLimit": #""api"; r=0; t=55"#]).secondsToWait == 55)
        #expect(HubHead(status: 500, headers: ["RateLimit": #""api";r=10;t=55"#]).secondsToWait == nil)
        #expect(
            HubHead(status: 429, headers: ["RateLimit": #""api";r=0;t=55"#, "Retry-After": "3"]).secondsToWait == 3)
        for text in ["", "-1", "soon", "99999999999999999999", "Fri, 31 Dec 1999 23:59:59 GMT"] {
            #expect(HubHead(status: 429, headers: ["Retry-After": text]).secondsToWait == nil)
        }
    }

    // MARK: - Verdicts

    private func verdict(
        _ status: Int, _ code: String? = nil, message: String = "", token: String? = nil
    ) throws -> HubVerdict {
        var headers = ["X-Error-Message": message]
        headers["X-Error-Code"] = code
        return HubVerdict.of(
            HubHead(status: status, headers: headers), asking: "org/name/file", reference, try endpoint(token: token))
    }

    private func missing(token: Bool) -> HubVerdict {
        .failed(.noRepository("org/name", endpoint: "https://huggingface.co", hasToken: token))
    }

    @Test func codesOfTheHub() throws {
        #expect(try verdict(404, "RevisionNotFound") == .failed(.noRevision("org/name", revision: "dev")))
        #expect(try verdict(404, "RepoNotFound", token: "hf_x") == missing(token: true))
        #expect(try verdict(401, "RepoNotFound") == missing(token: false))
        #expect(try verdict(401) == missing(token: false))
        #expect(try verdict(404) == missing(token: false))
        let page = "https://huggingface.co/org/name"
        #expect(try verdict(401, "GatedRepo") == .failed(.gated("org/name", page: page, hasToken: false)))
        #expect(try verdict(403, "GatedRepo", token: "hf_x") == .failed(.gated("org/name", page: page, hasToken: true)))
        #expect(
            try verdict(401, message: "Invalid credentials in Authorization header", token: "hf_x")
                == .failed(.tokenRefused(endpoint: "https://huggingface.co")))
        #expect(
            try verdict(403, message: "No.\u{1B}[2J", token: "x") == .failed(.forbidden("org/name", message: "No.?[2J"))
        )
        for status in [408, 429, 500, 502, 503, 504] { #expect(try verdict(status) == .retry) }
        for status in [0, 200, 301, 400, 402, 416, 451, 600] {
            guard case .failed(.badAnswer("org/name/file", _)) = try verdict(status) else {
                Issue.record("\(status): \(try verdict(status))")
                continue
            }
        }
    }

    @Test func remediesAreTold() throws {
        let gated = HubError.gated("org/name", page: "https://huggingface.co/org/name", hasToken: false).description
        #expect(gated.contains("https://huggingface.co/org/name") && gated.contains("HF_TOKEN"))
        #expect(HubError.noRepository("a/b", endpoint: "e", hasToken: false).description.contains("set HF_TOKEN"))
    }

    // MARK: - Attempts

    @Test func attemptsAreBounded() {
        let policy = RetryPolicy()
        let pauses = (1...6).map { policy.decide(failures: $0, asked: nil) }
        #expect(
            pauses == [
                .wait(seconds: 1), .wait(seconds: 2), .wait(seconds: 4), .wait(seconds: 8), .giveUp, .giveUp,
            ])
        #expect(policy.decide(failures: 1, asked: 0) == .wait(seconds: 0))
        #expect(policy.decide(failures: 4, asked: 300) == .wait(seconds: 300))
        #expect(policy.decide(failures: 5, asked: 0) == .giveUp)
        #expect(policy.decide(failures: 1, asked: 301) == .tooLong(seconds: 301))
        #expect(RetryPolicy(maximumAttempts: 100).decide(failures: 99, asked: nil) == .wait(seconds: 16))
    }

    // MARK: - Addresses

    @Test func redirects() throws {
        let hub = try endpoint()
        let here = "https://HuggingFace.co:443/a?b"
        #expect(HubRedirect.decide(here, from: hub) == .sameServer(here))
        for other in [
            "https://cdn.example/x?Signature=a~b&c=d", "https://huggingface.co:8443/a", "https://huggingface.co.evil/a",
            "https://sub.huggingface.co/",
        ] {
            #expect(HubRedirect.decide(other, from: hub) == .otherServer(other))
        }
        // As the hub writes them for small files.
        #expect(
            HubRedirect.decide("https://huggingface.co/api/resolve-cache/x?etag=\"1 2\"", from: hub)
                == .sameServer("https://huggingface.co/api/resolve-cache/x?etag=%221%202%22"))
        for bad in [
            "http://huggingface.co/a", "http://cdn.example/", "", "/relative", "file:///etc/passwd", "ftp://h/",
            "https://", "https://user@huggingface.co/", "https://h:0/", "https://h:99999/",
            "https://h\"/", "https://h x/", "https://h/\n", "https://h/\\", "https://h\\.huggingface.co/",
            "https://h%2f/",
            "https://h/ü", "https://" + String(repeating: "a", count: 9000),
        ] {
            guard case .refused = HubRedirect.decide(bad, from: hub) else {
                Issue.record("\(bad.prefix(80)) was taken")
                continue
            }
        }
        let plain = try endpoint(base: "http://127.0.0.1:8080")
        #expect(HubRedirect.decide("http://127.0.0.1:8080/x", from: plain) == .sameServer("http://127.0.0.1:8080/x"))
        #expect(HubRedirect.decide("http://127.0.0.1:8081/x", from: plain) == .otherServer("http://127.0.0.1:8081/x"))
        #expect(HubRedirect.decide("https://127.0.0.1:8080/", from: plain) == .otherServer("https://127.0.0.1:8080/"))
        let six = try endpoint(base: "http://[::1]:8080")
        #expect(HubRedirect.decide("http://[::1]:8080/x", from: six) == .sameServer("http://[::1]:8080/x"))
    }

    @Test func settings() throws {
        let standard = try HubEndpoint(environment: [:])
        #expect(standard.base == "https://huggingface.co")
        #expect(standard.token == nil && !standard.isOffline)
        let other = try HubEndpoint(
            environment: ["HF_ENDPOINT": "http://mirror/hf//", "HF_TOKEN": " hf_x\n", "HF_HUB_OFFLINE": "True"])
        #expect(other.base == "http://mirror/hf")
        #expect(other.token == "hf_x" && other.isOffline)
        #expect(!(try HubEndpoint(environment: ["HF_HUB_OFFLINE": "0"]).isOffline))
        for base in ["huggingface.co", "ftp://h", "https://h?x", "https://user:secret@h", "https://h/\"", "https://"] {
            #expect(throws: ModelStoreError.self) { try HubEndpoint(environment: ["HF_ENDPOINT": base]) }
        }
        for token in ["hf_ä", "a\u{0}b", String(repeating: "a", count: 5000)] {
            do {
                _ = try HubEndpoint(environment: ["HF_TOKEN": token])
                Issue.record("taken")
            } catch {
                #expect(!error.description.contains(token))
            }
        }
        do {
            _ = try HubEndpoint(environment: ["HF_ENDPOINT": "https://me:secret@h"])
            Issue.record("taken")
        } catch {
            #expect(!error.description.contains("secret"))
        }
    }

    @Test func addressesAreEncoded() throws {
        let hub = try endpoint(base: "https://h/p")
        let commit = String(repeating: "1", count: 40)
        let request = HubReference(organization: "org", name: "name", revision: "refs/pr/1")
        #expect(hub.revisionAddress(request) == "https://h/p/api/models/org/name/revision/refs%2Fpr%2F1")
        #expect(
            hub.treeAddress(request, commit: commit, query: nil)
                == "https://h/p/api/models/org/name/tree/\(commit)?recursive=true")
        #expect(
            hub.treeAddress(request, commit: commit, query: "cursor=x")
                == "https://h/p/api/models/org/name/tree/\(commit)?cursor=x")
        #expect(
            hub.fileAddress(request, commit: commit, path: "a b/ü?#%.gguf")
                == "https://h/p/org/name/resolve/\(commit)/a%20b/%C3%BC%3F%23%25.gguf")
    }
}
