// Tandem — Apache-2.0

/// Asks a hub, through `curl`.
struct HubClient {
    var endpoint: HubEndpoint
    var reference: HubReference
    var tools: ToolProcess
    /// The file of the program.
    var curl: String
    /// For the program: proxies and certificates, no token.
    var environment: [String: String]
    /// For answers; ours alone.
    var workDirectory: String
    var clock: PullClock
    var retries = RetryPolicy()

    private static let userAgent = "tandem-pull"
    private static let maximumRedirects = 5
    private static let maximumHeadBytes = 1 << 18
    /// As much as an attempt must bring to count as progress.
    private static let progressBytes: UInt64 = 1 << 20

    // MARK: - Answers in JSON

    /// What a revision is.
    func revision(signals: borrowing SignalWatch, progress: (PullEvent) -> Void) throws(ModelStoreError) -> HubRevision
    {
        let address = endpoint.revisionAddress(reference)
        let (bytes, _) = try answer(address, about: reference.text, signals: signals, progress: progress)
        do throws(HubAnswerError) {
            return try HubRevision(bytes)
        } catch {
            throw .hub(.badAnswer(address, reason: error.reason))
        }
    }

    /// The files of a commit.
    func files(
        of commit: String, signals: borrowing SignalWatch, progress: (PullEvent) -> Void
    ) throws(ModelStoreError) -> [HubFile] {
        var files: [HubFile] = []
        var query: String?
        for _ in 0..<HubListingPage.maximumPages {
            let address = endpoint.treeAddress(reference, commit: commit, query: query)
            let (bytes, head) = try answer(address, about: reference.text, signals: signals, progress: progress)
            do throws(HubAnswerError) {
                files += try HubListingPage(bytes).files
            } catch {
                throw .hub(.badAnswer(address, reason: error.reason))
            }
            guard files.count <= HubListingPage.maximumFiles else { break }
            query = HubListingPage.nextQuery(link: head["Link"])
            if query == nil { return files }
        }
        throw .hub(.badAnswer(reference.repository, reason: "it has more than \(HubListingPage.maximumFiles) files"))
    }

    private func answer(
        _ address: String, about what: String, signals: borrowing SignalWatch, progress: (PullEvent) -> Void
    ) throws(ModelStoreError) -> ([UInt8], HubHead) {
        let output = workDirectory + "/answer"
        return try trying(about: what, signals: signals, progress: progress) {
            () throws(ModelStoreError) -> Attempt<([UInt8], HubHead)> in
            var address = address
            for _ in 0...Self.maximumRedirects {
                var request = request(address, output: output)
                request.token = endpoint.token
                request.maximumSeconds = 300
                let reply = try run(request, signals: signals) {
                    (FileStatus(path: output)?.byteCount ?? 0) <= UInt64(maximumAnswerBytes)
                }
                if reply.exit == .done, (300...399).contains(reply.head.status) {
                    address = try sameServer(reply, about: what)
                    continue
                }
                if reply.exit == .done, reply.head.status == 200 {
                    guard let bytes = Files.bytes(of: output, limit: maximumAnswerBytes) else {
                        throw .hub(.badAnswer(what, reason: "the hub's answer is too long"))
                    }
                    return .done((bytes, reply.head))
                }
                guard FileStatus(path: output)?.byteCount ?? 0 <= UInt64(maximumAnswerBytes) else {
                    throw .hub(.badAnswer(what, reason: "the hub's answer is too long"))
                }
                return try failure(reply, about: what)
            }
            throw .hub(.badAnswer(what, reason: "the hub points from one place to the next without end"))
        }
    }

    private func sameServer(_ reply: Reply, about what: String) throws(ModelStoreError) -> String {
        switch HubRedirect.decide(reply.redirect ?? "", from: endpoint) {
        case .sameServer(let address): return address
        case .otherServer(let address):
            throw .hub(
                .badAnswer(
                    what,
                    reason: "the hub points to another server, \(HubAddress(address)?.host ?? "")"))
        case .refused(let reason): throw .hub(.badAnswer(what, reason: reason))
        }
    }

    // MARK: - Files

