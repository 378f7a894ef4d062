// Tandem — Apache-2.0

import Foundation
import NIOPosix
import TestSupport
import Testing

@testable import EngineHost

@Suite(.timeLimit(.minutes(10))) struct SignalPipeTests {
    @Test func signalsReachTheEventLoop() async throws {
        let arrived = Inbox<Int>()
        try SignalPipe.install([SIGUSR2], on: MultiThreadedEventLoopGroup.singleton.next()) { arrived.put(1) }
        for _ in 0..<2 {
            kill(getpid(), SIGUSR2)
            let signal = await arrived.next()
            #expect(signal == 1)
        }
    }
}
