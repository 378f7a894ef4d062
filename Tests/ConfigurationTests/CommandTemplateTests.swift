// Tandem — Apache-2.0

import TestSupport
import Testing

@testable import Configuration

@Suite struct CommandTemplateTests {
    private func words(_ text: String) throws -> [String] {
        try CommandTemplate(text).command { "<\($0.rawValue)>" }.words
    }

    private func error(_ text: String) -> CommandTemplateError? {
        do throws(CommandTemplateError) {
            _ = try CommandTemplate(text)
            return nil
        } catch { return error }
    }

    @Test func wordsAreSplitAsByAShell() throws {
        #expect(try words("  a  b\tc\n") == ["a", "b", "c"])
        #expect(try words(#"a 'b c' "d e" f\ g"#) == ["a", "b c", "d e", "f g"])
        #expect(try words(#"a b'c'"d"e "" ''"#) == ["a", "bcde", "", ""])
        #expect(try words(#"a "x\"y\\z\n" 'x\y"z'"#) == ["a", #"x"y\z\n"#, #"x\y"z"#])
        #expect(try words("a \\\n b 'ä € 😀'") == ["a", "b", "ä € 😀"])
        #expect(try words(#"a '$x|y' "a;b""#) == ["a", "$x|y", "a;b"])
    }

    @Test func placeholdersAreFilledIn() throws {
        let text = "vllm --port {port} --url=http://{host}:{port}/x '{name} of {model}' {{x} {memory-fraction}"
        #expect(
            try words(text) == [
                "vllm", "--port", "<port>", "--url=http://<host>:<port>/x", "<name> of <model>", "{x}",
                "<memory-fraction>",
            ])
        let template = try CommandTemplate(text)
        #expect(template.program == "vllm")
        #expect(template.placeholders == [.port, .host, .name, .model, .memoryFraction])
        // A value is never split, nor read again.
        #expect(try CommandTemplate("a {model}").command { _ in "x 'y' {port}" }.words == ["a", "x 'y' {port}"])
    }

    @Test func leadingAssignmentsAreTheEnvironment() throws {
        let command = try CommandTemplate("CUDA_VISIBLE_DEVICES={gpu} A='b c' x_1= run C=d 1=2").command { $0.rawValue }
        #expect(command.variables == ["CUDA_VISIBLE_DEVICES": "gpu", "A": "b c", "x_1": ""])
        #expect(command.words == ["run", "C=d", "1=2"])
        #expect(try CommandTemplate("./1=2 x").program == "./1=2")
    }

    @Test func wordsAreAppended() throws {
        var template = try CommandTemplate("run {port}")
        try template.append("--more '{index} of {engines}'")
        #expect(template.command { $0.rawValue }.words == ["run", "port", "--more", "index of engines"])
        #expect(throws: CommandTemplateError.self) { try template.append("'") }
    }

    @Test(arguments: [
        ("run {prot}", 5, "{prot} is unknown; there are {port}"), ("run {port", 5, "not closed"),
        ("run {", 5, "not closed"), ("run {a b}", 5, "begins no placeholder"), ("run {}", 5, "{} is unknown"),
        ("run 'x", 5, "the quote ' is not closed"), ("ab \"c", 4, "is not closed"), ("run x\\", 6, "backslash"),
        ("run > log", 5, "means something to a shell"), ("run $HOME", 5, "shell"), ("a\0b", 2, "null byte"),
    ])
    func whatCannotBeReadIsRefusedWithItsPlace(_ text: String, position: Int, reason: String) {
        let error = error(text)
        #expect(error?.position == position)
        #expect(error?.description.contains(reason) == true)
    }

    /// Whatever is given, it is a command or refused, with a place within it.
    @Test func nothingTraps() {
        var random = SeededGenerator(seed: 11)
        let pieces = [
            "{", "}", "{port}", "{{", "'", "\"", "\\", " ", "\n", "a", "=", "A=", "$", "é", "\r\n", "\0", "{por",
        ]
        var refused = 0
        for _ in 0..<20_000 {
            let text = (0..<Int.random(in: 0...8, using: &random)).map { _ in
                pieces.randomElement(using: &random) ?? ""
            }.joined()
            do throws(CommandTemplateError) {
                let template = try CommandTemplate(text)
                #expect(template.command { $0.rawValue }.words.first == template.program)
            } catch {
                refused += 1
                if let position = error.position {
                    #expect(position > 0 && position <= text.unicodeScalars.count)
                }
            }
        }
        #expect(refused > 1000)
    }

    @Test func aProgramIsNeeded() {
        #expect(error("")?.reason == "it has no program to run")
        #expect(error(" A=b ")?.reason == "it has no program to run")
        #expect(error("{model} x")?.reason.contains("its program is a placeholder") == true)
        #expect(error("'' x")?.reason.contains("its program") == true)
    }

    @Test func sharesAreRoundedDown() {
        func text(_ total: Double, _ engines: Int) -> String? {
            MemoryFraction(total: total, engines: engines)?.description
        }
        #expect(text(0.9, 1) == "0.9" && text(0.9, 2) == "0.45" && text(0.9, 3) == "0.3" && text(0.9, 7) == "0.1285")
        #expect(text(1, 1) == "1.0" && text(1, 3) == "0.3333" && text(0.0001, 1) == "0.0001" && text(0.0001, 2) == nil)
        let share = MemoryFraction(total: 0.9, engines: 3)
        #expect((0...3).map { share?.ofFree(running: $0) } == ["0.3", "0.4285", "0.75", "0.75"])
        #expect(MemoryFraction(total: 1, engines: 4)?.ofFree(running: 3) == "1.0")
        for engines in 1...1000 {
            for hundredths in 1...100 {
                guard let share = MemoryFraction(total: Double(hundredths) / 100, engines: engines) else { continue }
                #expect(share.totalTenThousandths <= hundredths * 100)
                #expect(share.totalTenThousandths + engines > hundredths * 100)
                #expect(Double(share.description) == Double(share.tenThousandths) / 10_000)
            }
        }
    }
}