    /// Fetches what is missing of a file at `partial`, which holds nothing else than its beginning.
    func fetch(
        _ file: HubFile, commit: String, to partial: String, signals: borrowing SignalWatch,
        progress: (PullEvent) -> Void
    ) throws(ModelStoreError) {
        let what = "\(reference.repository)/\(file.path)"
        let began = clock.now()
        let resumed = FileStatus(path: partial)?.byteCount ?? 0
        func report(_ received: UInt64) {
            progress(
                .fetching(
                    FetchProgress(
                        file: file.path, received: received, total: file.byteCount, resumedAt: min(resumed, received),
                        nanoseconds: clock.now() &- began)))
        }
        try trying(about: what, signals: signals, progress: progress) { () throws(ModelStoreError) -> Attempt<Void> in
            var present = FileStatus(path: partial)?.byteCount ?? 0
            if present > file.byteCount {
                Files.removeTree(partial)
                present = 0
            }
            report(present)
            if present == file.byteCount, FileStatus(path: partial) != nil { return .done(()) }
            let place = try locate(file, commit: commit, about: what, signals: signals)
            guard case .done(let source) = place else { return place.failed() }

            var request = request(source.address, output: partial)
            request.token = source.isOurs ? endpoint.token : nil
            request.offset = present
            request.isContent = true
            let reply = try run(request, signals: signals) {
                let received = FileStatus(path: partial)?.byteCount ?? 0
                report(min(received, file.byteCount))
                return received <= file.byteCount
            }
            let received = FileStatus(path: partial)?.byteCount ?? 0
            let isProgress = received >= present &+ Self.progressBytes
            guard received <= file.byteCount else {
                Files.removeTree(partial)
                throw .wrongSize(file: what, expected: file.byteCount, found: received)
            }
            switch reply.exit {
            case .done where (200...299).contains(reply.head.status) && received == file.byteCount:
                report(received)
                return .done(())
            case .done where (300...399).contains(reply.head.status):
                Files.removeTree(partial)
                throw .hub(.badAnswer(what, reason: "the hub points elsewhere when asked for the content"))
            case .noRanges:
                Files.removeTree(partial)
                return .again(reason: "the server sends it only from its beginning", status: reply.head.status)
            case .notWritten:
                throw notWritten(partial, missing: file.byteCount - received)
            case .refused where reply.head.status == 416:
                Files.removeTree(partial)
                return .again(reason: "the server has less of it than is here", status: 416)
            case .refused where !source.isOurs && reply.head.status < 500:
                // The address was good for some time only; the next attempt gets another.
                return .again(
                    reason: "the server of the content answered \(reply.head.status)", status: reply.head.status)
            case .done where (200...299).contains(reply.head.status):
                return .again(
                    reason: "\(Printable.text(file.path)) ended after \(received) of \(file.byteCount) bytes",
                    status: 0,
                    isProgress: isProgress)
            default:
                return try failure(reply, about: what, isProgress: isProgress)
            }
        }
    }

    private struct Source {
        var address: String
        /// Whether it is the hub itself.
        var isOurs: Bool
    }

    /// Where the content of a file is. The hub is asked for the head alone and followed by hand, so that the token goes
    /// to no other server, whatever version of curl this is.
    private func locate(
        _ file: HubFile, commit: String, about what: String, signals: borrowing SignalWatch
    ) throws(ModelStoreError) -> Attempt<Source> {
        var address = endpoint.fileAddress(reference, commit: commit, path: file.path)
        for _ in 0...Self.maximumRedirects {
            var request = request(address, output: "/dev/null")
            request.isHead = true
            request.token = endpoint.token
            request.maximumSeconds = 120
            let reply = try run(request, signals: signals) { true }
            guard reply.exit == .done, (200...399).contains(reply.head.status) else {
                return try failure(reply, about: what)
            }
            if let content = reply.head.linkedContent, content != file.content {
                throw .hub(.changed(reference.repository, file: file.path))
            }
            guard reply.head.status >= 300 else { return .done(Source(address: address, isOurs: true)) }
            switch HubRedirect.decide(reply.redirect ?? "", from: endpoint) {
            case .sameServer(let next): address = next
            case .otherServer(let next): return .done(Source(address: next, isOurs: false))
            case .refused(let reason): throw .hub(.badAnswer(what, reason: reason))
            }
        }
        throw .hub(.badAnswer(what, reason: "the hub points from one place to the next without end"))
    }

    private func notWritten(_ path: String, missing: UInt64) -> ModelStoreError {
        let available = Files.availableBytes(at: workDirectory)
        if let available, available > missing &+ (1 << 20) {
            return .hub(.badAnswer(path, reason: "it cannot be written"))
        }
        return .diskFull(path: path, neededBytes: missing, availableBytes: available)
    }

