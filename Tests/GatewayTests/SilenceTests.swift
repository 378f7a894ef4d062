// Tandem — Apache-2.0

import EngineLink
import NIOCore
import NIOEmbedded
import Requests
import Routing
import Synchronization
import Testing

@testable import Gateway

@Suite struct SilenceWatchTests {
    private func time(_ milliseconds: Int64) -> NIODeadline { .uptimeNanoseconds(0) + .milliseconds(milliseconds) }

    /// Ticks at these multiples of 250 ms.
    private func ticks(_ watch: inout SilenceWatch, _ range: ClosedRange<Int64>) -> [Bool] {
        range.map { watch.tick(now: time($0 * 250)) }
    }

    @Test func silenceAddsUpUntilSomethingIsHeard() {
        var watch = SilenceWatch(limit: .seconds(2), now: time(0))
        #expect(ticks(&watch, 1...7).allSatisfy { !$0 })
        watch.heard()
        #expect(ticks(&watch, 8...15) == [false, false, false, false, false, false, false, true])
    }

    @Test func aTickThatComesLateIsOneTick() {
        var watch = SilenceWatch(limit: .seconds(2), now: time(0))
        #expect(ticks(&watch, 240...240) == [false])
        #expect(watch.silence == .milliseconds(250))
        #expect(ticks(&watch, 241...247) == [false, false, false, false, false, false, true])
    }

    @Test func patienceStretchesTheLimit() {
        var watch = SilenceWatch(limit: .seconds(2), now: time(0))
        var ticks: Int64 = 0
        repeat { ticks += 1 } while !watch.tick(now: time(ticks * 250), patience: 5)
        #expect(ticks == 40)
    }
}

/// Links of a pool as the test drives them.
private final class FakeLinks: Sendable {
    final class Link: PoolLink {
        let address: LinkAddress
        let onEvent: @Sendable (EngineLinkClient.Event) -> Void
        private let state = Mutex((sent: [LinkMessage](), isClosed: false))

        init(_ address: LinkAddress, _ onEvent: @escaping @Sendable (EngineLinkClient.Event) -> Void) {
            self.address = address
            self.onEvent = onEvent
        }

        func send(_ message: LinkMessage) { state.withLock { $0.sent.append(message) } }
        func close() { state.withLock { $0.isClosed = true } }

        var isClosed: Bool { state.withLock { $0.isClosed } }
        var submitted: [EngineRequest] {
            state.withLock { $0.sent.compactMap { if case .submit(let request) = $0 { request } else { nil } } }
        }

        func open() {
            onEvent(
                .opened(
                    EngineHello(
                        engineIndex: 0, pid: 1, modelName: "toy", modelFingerprint: Digest128(high: 1, low: 1),
                        tokenizerFingerprint: Digest128(high: 2, low: 2), vocabularySize: 258, blockSize: 16,
                        hashSeed: 0, keyValueBlocks: 64, maximumContextLength: 64, maximumSequences: 8,
                        device: "test")))
        }

        func beat() { onEvent(.message(.heartbeat(Heartbeat()))) }
    }

    private let links = Mutex([Link]())
    var all: [Link] { links.withLock { $0 } }

    func connect(
        _ address: LinkAddress, _ onEvent: @escaping @Sendable (EngineLinkClient.Event) -> Void
    ) -> any PoolLink {
        let link = Link(address, onEvent)
        links.withLock { $0.append(link) }
        return link
    }
}

private final class Owner: SequenceOwner {
    var tokens: [TokenID] = []
    var errors: [APIError] = []
    let isPaused = false

    func work(choice: Int, id: RequestID) -> EngineRequest {
        EngineRequest(id: id, tokens: [1] + tokens, resumeOffset: tokens.count, maximumNewTokens: 10)
    }
    func maySubmitAgain(choice: Int) -> Bool { tokens.isEmpty }
    func receive(choice: Int, output: SequenceOutput) { tokens += output.tokens }
    func fail(choice: Int, error: APIError) { errors.append(error) }
}

@Suite struct EngineSilenceTests {
    private let loop = EmbeddedEventLoop()
    private let links = FakeLinks()
    private let dispatcher: SequenceDispatcher
    private let pool: EnginePool

