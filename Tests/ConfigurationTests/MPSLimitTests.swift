// Tandem — Apache-2.0

import ArgumentParser
import Testing

@testable import Configuration

@Suite struct MPSLimitTests {
    /// - Parameter arguments: flags and their values, in turn.
    private func configuration(
        _ arguments: [String], environment: [String: String] = [:]
    ) throws -> ServeConfiguration {
        var flags: [String: String] = [:]
        for index in stride(from: 0, to: arguments.count - 1, by: 2) {
            flags[String(arguments[index].dropFirst(2))] = arguments[index + 1]
        }
        return try ServeConfiguration(flags: flags, environment: environment)
    }

    private func reason(_ arguments: [String]) -> String? {
        let error = #expect(throws: ConfigurationError.self) { try configuration(arguments) }
        return error.map { "\($0)" }
    }

    @Test func oneForAllOrOneForEach() throws {
        let gpu = ["--device", "cuda:0", "--engines", "3"]
        #expect(try configuration(gpu).mpsLimits.isEmpty)
        #expect(try configuration(gpu + ["--mps-thread-percentage", "33.3"]).mpsLimits.threadPercentages == [33.3])
        let each = try configuration(
            gpu + ["--mps-thread-percentage", "50, 25,25", "--mps-client-priority", "normal,LOW,low"])
        #expect(each.mpsLimits.threadPercentages == [50, 25, 25])
        #expect(each.mpsLimits.priorities == [.normal, .low, .low])
        let variables = ["TANDEM_MPS_THREAD_PERCENTAGE": "100", "TANDEM_MPS_CLIENT_PRIORITY": "low"]
        let given = try configuration(gpu, environment: variables).mpsLimits
        #expect(given.threadPercentages == [100] && given.priorities == [.low])
        #expect(given.source.contains("TANDEM_MPS_THREAD_PERCENTAGE"))
    }

    @Test(arguments: ["0", "0.9", "101", "-5", "nan", "inf", "half", "", "50,", ",", "50%", "1e3"])
    func whatIsNoPercentageIsRefused(_ text: String) {
        #expect(
            reason(["--device", "cuda:0", "--engines", "2", "--mps-thread-percentage", text])?
                .contains("--mps-thread-percentage") == true)
    }

    @Test func theCommandLineHasThem() throws {
        let flags = try ServeFlags.parse([
            "--device", "cuda:0", "--mps-thread-percentage", "40", "--mps-client-priority", "low",
        ])
        let limits = try flags.configuration(environment: [:]).mpsLimits
        #expect(limits.threadPercentages == [40] && limits.priorities == [.low])
    }

    @Test func listsAreAsLongAsThereAreEngines() {
        let gpu = ["--device", "cuda:0", "--engines", "3"]
        #expect(
            reason(gpu + ["--mps-thread-percentage", "50,50"])?.contains("there are 2 values and 3 engine processes")
                == true)
        #expect(reason(gpu + ["--mps-client-priority", "low,low"])?.contains("2 values") == true)
        #expect(reason(gpu + ["--mps-client-priority", "high"])?.contains("none of normal, low") == true)
    }

    @Test func withoutMPSTheyAreRefused() {
        #expect(
            reason(["--device", "cuda:0", "--mps", "off", "--mps-thread-percentage", "50"])?
                .contains("--mps is off") == true)
        #expect(reason(["--device", "cpu", "--mps-client-priority", "low"])?.contains("engines on CPUs") == true)
        #expect(
            reason(["--device", "simulated:h100", "--mps-thread-percentage", "50"])?
                .contains("tandem admin device share") == true)
    }
}
