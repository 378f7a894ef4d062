// Tandem — Apache-2.0

import JSON
import Telemetry
import Testing

@testable import Gateway

private let reading = """
    {"gpu":"0","uuid":"GPU-1","device":"nvidia0","name":"A GPU","time":77,"clock_limits":["power limit"],\
    "last_fault":{"xid":31,"text":"a bad address"},"new_faults":[{"xid":31,"text":"a bad address"}],\
    "values":{"sm_active":0.75,"power_watts":350.4,"memory_used_bytes":1048576,"memory_total_bytes":4194304},\
    "metrics":[{"name":"DCGM_FI_PROF_SM_ACTIVE","help":"x","value":0.75,"counter":false},\
    {"name":"DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION","help":"y","value":5,"counter":true},\
    {"name":"vllm:num_requests_running","help":"z","value":9}]}
    """

@Suite struct DeviceViewTests {
    @Test func aLineIsTaken() throws {
        let view = try #require(DeviceView(line: Array(reading.utf8)))
        #expect(view.value("sm_active") == 0.75 && view.time == 77 && view.uuid == "GPU-1")
        #expect(view.lastFault == DeviceView.Fault(number: 31, text: "a bad address"))
        #expect(view.newFaults.count == 1)
        // What is not the exporter's is not let into the metrics of the gateway.
        #expect(view.metrics.map(\.name) == ["DCGM_FI_PROF_SM_ACTIVE", "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"])
        #expect(
            view.summary
                == "gpu 0 (A GPU): XID 31 (a bad address), SM active 75 %, 350 W, memory 1 of 4 MiB, clock held back by "
                + "power limit")
        let json = try #require(try JSONParser.parse(view.json).object)
        #expect(json["sm_active"]?.number == 0.75)
        #expect(json["last_fault"]?.object?["xid"]?.integer == 31)
    }

    @Test func rubbishIsNone() {
        let long = String(repeating: "y", count: 70_000)
        for text in [
            "", "x", "[]", "{}", "{\"gpu\":1}", "{\"gpu\":\"0\"", String(repeating: "[", count: 100_000),
            "{\"gpu\":\"0\",\"x\":\"\(long)\"}",
        ] { #expect(DeviceView(line: Array(text.utf8)) == nil, "\(text.prefix(40))") }
    }

    @Test func foreignValuesAreBounded() throws {
        let many = (0..<200).map { "\"v\($0)\":\($0)" }.joined(separator: ",")
        let text =
            "{\"gpu\":\"0\\u001b[2J\",\"time\":\"x\",\"last_fault\":{\"xid\":-1},\"new_faults\":[1,{}],\"clock_limits\":3,"
            + "\"values\":{\"a b\":1,\"ok\":1e400,\"fine\":2,\(many)},\"metrics\":[1,{\"name\":\"DCGM_FI_X\\n\",\"value\":1}]}"
        // A number that no double holds is no JSON here, or is left out; either way nothing traps.
        let clean = text.replacing("1e400", with: "\"no\"")
        let view = try #require(DeviceView(line: Array(clean.utf8)))
        #expect(view.gpu == "0?[2J" && view.time == 0 && view.lastFault == nil && view.newFaults.isEmpty)
        #expect(view.values.count == 64 && view.value("a b") == nil && view.value("fine") == 2)
        #expect(view.metrics.isEmpty)
        _ = DeviceView(line: Array(text.utf8))
        var wild = view
        wild.values = [("sm_active", -.infinity), ("power_watts", 1e300), ("temperature_celsius", -4)]
        #expect(wild.summary.contains("SM active 0 %"))
    }

    @Test func aSimulatedOneHasNamesOfItsOwn() throws {
        let line =
            "{\"gpu\":\"simulated:h100\",\"simulated\":true,\"metrics\":[{\"name\":\"DCGM_FI_X\",\"value\":1},"
            + "{\"name\":\"tandem_simulated_gpu_clients\",\"help\":\"h\",\"value\":2}]}"
        let view = try #require(DeviceView(line: Array(line.utf8)))
        #expect(view.metrics.map(\.name) == ["tandem_simulated_gpu_clients"])
        let board = DeviceBoard()
        board.show(view, at: 0)
        let registry = MetricRegistry()
        board.expose(in: registry)
        #expect(registry.exposition().contains("tandem_simulated_gpu_clients{device=\"simulated:h100\"} 2"))
    }

    @Test func seriesGoWithTheirNumbers() throws {
        let board = DeviceBoard()
        let registry = MetricRegistry()
        board.show(try #require(DeviceView(line: Array(reading.utf8))), at: 0)
        board.expose(in: registry)
        let text = registry.exposition()
        let labels = "gpu=\"0\",UUID=\"GPU-1\",device=\"nvidia0\",modelName=\"A GPU\""
        for label in labels.split(separator: ",") { #expect(text.contains(label)) }
        #expect(text.contains("# TYPE DCGM_FI_PROF_SM_ACTIVE gauge"))
        #expect(text.contains("# TYPE DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION counter"))
        board.show(DeviceView(gpu: "0", note: "NVML does not answer"), at: 0)
        board.expose(in: registry)
        #expect(!registry.exposition().contains("DCGM_FI_"))
        #expect(board.views.map(\.note) == ["NVML does not answer"])
    }
}

@Suite struct DeviceWatchTests {
    private static func running() -> DeviceWatch {
        var watch = DeviceWatch(gpu: "0")
        #expect(watch.handle(.begin, at: .zero) == [.start])
        return watch
    }

    private func notes(_ actions: [DeviceWatch.Action]) -> [String] {
        actions.compactMap { if case .note(let text) = $0 { text } else { nil } }
    }

    @Test func readingsAreShownAndFaultsAreSaid() throws {
        var watch = Self.running()
        let actions = watch.handle(.line(Array(reading.utf8)), at: .seconds(1))
        #expect(
            actions == [
                .show(try #require(DeviceView(line: Array(reading.utf8)))),
                .warn("warning: GPU 0 (A GPU) had an error, XID 31: a bad address"),
            ])
        #expect(watch.nextDeadline == .seconds(1) + DeviceWatch.silenceLimit)
        #expect(watch.handle(.line(Array("rubbish".utf8)), at: .seconds(2)).isEmpty)
    }

    @Test func silenceIsNotedOnceAndTheChildIsKilled() {
        var watch = Self.running()
        #expect(watch.handle(.timePassed, at: .seconds(14)).isEmpty)
        let actions = watch.handle(.timePassed, at: .seconds(15))
        #expect(actions.last == .kill && notes(actions).count == 1)
        // It may be that not even SIGKILL ends it: no second one is started beside it.
        #expect(watch.nextDeadline == nil)
        #expect(watch.handle(.timePassed, at: .seconds(10_000)).isEmpty)
        #expect(notes(watch.handle(.ended("was ended by signal 9"), at: .seconds(10_001))).count == 1)
        #expect(watch.handle(.timePassed, at: .seconds(10_002)) == [.start])
        let again = watch.handle(.timePassed, at: .seconds(10_100))
        #expect(again.last == .kill && notes(again).isEmpty)
    }

    @Test func deathsAreFollowedByLongerAndLongerPauses() {
        var watch = Self.running()
        var now = Duration.zero
        var pauses: [Duration] = []
        for _ in 0..<9 {
            _ = watch.handle(.ended("ended with 1"), at: now)
            let next = watch.nextDeadline ?? .zero
            pauses.append(next - now)
            now = next
            #expect(watch.handle(.timePassed, at: now) == [.start])
        }
        #expect(pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60].map { .seconds($0) })
        // One that shows something has earned a quick return.
        _ = watch.handle(.line(Array(reading.utf8)), at: now)
        _ = watch.handle(.ended("ended with 1"), at: now)
        #expect(watch.nextDeadline == now + .seconds(1))
    }

    @Test func whatCannotBeWatchedIsNotedAndLeftAlone() {
        var watch = Self.running()
        let actions = watch.handle(.line(Array("unavailable: libnvidia-ml.so.1: not found".utf8)), at: .seconds(1))
        #expect(notes(actions) == ["GPU 0: it is not watched: libnvidia-ml.so.1: not found"])
        #expect(actions.last == .finish && watch.nextDeadline == nil)
        #expect(watch.handle(.ended("ended with 1"), at: .seconds(2)).isEmpty)
        #expect(watch.handle(.timePassed, at: .seconds(1000)).isEmpty)
    }
}