    init() {
        let metrics = GatewayMetrics(modelName: "m")
        dispatcher = SequenceDispatcher(eventLoop: loop, metrics: metrics)
        pool = EnginePool(
            eventLoop: loop, dispatcher: dispatcher, tokenizerFingerprint: Digest128(high: 2, low: 2), pid: 1,
            silenceLimit: .seconds(2), metrics: metrics, log: { _ in },
            connect: { [links] address, _, onEvent in links.connect(address, onEvent) })
    }

    private func serve(_ engines: Int) {
        pool.update(
            Roster(
                generation: 1,
                engines: (0..<engines).map {
                    RosterEntry(index: UInt32($0), address: "link+unix:/\($0)", state: .ready, pid: Int32($0 + 1))
                }))
        for link in links.all { link.open() }
    }

    /// Lets time pass, in which the engines of `beating` beat.
    private func pass(milliseconds: Int64, beating: [FakeLinks.Link]) {
        for _ in 0..<(milliseconds / 250) {
            for link in beating { link.beat() }
            loop.advanceTime(by: .milliseconds(250))
        }
    }

    @Test func aFrozenEngineLosesItsSequencesAndIsTakenBack() throws {
        serve(2)
        #expect(dispatcher.servingEngines == 2)
        let owners = (0..<2).map { _ in Owner() }
        let ids = owners.map { dispatcher.start(owner: $0, choice: 0) }
        let (frozen, alive) = (links.all[0], links.all[1])
        #expect(frozen.submitted.count == 1 && alive.submitted.count == 1)
        let moved = frozen.submitted[0].id
        let owner = owners[moved == ids[0] ? 0 : 1]
        frozen.onEvent(
            .message(.stepOutput(StepOutput(step: 1, outputs: [SequenceOutput(id: moved, tokens: [5])]))))
        // Any frame is a sign of life.
        pass(milliseconds: 1750, beating: [alive])
        #expect(!frozen.isClosed && dispatcher.servingEngines == 2)
        pass(milliseconds: 250, beating: [alive])
        #expect(frozen.isClosed && dispatcher.servingEngines == 1)
        #expect(alive.submitted.map(\.id).contains(moved))
        #expect(alive.submitted.last?.tokens == [1, 5])
        // What it says when it wakes reaches nobody.
        frozen.onEvent(
            .message(.stepOutput(StepOutput(step: 2, outputs: [SequenceOutput(id: moved, tokens: [99])]))))
        #expect(owner.tokens == [5])
        // A frozen process accepts connections and says no hello.
        pass(milliseconds: 1000, beating: [alive])
        #expect(links.all.count == 3)
        let second = links.all[2]
        #expect(second.address == frozen.address)
        second.onEvent(.closed(LinkError(code: .connection, message: "no hello")))
        pass(milliseconds: 1000, beating: [alive])
        #expect(links.all.count == 4)
        links.all[3].open()
        #expect(dispatcher.servingEngines == 2)
        pool.shutdown()
    }

    private func step(_ id: RequestID, _ token: TokenID, _ finish: FinishReason? = nil) -> EngineLinkClient.Event {
        .message(
            .stepOutput(StepOutput(step: 1, outputs: [SequenceOutput(id: id, tokens: [token], finish: finish)])))
    }

    private func roster(_ generation: UInt64, _ entries: [(UInt32, String)]) -> Roster {
        Roster(
            generation: generation,
            engines: entries.map { RosterEntry(index: $0, address: "link+unix:/\($1)", state: .ready, pid: 1) })
    }

    @Test func anEngineThatLeftFinishesWhatItHas() throws {
        pool.update(roster(1, [(0, "a")]))
        links.all[0].open()
        let owner = Owner()
        let id = dispatcher.start(owner: owner, choice: 0)
        // Another one has its index.
        pool.update(roster(2, [(0, "b")]))
        let (old, new) = (links.all[0], links.all[1])
        new.open()
        _ = dispatcher.start(owner: Owner(), choice: 0)
        #expect(old.submitted.count == 1 && new.submitted.count == 1 && dispatcher.servingEngines == 1)
        pass(milliseconds: 5000, beating: [old, new])
        #expect(!old.isClosed)
        old.onEvent(step(id, 5))
        old.onEvent(step(id, 6, .length))
        #expect(owner.tokens == [5, 6])
        pass(milliseconds: 250, beating: [old, new])
        #expect(old.isClosed && !new.isClosed && dispatcher.servingEngines == 1)
        pool.shutdown()
    }

