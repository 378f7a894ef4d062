// Tandem — Apache-2.0

import Testing

@testable import Diagnosis

@Suite struct MonitorDiagnosisTests {
    private func finding(_ answer: MachineFacts.MonitorAnswer?) -> Finding? {
        var facts = MachineFacts()
        facts.monitor = answer
        return Diagnosis.findings(facts).first { $0.check == "gpu-monitor" }
    }

    @Test func nothingIsAProblem() {
        #expect(finding(nil) == nil)
        #expect(finding(.found("NVML x; GPM tells", hasActivity: true))?.level == .ok)
        #expect(finding(.found("NVML x", hasActivity: false))?.level == .note)
        let missing = finding(.missing("libnvidia-ml.so.1: not found"))
        #expect(missing?.level == .note && missing?.fix != nil)
        #expect(missing?.text.contains("libnvidia-ml.so.1: not found") == true)
        #expect(finding(.silence)?.level == .note)
    }
}
