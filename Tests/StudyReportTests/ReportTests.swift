// Tandem — Apache-2.0

import Glibc
import JSON
import LanguageModel
import Study
import Testing

@testable import StudyReport

@Suite struct ReportTests {
    static func results() -> [StudyResult] {
        let parts: [Ablation] = [.full, .attentionOnly, .mlpOnly]
        let fits: (StudyCell) -> Double? = { $0.model == "qwen2.5-7b" && $0.context == 8192 ? nil : 0.1 }
        return [
            SyntheticStudy.batches(SyntheticStudy.definition(), gain: fits),
            SyntheticStudy.batches(SyntheticStudy.definition("F2", phase: .prefill), gain: fits),
            SyntheticStudy.batches(
                SyntheticStudy.definition("F4", models: ["qwen2.5-3b"], ablations: parts), gain: fits),
            SyntheticStudy.serving(["ahead": 0.3, "mps": 0.3]), SyntheticStudy.counts,
            SyntheticStudy.batches(
                SyntheticStudy.definition(models: ["smollm2-135m"], contexts: [128, 512], hosts: []),
                header: SyntheticStudy.header(
                    SyntheticStudy.definition(models: ["smollm2-135m"], contexts: [128, 512], hosts: []),
                    kind: .measured, device: "cpu", title: "two cores"), gain: fits),
        ]
    }

    /// Two machines, or GPUs, are two devices; of one device the newer result counts, in whatever order they come.
    @Test func devicesAreKeptApart() throws {
        func result(_ title: String, date: String, gain: Double) -> StudyResult {
            let definition = SyntheticStudy.definition(hosts: [])
            var header = SyntheticStudy.header(definition, kind: .measured, device: "cuda:0", title: title)
            header.date = date
            return SyntheticStudy.batches(definition, header: header) { _ in gain }
        }
        let new = result("NVIDIA H100", date: "2026-11-26T10:00:00Z", gain: 0.2)
        let old = result("NVIDIA H100", date: "2026-11-20T10:00:00Z", gain: 0.4)
        let other = result("NVIDIA A100", date: "2026-11-19T10:00:00Z", gain: 0.6)
        for results in [[new, old, other], [other, old, new]] {
            let page = try StudyReport(results).document().markdown()
            #expect(page.contains("Measured: NVIDIA H100") && page.contains("Measured: NVIDIA A100"))
            #expect(page.contains("+20\u{A0}%") && page.contains("+60\u{A0}%") && !page.contains("+40\u{A0}%"))
        }
    }