    @Test(arguments: [true, false]) func anEngineThatLeftMayEnd(dies: Bool) throws {
        pool.update(roster(1, [(0, "a")]))
        links.all[0].open()
        let owner = Owner()
        let id = dispatcher.start(owner: owner, choice: 0)
        links.all[0].onEvent(step(id, 5))
        pool.update(roster(2, [(1, "b")]))
        let (old, new) = (links.all[0], links.all[1])
        new.open()
        // Or it falls silent.
        if dies { old.onEvent(.closed(LinkError(code: .connection, message: "gone"))) }
        pass(milliseconds: 2250, beating: [new])
        #expect(old.isClosed && new.submitted.map(\.tokens) == [[1, 5]])
        pool.shutdown()
    }

    @Test func anIdleEngineLeavesAtOnce() {
        serve(2)
        pool.update(Roster(generation: 2))
        #expect(links.all.allSatisfy(\.isClosed) && dispatcher.servingEngines == 0)
        pool.shutdown()
    }

    @Test func heartbeatsKeepALink() {
        serve(2)
        pass(milliseconds: 60_000, beating: links.all)
        #expect(links.all.count == 2 && dispatcher.servingEngines == 2)
        pool.shutdown()
    }

    @Test func theOnlyEngineGetsMoreTime() {
        serve(1)
        let owner = Owner()
        _ = dispatcher.start(owner: owner, choice: 0)
        pass(milliseconds: 9750, beating: [])
        #expect(dispatcher.servingEngines == 1)
        pass(milliseconds: 250, beating: [])
        #expect(dispatcher.servingEngines == 0 && links.all[0].isClosed)
        // Its sequences wait for it, or for another.
        #expect(dispatcher.unfinished == 1 && owner.errors.isEmpty)
        pass(milliseconds: 1000, beating: [])
        links.all[1].open()
        #expect(links.all[1].submitted.count == 1)
        pool.shutdown()
    }

    @Test func ofTwoFrozenEnginesTheSecondCountsAsTheOnlyOne() {
        serve(2)
        pass(milliseconds: 2000, beating: [])
        #expect(links.all.map(\.isClosed).prefix(2) == [true, false])
        pass(milliseconds: 8000, beating: [])
        #expect(links.all.map(\.isClosed).prefix(2) == [true, true])
        pool.shutdown()
    }

    @Test func aDrainingEngineMayBeSilentNoLonger() {
        serve(2)
        pool.update(
            Roster(
                generation: 2,
                engines: [
                    RosterEntry(index: 0, address: "link+unix:/0", state: .draining, pid: 1),
                    RosterEntry(index: 1, address: "link+unix:/1", state: .ready, pid: 2),
                ]))
        pass(milliseconds: 2000, beating: [links.all[1]])
        #expect(links.all.map(\.isClosed) == [true, false])
        pool.shutdown()
    }

    private func roster(_ generation: UInt64, states: [RosterEntry.State]) -> Roster {
        Roster(
            generation: generation,
            engines: states.enumerated().map {
                RosterEntry(index: UInt32($0), address: "link+unix:/\($0)", state: $1, pid: Int32($0 + 1))
            })
    }

    @Test func anEngineThatIsResumedServesAgainWithWhatItHas() {
        serve(1)
        let (first, second) = (Owner(), Owner())
        let id = dispatcher.start(owner: first, choice: 0)
        pool.update(roster(2, states: [.draining]))
        #expect(dispatcher.servingEngines == 0)
        let link = links.all[0]
        link.onEvent(step(id, 5))
        _ = dispatcher.start(owner: second, choice: 0)
        #expect(link.submitted.count == 1 && first.tokens == [5])
        // What waited for it goes to it, and what it had stayed there.
        pool.update(roster(3, states: [.ready]))
        #expect(dispatcher.servingEngines == 1 && links.all.count == 1)
        #expect(link.submitted.count == 2)
        link.onEvent(step(id, 6, .length))
        #expect(first.tokens == [5, 6] && second.errors.isEmpty)
        pool.shutdown()
    }

    @Test func anEngineThatIsDrainedBeforeItAnswersIsLeft() {
        pool.update(roster(1, states: [.ready, .ready]))
        pool.update(roster(2, states: [.draining, .ready]))
        #expect(links.all.map(\.isClosed) == [true, false])
        for link in links.all { link.open() }
        #expect(dispatcher.servingEngines == 1)
        pool.update(roster(3, states: [.ready, .ready]))
        links.all[2].open()
        #expect(dispatcher.servingEngines == 2)
        pool.shutdown()
    }
}