    // MARK: - Attempts

    private enum Attempt<Value> {
        case done(Value)
        /// - Parameters:
        ///   - status: of the answer; 0 without one.
        ///   - asked: seconds that the hub asks to wait.
        ///   - isProgress: whether something came, so that counting begins anew.
        case again(reason: String, status: Int, asked: Int? = nil, isProgress: Bool = false)

        /// The same for another value; only failures have one.
        func failed<Other>() -> Attempt<Other> {
            guard case .again(let reason, let status, let asked, let isProgress) = self else {
                return .again(reason: "nothing came", status: 0)
            }
            return .again(reason: reason, status: status, asked: asked, isProgress: isProgress)
        }
    }

    private func trying<Value>(
        about what: String, signals: borrowing SignalWatch, progress: (PullEvent) -> Void,
        _ body: () throws(ModelStoreError) -> Attempt<Value>
    ) throws(ModelStoreError) -> Value {
        var failures = 0
        while true {
            switch try body() {
            case .done(let value):
                return value
            case .again(let reason, let status, let asked, let isProgress):
                failures = isProgress ? 1 : failures + 1
                switch retries.decide(failures: failures, asked: asked) {
                case .wait(let seconds):
                    progress(.retrying(reason: reason, seconds: seconds))
                    if seconds > 0 { clock.wait(seconds, signals.descriptor) }
                    if let signal = signals.next() { throw .interrupted(signal: signal) }
                case .giveUp where status == 0:
                    throw .hub(.unreachable(endpoint: endpoint.base, reason: reason))
                case .giveUp:
                    throw .hub(.unavailable(what, status: status, attempts: failures))
                case .tooLong(let seconds):
                    throw .hub(
                        .rateLimited(endpoint: endpoint.base, seconds: seconds, hasToken: endpoint.token != nil))
                }
            }
        }
    }

    /// What to do about an answer that is none, or an error.
    private func failure<Value>(
        _ reply: Reply, about what: String, isProgress: Bool = false
    ) throws(ModelStoreError) -> Attempt<Value> {
        switch reply.exit {
        case .transient:
            // A connection that broke is no answer, whatever its head said.
            return .again(reason: reply.message, status: 0, isProgress: isProgress)
        case .notWritten:
            throw notWritten(workDirectory, missing: 1 << 20)
        case .hopeless, .noRanges:
            throw .hub(.unreachable(endpoint: endpoint.base, reason: reply.message))
        case .refused, .done:
            switch HubVerdict.of(reply.head, asking: what, reference, endpoint) {
            case .failed(let error): throw .hub(error)
            case .retry:
                return .again(
                    reason: "the hub answered \(reply.head.status)", status: reply.head.status,
                    asked: reply.head.secondsToWait)
            }
        }
    }

    // MARK: - curl

    private struct Reply {
        var exit: CurlExit
        var head: HubHead
        var redirect: String?
        /// What curl said last, printable.
        var message: String
    }

    private func request(_ address: String, output: String) -> CurlRequest {
        CurlRequest(
            address: address, output: output, heads: workDirectory + "/heads",
            allowsPlain: !endpoint.address.isEncrypted)
    }

    private func run(
        _ request: CurlRequest, signals: borrowing SignalWatch, tick: () -> Bool
    ) throws(ModelStoreError) -> Reply {
        Files.removeTree(request.heads)
        if request.output == workDirectory + "/answer" { Files.removeTree(request.output) }
        // The first argument keeps the user's .curlrc out, which may turn on what would show the token.
        let outcome = try tools.run(
            curl, ["--disable", "--config", "-"], environment: environment,
            input: request.configuration(userAgent: Self.userAgent), signals: signals, tick: tick)
        let report = CurlRequest.Report(outcome.output)
        let dump = Files.bytes(of: request.heads, limit: Self.maximumHeadBytes) ?? []
        let end = outcome.signal == 0 ? "ended with \(outcome.exitCode)" : "was ended by signal \(outcome.signal)"
        return Reply(
            exit: CurlExit(outcome),
            head: HubHead(status: report.status, dump: String(decoding: dump, as: UTF8.self)),
            redirect: report.redirect,
            message: Printable.text(report.message.isEmpty ? "curl \(end)" : report.message))
    }
}