    /// The page needs nothing but itself, is well formed, and holds every figure in both layouts.
    @Test func page() throws {
        let document = try StudyReport(Self.results()).document()
        let html = document.html()
        let check = MarkupCheck(Self.withoutStyle(html))
        #expect(check.problem == nil)
        #expect(document.figures.count >= 10)
        #expect(check.names["svg"] == 2 * document.figures.count)
        #expect(check.names["script"] == nil && check.names["link"] == nil && check.names["img"] == nil)
        for outside in ["src=", "@import", "url(", "href=\"http"] { #expect(!html.contains(outside), "\(outside)") }
        #expect(Set(document.figures.map(\.identifier)).count == document.figures.count)
        // Links within the page lead somewhere.
        for part in html.components(of: "href=\"#").dropFirst() {
            let target = part.prefix { $0 != "\"" }
            #expect(html.contains(" id=\"\(target)\""), "\(target)")
        }
        for text in [
            "does not hold", "two copies of the weights do not fit", "NVIDIA H100", "two cores", "driver", "MEASURED",
            "SIMULATED", "DERIVED",
        ] {
            #expect(html.contains(text), "\(text)")
        }
    }

    private static func withoutStyle(_ html: String) -> String {
        html.components(of: "<style>").enumerated().map { index, part in
            index == 0 ? part : part.components(of: "</style>").dropFirst().joined()
        }.joined()
    }

    /// Every claim that has numbers stands in the table and with its rule beside its figure.
    @Test func verdicts() throws {
        let markdown = try StudyReport(Self.results()).document().markdown()
        for number in ["4a", "4e", "5a", "6a", "8a", "9a", "10a", "11"] {
            #expect(markdown.contains("| [\(number)](#claim-\(number)) |"), "\(number)")
            #expect(markdown.contains("<a id=\"claim-\(number)\"></a>"), "\(number)")
        }
        #expect(markdown.components(of: " Rule: ").count > 12)
        #expect(!markdown.contains("[7a]"))
    }

    /// Markdown names files that are written, and its tables have as many cells in each row.
    @Test func markdown() throws {
        let document = try StudyReport(Self.results()).document()
        let files = document.files()
        let paths = Set(files.map(\.path))
        #expect(paths.count == files.count)
        let markdown = document.markdown()
        for attribute in ["src=\"", "srcset=\"", "Vega-Lite]("] {
            for part in markdown.components(of: attribute).dropFirst() {
                #expect(paths.contains(String(part.prefix { $0 != "\"" && $0 != ")" })))
            }
        }
        var columns = 0
        for line in markdown.split(separator: "\n", omittingEmptySubsequences: false) {
            let cells = line.hasPrefix("|") ? line.components(of: "|").count - line.components(of: "\\|").count : 0
            if columns > 0, cells > 0 { #expect(cells == columns, "\(line)") }
            columns = cells
        }
        for file in files where file.path.hasSuffix(".json") {
            #expect((try? JSONParser.parse(file.bytes)) != nil)
        }
    }

    /// Names of models and devices, reasons and titles are text, whatever they hold.
    @Test func hostileNames() throws {
        let evil = "<img src=x onerror=alert(1)>|](javascript:x)`"
        var definition = SyntheticStudy.definition(models: [evil, "qwen2.5-3b"], title: evil)
        definition.figure = evil
        var result = SyntheticStudy.batches(
            definition, header: SyntheticStudy.header(definition, title: evil)
        ) { $0.context == 128 ? nil : 0.1 }
        for index in result.measurements.indices where result.measurements[index].failure != nil {
            result.measurements[index].failure = evil
        }
        let document = try StudyReport([result]).document()
        let check = MarkupCheck(Self.withoutStyle(document.html()))
        #expect(check.problem == nil)
        #expect(check.names["img"] == nil)
        let markdown = document.markdown()
        #expect(markdown.components(of: "<img src=x").count == markdown.components(of: "\\<img src=x").count)
        let names = document.files().map(\.path)
        #expect(
            names.allSatisfy { $0.utf8.allSatisfy { $0 == 0x2F || $0 == 0x2E || $0 == 0x2D || $0 > 0x2F && $0 < 0x7B } }
        )
    }

    @Test func nothing() {
        #expect(throws: StudyError.self) { try StudyReport([]) }
    }

    /// Whatever is missing, there is a report that says so.
    @Test func emptyAndFailedResults() throws {
        let empty = StudyResult(header: SyntheticStudy.header(SyntheticStudy.definition()))
        #expect(try StudyReport([empty]).document().markdown().contains("no measurements yet"))
        let failed = SyntheticStudy.batches(SyntheticStudy.definition()) { _ in nil }
        let html = try StudyReport([failed]).document().html()
        #expect(html.contains("no result"))
        #expect(MarkupCheck(Self.withoutStyle(html)).problem == nil)
        var noArms = SyntheticStudy.definition()
        noArms.arms = []
        _ = try StudyReport([StudyResult(header: SyntheticStudy.header(noArms))]).document().html()
    }

    /// The later of two results of the same figure and device counts.
    @Test func replaced() throws {
        let first = SyntheticStudy.batches(SyntheticStudy.definition()) { _ in 0.1 }
        let second = SyntheticStudy.batches(SyntheticStudy.definition()) { _ in 0.7 }
        let document = try StudyReport([first, second]).document()
        #expect(document.markdown().components(of: "4a. Decode").count == 2)
        #expect(document.markdown().contains("+70"))
    }
}

@Suite struct ReferenceProbeTests {
    /// The table is what the measurements' file says.
    @Test func asMeasured() throws {
        let root = #filePath.split(separator: "/").dropLast(3).reduce("") { "\($0)/\($1)" }
        let bytes = try StudyFileBytes.read("\(root)/Results/gpu-probe/h100-2026-11-26/sharing.jsonl")
        let rows = try bytes.split(separator: UInt8(ascii: "\n")).compactMap { try JSONParser.parse($0).object }
        for cell in ReferenceProbe.cells {
            let found = rows.filter { row in
                row["model"]?.string.map { "qwen2.5-\($0.lowercased())" } == cell.model
                    && row["kind"]?.string == cell.phase.rawValue && row["context"]?.number == Double(cell.context)
                    && row["batch"]?.number == Double(cell.batch) && row["ablate"]?.string == cell.ablation.rawValue
                    && row["stall_us"]?.number == Double(cell.pause) && row["processes"]?.number == 2
            }
            func each(_ row: JSONObject) -> Double {
                row["each_per_s"]?.array?.compactMap(\.number).reduce(0, +) ?? 0
            }
            let without = found.filter { $0["arm"]?.string == "no MPS" }
            let under = found.filter { $0["arm"]?.string == "MPS" }
            let base = try #require(without.first { $0["one_per_s"]?.number == cell.one })
            #expect(abs(each(base) - cell.timeSliced) < 0.01)
            #expect(base["two_streams_per_s"]?.number == cell.streams)
            // Within one run where that run has both.
            let sameRun = under.filter { row in without.contains { $0["run"] == row["run"] } }
            let shared = try #require((sameRun.isEmpty ? under : sameRun).first { abs(each($0) - cell.mps) < 0.01 })
            #expect(sameRun.isEmpty || shared["run"] == base["run"])
        }
        #expect(ReferenceProbe.cells.count == 45)
        #expect(ReferenceProbe.range(.decode) == "\u{2212}7\u{A0}% to +5\u{A0}% (24 cells, median +1\u{A0}%)")
    }
}

@Suite struct ReportFolderTests {
    /// A folder that is gone when the test ends.
    private func withFolder(_ body: (String) throws -> Void) throws {
        var template = Array("/tmp/report-XXXXXX".utf8CString)
        let made = template.withUnsafeMutableBufferPointer { buffer in
            buffer.baseAddress.flatMap { mkdtemp($0) }.map { String(cString: $0) }
        }
        let path = try #require(made)
        defer { StudyFileBytes.remove(path) }
        try body(path)
    }

