// Tandem — Apache-2.0

internal import Glibc

/// Where libcuda, NVRTC and cuBLASLt may be: a pure list of candidates, from the environment and a view of the folders.
///
/// Variables: `TANDEM_CUDA_DRIVER`, `TANDEM_NVRTC`, `TANDEM_CUBLASLT` and `TANDEM_NVML` name a file and end the search.
/// `CUDA_HOME`, `CUDA_PATH` and `VIRTUAL_ENV` are the usual ones.
package struct LibrarySearch: Sendable {
    var environment: [String: String]
    /// Names in a folder; empty if there is none.
    var names: @Sendable (_ folder: String) -> [String]
    /// Where symbolic links lead, or null if nothing is there.
    var resolved: @Sendable (_ path: String) -> String?

    package init(environment: [String: String]) {
        self.init(environment: environment, names: Self.folderNames, resolved: Self.resolvedPath)
    }

    init(
        environment: [String: String], names: @escaping @Sendable (String) -> [String],
        resolved: @escaping @Sendable (String) -> String?
    ) {
        self.environment = environment
        self.names = names
        self.resolved = resolved
    }

    /// Major versions of toolkit libraries that are tried, best first.
    static let majorVersions = [13, 12]

    #if arch(arm64)
        static let machine = "aarch64"
        static let toolkitTarget = "sbsa-linux"
    #else
        static let machine = "x86_64"
        static let toolkitTarget = "x86_64-linux"
    #endif

    /// The driver's own library. It belongs to the kernel module and never comes with a toolkit.
    func driverCandidates() -> [String] {
        if let path = named("TANDEM_CUDA_DRIVER") { return [path] }
        return ["libcuda.so.1"] + driverFolders.map { "\($0)/libcuda.so.1" }
    }

    /// The management library, which comes with the driver. A double of the driver, which `TANDEM_CUDA_DRIVER` may name,
    /// is a double of it, too.
    package func managementCandidates() -> [String] {
        if let path = named("TANDEM_NVML") { return [path] }
        return [named("TANDEM_CUDA_DRIVER"), "libnvidia-ml.so.1"].compactMap(\.self)
            + driverFolders.map { "\($0)/libnvidia-ml.so.1" }
    }

    private var driverFolders: [String] {
        [
            "/usr/lib/\(Self.machine)-linux-gnu", "/usr/lib64", "/usr/local/nvidia/lib64", "/usr/local/nvidia/lib",
            "/usr/lib/wsl/lib", "/run/opengl-driver/lib",
        ]
    }

    /// Files and bare names of the run-time compiler, best first.
    ///
    /// - Parameter driverMajor: NVRTC of a newer major version makes code that the driver cannot load; null if it is not
    ///   known.
    func compilerCandidates(driverMajor: Int? = nil) -> [String] {
        if let path = named("TANDEM_NVRTC") { return [path] }
        return candidates(
            "libnvrtc", wheels: ["cuda_nvrtc"], majors: Self.majorVersions.filter { $0 <= driverMajor ?? $0 })
    }

    /// Files and bare names of cuBLASLt, best first.
    func matrixCandidates(driverMajor: Int? = nil) -> [String] {
        if let path = named("TANDEM_CUBLASLT") { return [path] }
        return candidates(
            "libcublasLt", wheels: ["cublas"], majors: Self.majorVersions.filter { $0 <= driverMajor ?? $0 })
    }

    /// Libraries beside NVRTC that it opens by bare name, which fails unless they are open already.
    func builtins(besideCompiler path: String) -> [String] {
        guard let folder = Self.folder(of: path) else { return [] }
        return names(folder).filter { $0.hasPrefix("libnvrtc-builtins.so") }.sorted().map { "\(folder)/\($0)" }
    }

    private func named(_ variable: String) -> String? {
        environment[variable].flatMap { $0.isEmpty ? nil : $0 }
    }

    private func candidates(_ library: String, wheels: [String], majors: [Int]) -> [String] {
        var found: [String] = []
        for major in majors {
            let name = "\(library).so.\(major)"
            // What the loader finds by itself (LD_LIBRARY_PATH, ld.so.conf) comes first: its owner chose it.
            found.append(name)
            let folders = toolkitFolders(major: major) + wheelFolders(wheels, major: major)
            found += folders.filter { names($0).contains(name) }.map { "\($0)/\(name)" }
        }
        var seen: Set<String> = []
        return found.filter { seen.insert($0).inserted }
    }

    private func toolkitFolders(major: Int) -> [String] {
        var roots = ["CUDA_HOME", "CUDA_PATH"].compactMap { named($0) }
        roots += ["/usr/local/cuda", "/usr/local/cuda-\(major)", "/opt/cuda"]
        let versions = names("/usr/local").filter { $0.hasPrefix("cuda-\(major).") }.sorted(by: >)
        roots += versions.map { "/usr/local/\($0)" }
        return roots.flatMap { ["\($0)/lib64", "\($0)/targets/\(Self.toolkitTarget)/lib", "\($0)/lib"] }
            + ["/usr/lib/\(Self.machine)-linux-gnu", "/usr/lib64"]
    }

    /// Folders of NVIDIA's wheels in every Python environment that can be seen: `nvidia/cu13/lib` from CUDA 13 on,
    /// `nvidia/<library>/lib` before.
    private func wheelFolders(_ wheels: [String], major: Int) -> [String] {
        sitePackages().flatMap { site in
            ["\(site)/nvidia/cu\(major)/lib"] + wheels.map { "\(site)/nvidia/\($0)/lib" }
        }
    }

    /// The packages of the active environment, of each `python3` on PATH, and of environments at usual places.
    func sitePackages() -> [String] {
        var roots = ["VIRTUAL_ENV", "CONDA_PREFIX"].compactMap { named($0) }
        for directory in (environment["PATH"] ?? "").split(separator: ":") {
            for python in ["python3", "python"] {
                let path = "\(directory)/\(python)"
                guard let target = resolved(path) else { continue }
                // A virtual environment's python3 is a link out of it: both ends count.
                roots += [path, target].compactMap { Self.folder(of: $0).flatMap { Self.folder(of: $0) } }
            }
        }
        for place in ["/opt", "/root", named("HOME") ?? "/root"] {
            roots += names(place).sorted().flatMap { name in
                ["", "/.venv", "/venv"].map { "\(place)/\(name)\($0)" }
            }
        }
        roots += ["/usr/local", "/usr", "/opt/conda"]
        var sites: [String] = []
        var seen: Set<String> = []
        for root in roots where seen.insert(root).inserted {
            for library in ["\(root)/lib", "\(root)/lib64"] {
                for version in names(library).filter({ $0.hasPrefix("python3") }).sorted(by: >) {
                    sites += ["\(library)/\(version)/site-packages", "\(library)/\(version)/dist-packages"]
                }
            }
        }
        return sites.filter { names("\($0)/nvidia").isEmpty == false }
    }

    static func folder(of path: String) -> String? {
        guard let slash = path.lastIndex(of: "/"), slash != path.startIndex else { return nil }
        return String(path[..<slash])
    }

    private static let folderNames: @Sendable (String) -> [String] = { folder in
        CacheFolder.names(folder).filter { $0 != "." && $0 != ".." }
    }

    private static let resolvedPath: @Sendable (String) -> String? = { path in
        guard let target = realpath(path, nil) else { return nil }
        defer { free(target) }
        return String(cString: target)
    }
}
