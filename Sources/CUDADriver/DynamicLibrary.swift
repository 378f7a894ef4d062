// Tandem — Apache-2.0

internal import CTandemSystem
internal import Glibc

/// A library opened at run time; it stays open as long as the process lives.
package struct DynamicLibrary: Sendable {
    /// The file, or the name under which the loader found it.
    package let path: String
    /// The `dlopen` handle, kept as a number so that the value can be sent.
    private let handle: UInt

    private init(path: String, handle: UInt) {
        self.path = path
        self.handle = handle
    }

    /// Why a library could not be opened.
    package struct OpeningFailure: Error, Sendable, Equatable {
        package var path: String
        package var reason: String
        /// Whether the file is there (or one that it needs is not), as opposed to nothing of that name.
        package var fileExists: Bool
    }

    /// - Parameters:
    ///   - path: a file, or a bare name for the loader's own search.
    ///   - global: whether libraries opened later may use its symbols.
    package static func open(_ path: String, global: Bool = false) throws(OpeningFailure) -> DynamicLibrary {
        guard let handle = dlopen(path, RTLD_NOW | (global ? RTLD_GLOBAL : RTLD_LOCAL)) else {
            let reason = dlerror().map { String(cString: $0) } ?? "unknown reason"
            throw OpeningFailure(path: path, reason: reason, fileExists: access(path, F_OK) == 0)
        }
        return DynamicLibrary(path: path, handle: UInt(bitPattern: handle))
    }

    /// The first of some files that opens and has a function; else why the most telling of them did not.
    package static func openFirst(
        of candidates: [String], having function: String? = nil
    ) throws(OpeningFailure) -> DynamicLibrary {
        var failure = OpeningFailure(path: "", reason: "nothing to open", fileExists: false)
        for (index, path) in candidates.enumerated() {
            do throws(OpeningFailure) {
                let library = try open(path)
                guard let function, library.address(of: function) == nil else { return library }
                throw OpeningFailure(path: path, reason: "it has no \(function)", fileExists: true)
            } catch {
                if index == 0 || (error.fileExists && !failure.fileExists) { failure = error }
            }
        }
        throw failure
    }

    /// The function of that name, or null. `Function` must be its C type.
    package func symbol<Function>(_ name: String, as: Function.Type = Function.self) -> Function? {
        guard let address = address(of: name) else { return nil }
        // A C function pointer and the address that dlsym returns have the same representation (POSIX).
        return unsafeBitCast(address, to: Function.self)
    }

    /// As ``symbol(_:as:)``; an error that names library and function if there is none.
    func function<Function>(_ name: String) throws(CUDAError) -> Function {
        guard let function = symbol(name, as: Function.self) else {
            throw CUDAError(
                kind: .missing, call: name, detail: "\(path) has no such function",
                remedy: "install a newer version of it")
        }
        return function
    }

    /// The file that holds a function of this library; its name if the loader does not say.
    package func file(holding name: String) -> String {
        guard let address = address(of: name) else { return path }
        return tandem_library_file(address).map { String(cString: $0) } ?? path
    }

    private func address(of name: String) -> UnsafeMutableRawPointer? {
        dlsym(UnsafeMutableRawPointer(bitPattern: handle), name)
    }
}