    private let files = [
        Document.File(
            path: "index.html", bytes: Array(Document(title: "x", lead: "y", blocks: []).html().utf8)),
        Document.File(path: "figures/a.svg", bytes: Array("<svg/>".utf8)),
    ]

    @Test func writtenAndReplaced() throws {
        try withFolder { folder in
            try ReportFolder.write(files, to: folder + "/report/")
            #expect(try StudyFileBytes.read(folder + "/report/figures/a.svg") == files[1].bytes)
            try ReportFolder.write([files[0]], to: folder + "/report")
            #expect(access(folder + "/report/figures", F_OK) != 0)
            #expect(StudyFileBytes.entries(folder) == ["report"])
        }
    }

    /// What is no report is not touched, and nothing is left behind.
    @Test func refused() throws {
        try withFolder { folder in
            try StudyFileBytes.write("hello", folder + "/notes.txt")
            #expect(throws: StudyError.self) { try ReportFolder.write(files, to: folder) }
            #expect(throws: StudyError.self) { try ReportFolder.write(files, to: folder + "/notes.txt") }
            #expect(throws: StudyError.self) { try ReportFolder.write(files, to: folder + "/no/such") }
            let twice = files + [files[1]]
            #expect(throws: StudyError.self) { try ReportFolder.write(twice, to: folder + "/report") }
            #expect(StudyFileBytes.entries(folder) == ["notes.txt"])
            #expect(try StudyFileBytes.read(folder + "/notes.txt") == Array("hello".utf8))
        }
    }

    /// A corrupt line is named, with its file.
    @Test func corruptResults() throws {
        try withFolder { folder in
            let result = SyntheticStudy.batches(SyntheticStudy.definition()) { _ in 0.1 }
            var bytes = StudyRecord.header(result.header).line
            for measurement in result.measurements { bytes += StudyRecord.measurement(measurement).line }
            let path = folder + "/F1.jsonl"
            try StudyFileBytes.write(String(decoding: bytes, as: UTF8.self), path)
            #expect(try ResultFiles.read([folder]) == [result])
            #expect(try ResultFiles.read([path]) == [result])
            try StudyFileBytes.write(String(decoding: bytes, as: UTF8.self) + "{\"measurement\": 7}\n", path)
            let error = #expect(throws: StudyError.self) { try ResultFiles.read([folder]) }
            #expect(error?.subject.contains("F1.jsonl, line \(result.measurements.count + 2)") == true)
            #expect(throws: StudyError.self) { try ResultFiles.read([folder + "/none"]) }
        }
        try withFolder { folder in
            #expect(throws: StudyError.self) { try ResultFiles.read([folder]) }
        }
    }
}

/// Files of tests.
enum StudyFileBytes {
    static func read(_ path: String) throws -> [UInt8] {
        let file = try #require(fopen(path, "r"))
        defer { fclose(file) }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while case let count = fread(&buffer, 1, buffer.count, file), count > 0 { bytes += buffer[..<count] }
        return bytes
    }

    static func write(_ text: String, _ path: String) throws {
        let file = try #require(fopen(path, "w"))
        fputs(text, file)
        fclose(file)
    }

    static func entries(_ path: String) -> [String] {
        guard let folder = opendir(path) else { return [] }
        defer { closedir(folder) }
        var names: [String] = []
        while let entry = readdir(folder) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    static func remove(_ path: String) {
        for name in entries(path) where unlink("\(path)/\(name)") != 0 { remove("\(path)/\(name)") }
        rmdir(path)
    }
}
