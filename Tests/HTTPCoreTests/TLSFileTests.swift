// Tandem — Apache-2.0

import Foundation
import Testing

@testable import HTTPCore

@Suite struct TLSFileTests {
    private func withFile(_ text: String, mode: Int = 0o600, _ body: (String) throws -> Void) throws {
        let path = NSTemporaryDirectory() + "/tandem-test-\(UUID().uuidString).pem"
        try Data(text.utf8).write(to: URL(fileURLWithPath: path))
        try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: path)
        defer { try? FileManager.default.removeItem(atPath: path) }
        try body(path)
    }

    @Test func aFileIsReadWithItsState() throws {
        try withFile("abc") { path in
            let file = try TLSFile(path: path)
            #expect(file.bytes == Array("abc".utf8) && !file.isOpenToOthers)
            #expect(file.fingerprint == TLSFile.Fingerprint(of: path))
            try Data("abcd".utf8).write(to: URL(fileURLWithPath: path))
            #expect(file.fingerprint != TLSFile.Fingerprint(of: path))
        }
        for (mode, isOpen) in [(0o640, false), (0o644, true), (0o602, true)] {
            try withFile("abc", mode: mode) { path in
                let file = try TLSFile(path: path)
                #expect(file.isOpenToOthers == isOpen)
            }
        }
    }

    @Test func whatIsNoFileIsNamed() {
        for (path, reason) in [
            ("/nonexistent.pem", "No such file"), ("/", "it is no file"), ("/dev/null", "it is no file"),
        ] {
            let error = #expect(throws: TLSError.self) { try TLSFile(path: path) }
            #expect(error?.file == path && error?.reason.contains(reason) == true)
        }
        #expect(TLSFile.Fingerprint(of: "/nonexistent.pem") == nil)
    }

    @Test func withoutTLSTheRemedyIsSaid() throws {
        try withFile("abc") { path in
            let server = #expect(throws: TLSError.self) {
                try ServerTLS(TLSIdentityFiles(certificate: path, key: path), now: 0)
            }
            let client = #expect(throws: TLSError.self) { try ClientTLS(authorities: path) }
            if TLSSupport.isBuilt {
                #expect(server?.file == path && client?.file == path)
                #expect(server?.reason.contains("no certificate in PEM") == true)
            } else {
                #expect(server?.reason == TLSSupport.remedy && client?.reason == TLSSupport.remedy)
            }
        }
    }
}
