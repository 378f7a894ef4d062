// Tandem — Apache-2.0

import JSON
import Testing

@testable import TerminalView

@Suite struct GPULineTests {
    private func gpu(_ text: String) throws -> EnginesSnapshot.GPU {
        EnginesSnapshot.GPU(try #require(try JSONParser.parse(Array(text.utf8)).object))
    }

    private func text(_ json: String) throws -> String { GPULine(try gpu(json), .unicode).line.text }

    @Test func whatItDoes() throws {
        let busy = """
            {"gpu":"0","name":"NVIDIA H100","time":5,"sm_active":0.75,"sm_occupancy":0.5,"tensor_active":0.25,
            "dram_active":0.6,"busy":1,"power_watts":350,"power_limit_watts":700,"memory_used_bytes":8589934592,
            "memory_total_bytes":85899345920,"clock_limits":["power limit"],"last_fault":null,"note":""}
            """
        #expect(
            try text(busy)
                == "gpu 0    SM 75%  occupancy 50%  tensor 25%  DRAM 60%  power 350 W  memory 8.0 of 80 GiB  "
                + "clock held back: power limit  NVIDIA H100")
    }

    @Test func anErrorComesFirst() throws {
        let line = GPULine(
            try gpu("{\"gpu\":\"1\",\"busy\":0.5,\"last_fault\":{\"xid\":79,\"text\":\"it fell off\\u001b[0m\"}}"),
            .unicode
        ).line
        #expect(line.text == "gpu 1    XID 79 it fell off?[0m  busy 50%  ")
        #expect(line.coloured.contains("\u{1B}[1;31mXID 79"))
    }

    @Test func aSimulatedOneSaysSo() throws {
        #expect(
            try text(
                "{\"gpu\":\"simulated:h100\",\"simulated\":true,\"steps_per_second\":120.4,\"lag\":0.01,\"name\":\"x\"}"
            )
                == "simulated:h100  steps/s 120  lag 1%  ")
    }

    @Test func nothingKnown() throws {
        #expect(try text("{\"gpu\":\"0\",\"note\":\"NVML does not answer\"}") == "gpu 0    NVML does not answer  ")
        #expect(try text("{\"sm_active\":1e308,\"power_watts\":-1e308,\"memory_used_bytes\":1}").contains("SM"))
    }
}
