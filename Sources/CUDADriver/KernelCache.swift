// Tandem — Apache-2.0

internal import Glibc

/// Compiled kernels on disk, so that only the first start compiles.
///
/// A file is a cubin, `NAME-ARCHITECTURE-KEY-nvrtcVERSION.cubin`, followed by a hash of itself. It is written beside its
/// place and renamed, so that processes that start together see whole files. One that is damaged is compiled again.
///
/// `TANDEM_CUDA_CUBINS` names a folder of kernels compiled elsewhere, `NAME-ARCHITECTURE-KEY.cubin`, which is only read
/// and comes first; with it no compiler is needed.
public struct KernelCache: Sendable {
    /// Where compiled kernels are kept; null to keep none.
    public var folder: String?
    /// Where kernels compiled elsewhere are.
    public var precompiledFolder: String?

    public init(folder: String?, precompiledFolder: String? = nil) {
        self.folder = folder
        self.precompiledFolder = precompiledFolder
    }

    /// `$XDG_CACHE_HOME/tandem/cubins`, or `~/.cache/tandem/cubins`.
    public init(environment: [String: String]) {
        func value(_ name: String) -> String? { environment[name].flatMap { $0.isEmpty ? nil : $0 } }
        let cache = value("XDG_CACHE_HOME") ?? value("HOME").map { "\($0)/.cache" }
        folder = cache.flatMap { $0.hasPrefix("/") ? "\($0)/tandem/cubins" : nil }
        precompiledFolder = value("TANDEM_CUDA_CUBINS")
    }

    /// Where an image came from.
    public enum Origin: Sendable, Equatable {
        case precompiled(String)
        case cached(String)
        case compiled
    }

    public struct Entry: Sendable {
        public var image: [UInt8]
        public var origin: Origin
        /// The compiler's log; null unless compiled now.
        public var log: String?
    }

    /// Name of a kernel compiled elsewhere.
    public static func precompiledName(_ source: KernelSource, architecture: String) -> String {
        "\(source.name)-\(architecture)-\(source.key).cubin"
    }

    /// - Parameter compiler: its ``KernelCompiler/identity``.
    static func name(_ source: KernelSource, architecture: String, compiler: String) -> String {
        "\(source.name)-\(architecture)-\(source.key)-\(compiler).cubin"
    }

    /// The cubin of a source: compiled elsewhere, kept from before, or compiled now and kept. Being unable to keep it is
    /// no error.
    ///
    /// - Parameters:
    ///   - compiler: gives the compiler; asked only if nothing was compiled elsewhere. When it throws, a file that any
    ///     version of the compiler left will do.
    ///   - fresh: compile in any case, as after a file that the driver refused.
    public func image(
        of source: KernelSource, architecture: String, fresh: Bool = false,
        compiler: () throws(CUDAError) -> KernelCompiler
    ) throws(CUDAError) -> Entry {
        if !fresh, let folder = precompiledFolder {
            let path = "\(folder)/\(Self.precompiledName(source, architecture: architecture))"
            if let image = Self.read(path) { return Entry(image: image, origin: .precompiled(path)) }
        }
        let found: KernelCompiler
        do throws(CUDAError) {
            found = try compiler()
        } catch {
            if !fresh, let entry = fromAnyCompiler(source, architecture: architecture) { return entry }
            throw error
        }
        let path = folder.map { "\($0)/\(Self.name(source, architecture: architecture, compiler: found.identity))" }
        if !fresh, let path, let image = Self.read(path) { return Entry(image: image, origin: .cached(path)) }
        let output = try found.compile(source, architecture: architecture)
        if let path { _ = Self.write(output.image, to: path) }
        return Entry(image: output.image, origin: .compiled, log: output.log)
    }

    /// Loads a source's kernels. A file that the driver refuses is compiled again.
    public func module(
        of source: KernelSource, in context: CUDAContext, compiler: () throws(CUDAError) -> KernelCompiler
    ) throws(CUDAError) -> (module: CUDAModule, entry: Entry) {
        let architecture = context.device.computeCapability.architecture
        let entry = try image(of: source, architecture: architecture, compiler: compiler)
        do throws(CUDAError) {
            return (try CUDAModule(context, image: entry.image), entry)
        } catch {
            guard entry.origin != .compiled, [200, 209, 218, 222].contains(error.code) else { throw error }
            let entry = try image(of: source, architecture: architecture, fresh: true, compiler: compiler)
            return (try CUDAModule(context, image: entry.image), entry)
        }
    }

    private func fromAnyCompiler(_ source: KernelSource, architecture: String) -> Entry? {
        guard let folder else { return nil }
        let prefix = "\(source.name)-\(architecture)-\(source.key)-nvrtc"
        for name in CacheFolder.names(folder).filter({ $0.hasPrefix(prefix) && $0.hasSuffix(".cubin") }).sorted(by: >) {
            if let image = Self.read("\(folder)/\(name)") {
                return Entry(image: image, origin: .cached("\(folder)/\(name)"))
            }
        }
        return nil
    }

    /// Ends files that this cache wrote: eight bytes of text, then the hash of what is before.
    private static let mark = Array("tandem1\n".utf8)

    /// The image in a file; null if there is none or it is damaged.
    static func read(_ path: String) -> [UInt8]? {
        guard let bytes = CacheFolder.read(path) else { return nil }
        let trailer = mark.count + 16
        var image = bytes
        if bytes.count > trailer, bytes[(bytes.count - trailer)...].starts(with: mark) {
            image.removeLast(trailer)
            guard bytes.suffix(16).elementsEqual(hash(image)) else { return nil }
        }
        return CubinImage.isComplete(image) ? image : nil
    }

    static func write(_ image: [UInt8], to path: String) -> Bool {
        CacheFolder.write(image + mark + hash(image), to: path)
    }

    private static func hash(_ bytes: [UInt8]) -> [UInt8] {
        var hash = FNVHash()
        hash.add(bytes)
        return (0..<16).map { UInt8(truncatingIfNeeded: hash.value >> (8 * $0)) }
    }
}
