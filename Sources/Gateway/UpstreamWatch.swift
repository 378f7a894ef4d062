// Tandem — Apache-2.0

public import NIOCore
import NIOPosix
import Synchronization

/// What names the upstreams of a gateway without a supervisor.
public struct UpstreamSources: Sendable {
    /// Always there.
    public var addresses: [UpstreamAddress]
    /// Path of a file that is read again when it changes, and what it said at first.
    public var file: (path: String, content: RosterFile)?
    /// How often is looked whether the file changed.
    public var fileInterval = TimeAmount.seconds(1)
    /// How often the addresses of names are asked for.
    public var resolveInterval = TimeAmount.seconds(5)
    /// Whether the gateway has the model that Tandem's own engines need.
    public var takesEngines: Bool
    /// All addresses of a host name, as numbers. May block.
    public var resolve: @Sendable (String) throws(HostError) -> [String] = HostResolver.addresses

    public init(addresses: [UpstreamAddress], takesEngines: Bool) {
        self.addresses = addresses
        self.takesEngines = takesEngines
    }
}

/// Keeps the upstreams as their sources name them: looks whether the file changed and asks for the addresses of names.
/// What fails leaves everything as it was, and is said once.
///
/// Lives on one event loop; what blocks runs on other threads.
final class UpstreamWatch {
    private let eventLoop: any EventLoop
    private let sources: UpstreamSources
    private let workers: NIOThreadPool
    /// Apart from the workers, whom a name server that does not answer would keep from their work.
    private let resolvers = NIOThreadPool(numberOfThreads: 2)
    private let log: @Sendable (String) -> Void
    private let changed: @Sendable (UpstreamTable) -> Void
    private var table: UpstreamTable
    private var fingerprint: RosterFile.Fingerprint?
    private var isReading = false
    /// What was last said of the file; empty if nothing is wrong with it.
    private var trouble = ""
    private var asked: Set<UpstreamName> = []
    private var failing: Set<UpstreamName> = []
    private var hasResolvers = false
    private let address: ReturnAddress
    private var timers: [RepeatedTask] = []

    /// - Parameter changed: called with the upstreams at the start and whenever they are others.
    init(
        eventLoop: any EventLoop, sources: UpstreamSources, table: UpstreamTable, workers: NIOThreadPool,
        log: @escaping @Sendable (String) -> Void, changed: @escaping @Sendable (UpstreamTable) -> Void
    ) {
        self.eventLoop = eventLoop
        address = ReturnAddress(eventLoop)
        self.sources = sources
        self.table = table
        self.workers = workers
        self.log = log
        self.changed = changed
        fingerprint = sources.file?.content.fingerprint
    }

    /// Begins to watch; called once, on the event loop.
    func start() {
        changed(table)
        let watch = NIOLoopBound(self, eventLoop: eventLoop)
        if let file = sources.file {
            timers.append(
                eventLoop.scheduleRepeatedTask(initialDelay: sources.fileInterval, delay: sources.fileInterval) { _ in
                    watch.value.look(at: file.path)
                })
        }
        if sources.file != nil || !table.names.isEmpty {
            resolveAll()
            timers.append(
                eventLoop.scheduleRepeatedTask(
                    initialDelay: sources.resolveInterval, delay: sources.resolveInterval
                ) { _ in watch.value.resolveAll() })
        }
    }

    func shutdown() {
        for timer in timers { timer.cancel() }
        timers.removeAll()
        // Not waited for: a name server may take its time to say nothing, and the event loop may be gone by then.
        address.remove()
        if hasResolvers { resolvers.shutdownGracefully { _ in } }
    }

    // MARK: - File

    private enum Look: Sendable {
        case same
        case other(RosterFile)
        case bad(RosterError, RosterFile.Fingerprint?)
    }

    private func look(at path: String) {
        guard !isReading else { return }
        isReading = true
        let (known, takesEngines) = (fingerprint, sources.takesEngines)
        workers.runIfActive(eventLoop: eventLoop) { () -> Look in
            let seen = RosterFile.fingerprint(of: path)
            if let seen, seen == known { return .same }
            do throws(RosterError) {
                return .other(try RosterFile(path: path, takesEngines: takesEngines))
            } catch {
                return .bad(error, seen)
            }
        }.assumeIsolated().whenComplete { [self] outcome in
            isReading = false
            switch outcome {
            case .success(.other(let content)):
                fingerprint = content.fingerprint
                trouble = ""
                take(table.list(content.addresses), from: path)
                resolveAll()
            case .success(.bad(let error, let seen)):
                fingerprint = seen
                guard trouble != "\(error)" else { return }
                trouble = "\(error)"
                log("\(error); the endpoints stay as they were")
            case .success(.same), .failure:
                break
            }
        }
    }

    private func take(_ change: UpstreamTable.Change, from source: String) {
        guard !change.isEmpty else { return }
        let added = change.added.map { "+\($0)" }
        let removed = change.removed.map { "-\($0)" }
        log("\(source): \((added + removed).joined(separator: " "))")
        changed(table)
    }

    // MARK: - Names

    private func resolveAll() {
        for name in table.names where asked.insert(name).inserted { resolve(name) }
    }

    private func resolve(_ name: UpstreamName) {
        if !hasResolvers {
            hasResolvers = true
            resolvers.start()
        }
        let resolve = sources.resolve
        let watch = NIOLoopBound(self, eventLoop: eventLoop)
        resolvers.submit { [address] state in
            guard state == .active else { return }
            let outcome: Result<[String], HostError>
            do throws(HostError) {
                outcome = .success(try resolve(name.host))
            } catch {
                outcome = .failure(error)
            }
            address.execute { watch.value.resolved(name, outcome) }
        }
    }

    private func resolved(_ name: UpstreamName, _ outcome: Result<[String], HostError>) {
        asked.remove(name)
        switch outcome {
        case .success(let addresses):
            failing.remove(name)
            take(table.answer(addresses, for: name), from: "\(name)")
        case .failure(let error):
            if failing.insert(name).inserted { log("\(name): \(error); the endpoints stay as they were") }
        }
    }

    /// Where answers go that may come when nobody wants them any more, and when the event loop may be gone.
    final class ReturnAddress: Sendable {
        private let eventLoop: Mutex<(any EventLoop)?>

        init(_ eventLoop: any EventLoop) { self.eventLoop = Mutex(eventLoop) }

        func execute(_ body: @escaping @Sendable () -> Void) {
            eventLoop.withLock { $0?.execute(body) }
        }

        func remove() { eventLoop.withLock { $0 = nil } }
    }
}
