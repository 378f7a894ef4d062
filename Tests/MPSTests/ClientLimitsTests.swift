// Tandem — Apache-2.0

import Testing

@testable import MPS

@Suite struct ClientLimitsTests {
    @Test func oneValueHoldsForAllAndListsForEach() {
        #expect(ClientLimits.each(of: 2, percentages: [], priorities: []).isEmpty)
        #expect(
            ClientLimits.each(of: 2, percentages: [50], priorities: [])
                == [ClientLimits(threadPercentage: 50), ClientLimits(threadPercentage: 50)])
        #expect(
            ClientLimits.each(of: 2, percentages: [60, 40], priorities: [.belowNormal])
                == [
                    ClientLimits(threadPercentage: 60, priority: .belowNormal),
                    ClientLimits(threadPercentage: 40, priority: .belowNormal),
                ])
    }

    @Test func engineGetsItsOwn() {
        let client = ClientEnvironment(pipeDirectory: "/run/pipe", device: "GPU-1", token: "t")
        let limited = client.limited(to: ClientLimits(threadPercentage: 33.39, priority: .belowNormal))
        let variables = limited.variables(over: [
            "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "7", "CUDA_MPS_CLIENT_PRIORITY": "0",
        ])
        #expect(variables["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == "33.3")
        #expect(variables["CUDA_MPS_CLIENT_PRIORITY"] == "1")
        // Without limits nothing of the surroundings holds either: it was meant for another daemon.
        let free = client.limited(to: nil).variables(over: ["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "7"])
        #expect(free["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == nil && free["CUDA_MPS_CLIENT_PRIORITY"] == nil)
    }

    @Test func textForPeople() {
        #expect(ClientLimits.text([]) == "")
        #expect(ClientLimits.text([ClientLimits(), ClientLimits()]) == "")
        #expect(
            ClientLimits.text(ClientLimits.each(of: 2, percentages: [50], priorities: []))
                == "each engine 50.0 % of the multiprocessors")
        #expect(
            ClientLimits.text(ClientLimits.each(of: 2, percentages: [60, 40], priorities: [.normal, .belowNormal]))
                == "engine 0 60.0 % of the multiprocessors, normal priority; "
                + "engine 1 40.0 % of the multiprocessors, low priority")
        #expect(ClientLimits.text([ClientLimits(), ClientLimits(priority: .belowNormal)]) == "engine 1 low priority")
    }
}
