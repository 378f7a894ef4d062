// Tandem — Apache-2.0

internal import Glibc

/// Arrays of C strings, as libraries take them.
enum CStrings {
    /// Calls `body` with null-terminated copies and their number; the pointer is null if there are none.
    static func withPointers<Result>(
        _ strings: [String], _ body: (UnsafePointer<UnsafePointer<CChar>?>?, Int32) -> Result
    ) -> Result {
        let copies = strings.map { UnsafePointer<CChar>(strdup($0)) }
        defer { for copy in copies { free(UnsafeMutableRawPointer(mutating: copy)) } }
        return copies.withUnsafeBufferPointer { body($0.isEmpty ? nil : $0.baseAddress, Int32($0.count)) }
    }
}
