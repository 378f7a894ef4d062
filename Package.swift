// swift-tools-version: 6.2
import PackageDescription

/// Settings of every Swift target.
let swiftSettings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    .enableExperimentalFeature("Lifetimes"),
    .treatAllWarnings(as: .error),
]

/// Numeric rooms are optimised in debug builds too: scalar Swift is ten times slower otherwise, and tests with real
/// weights would take minutes.
let numericSettings = swiftSettings + [.unsafeFlags(["-O"], .when(configuration: .debug))]

/// Rooms that every token passes through do without run-time checks of exclusive access in release builds: those took
/// 3.2 of 10.4 thousand instructions of a proxied token. Debug builds, and so the tests, check.
let passingSettings = swiftSettings + [.unsafeFlags(["-enforce-exclusivity=unchecked"], .when(configuration: .release))]

let cSettings: [CSetting] = [.unsafeFlags(["-O3", "-Wall", "-Wextra", "-Werror"])]

func product(_ name: String, _ package: String) -> Target.Dependency { .product(name: name, package: package) }

let nio = [product("NIOCore", "swift-nio"), product("NIOPosix", "swift-nio")]

/// TLS, if it is asked for.
let tls: [Target.Dependency] = [("NIOSSL", "swift-nio-ssl"), ("NIOTLS", "swift-nio")].map {
    .product(name: $0.0, package: $0.1, condition: .when(traits: ["TLS"]))
}

/// A room and its tests. What a room may import is law: `Scripts/imports.txt`, held by `Scripts/check-imports`.
///
/// - Parameter tests: what the tests need besides the room and what it imports; `nil` for a room without tests.
func room(
    _ name: String, _ dependencies: [Target.Dependency] = [], numeric: Bool = false, passes: Bool = false,
    tests: [Target.Dependency]? = []
) -> [Target] {
    let settings = numeric ? numericSettings : passes ? passingSettings : swiftSettings
    let target = Target.target(name: name, dependencies: dependencies, swiftSettings: settings)
    guard let tests else { return [target] }
    return [target, testTarget(name, dependencies + tests)]
}

func cRoom(_ name: String, exclude: [String] = [], tests: [Target.Dependency] = []) -> [Target] {
    [.target(name: name, exclude: exclude, cSettings: cSettings), testTarget(name, tests)]
}

/// A room of C++ behind a C header. It is optimised in debug builds too, for the time of the tests.
func cxxRoom(_ name: String, tests: [Target.Dependency] = []) -> [Target] {
    let settings: [CXXSetting] = [.unsafeFlags(["-O2", "-Wall", "-Wextra", "-Werror"])]
    return [.target(name: name, cxxSettings: settings), testTarget(name, tests)]
}

func testTarget(_ room: String, _ dependencies: [Target.Dependency]) -> Target {
    .testTarget(
        name: "\(room)Tests", dependencies: [.byName(name: room), "TestSupport"] + dependencies,
        swiftSettings: swiftSettings)
}

/// A library that stands in for the driver. Its tests open it as a program does, and do not link it: the functions of
/// both copies would get mixed up.
let cudaDouble: [Target] = [
    .target(
        name: "CUDADouble", dependencies: ["CUDAEmulator"],
        cxxSettings: [
            .unsafeFlags(["-O3", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden"]),
            // The emulator's header is C, and no module is built of it for C++.
            .unsafeFlags(["-fno-modules", "-fno-cxx-modules", "-fvisibility-inlines-hidden"]),
        ],
        linkerSettings: [
            .linkedLibrary("m"), .linkedLibrary("pthread"),
            .unsafeFlags(["-Xlinker", "-Bsymbolic", "-Xlinker", "-z", "-Xlinker", "defs"]),
        ]),
    .testTarget(
        name: "CUDADoubleTests", dependencies: ["CUDADriver", "DeviceMonitor", "TestSupport"],
        swiftSettings: swiftSettings),
]

let rooms: [[Target]] = [
    cRoom("CTandemSystem"),
    cRoom("CPUKernels"),
    room("Processes", ["CTandemSystem"]),
    room("JSON", numeric: true),
    room("Requests"),
    room("Weights", ["JSON", "CTandemSystem"], numeric: true),
    room("Tokenization", ["JSON", "Weights", "Requests"], numeric: true),
    room("LanguageModel", ["JSON", "Weights"]),
    room("Grammar", ["JSON", "Requests"], numeric: true),
    room("InferenceEngine", ["Requests", "LanguageModel", "Grammar"], numeric: true),
    room(
        "CPUExecutor", ["InferenceEngine", "LanguageModel", "Weights", "CPUKernels", "CTandemSystem", "Requests"],
        numeric: true, tests: ["JSON"]),
    room("CUDADriver", ["CTandemSystem"], numeric: true),
    room(
        "CUDAExecutor",
        [
            "InferenceEngine", "LanguageModel", "Weights", "CTandemSystem", "Requests", "CUDADriver", "CUDAKernels",
        ], numeric: true,
        tests: ["CPUExecutor"]),
    room("DeviceMonitor", ["CUDADriver"]),
    room("GPUModel", ["LanguageModel"], numeric: true, tests: ["GPUModelValidation", "JSON"]),
    room("VirtualDevice", ["GPUModel", "LanguageModel", "JSON", "CTandemSystem", "Processes"], numeric: true),
    room(
        "SimulatedExecutor", ["InferenceEngine", "LanguageModel", "VirtualDevice", "Requests"], numeric: true,
        tests: ["GPUModel", "Grammar"]),
    room("Telemetry"),
    room("TerminalView", ["JSON"]),
    room("EngineLink", ["Requests"] + nio),
    room(
        "EngineHost",
        [
            "EngineLink", "InferenceEngine", "Grammar", "CPUExecutor", "CUDAExecutor", "CUDADriver",
            "SimulatedExecutor", "VirtualDevice", "Weights", "Requests", "LanguageModel", "CTandemSystem", "Processes",
        ] + nio,
        tests: ["Tokenization"]),
    room("HTTPCore", nio + tls, passes: true, tests: [product("NIOEmbedded", "swift-nio")]),
    room("Routing", ["Requests"], numeric: true, tests: ["RoutingSimulation"]),
    room(
        "Gateway",
        ["HTTPCore", "JSON", "Requests", "Grammar", "Routing", "EngineLink", "Tokenization", "Telemetry"] + nio,
        passes: true, tests: ["Weights", "InferenceEngine", "LanguageModel", product("NIOEmbedded", "swift-nio")]),
    room("LoadGenerator", ["EngineLink", "HTTPCore", "JSON", "Requests", "Tokenization"] + nio),
    room("Supervision", ["CTandemSystem", "Processes", "MPS", "EngineLink", "VirtualDevice"]),
    room("MPS", ["CTandemSystem", "Processes"]),
    room("Diagnosis", ["MPS", "CTandemSystem", "CUDADriver"]),
    room(
        "Study",
        [
            "EngineLink", "GPUModel", "HTTPCore", "InferenceEngine", "JSON", "LanguageModel", "LoadGenerator", "MPS",
            "Processes", "Requests", "Supervision", product("NIOCore", "swift-nio"),
        ], numeric: true),
    room("Configuration", [product("ArgumentParser", "swift-argument-parser"), product("Yams", "Yams")]),
    room("ModelStore", ["JSON", "CTandemSystem", "Processes"]),
    cRoom("CUDAKernelText", exclude: ["Kernels"]),
    room("CUDAKernels", ["CUDAKernelText"]),
    cxxRoom("CUDAEmulator", tests: ["CUDAKernels"]),
    cudaDouble,
    room("CUDAKernelChecks", ["CUDAKernels"], numeric: true, tests: ["CUDAEmulator", "Requests"]),
    room("StudyReport", ["Study", "LanguageModel", "JSON"]),
    room("TestSupport", ["Requests", "InferenceEngine", "LanguageModel"], tests: nil),
]

let package = Package(
    name: "tandem",
    products: [
        .executable(name: "tandem", targets: ["tandem"]),
        .library(name: "tandem-cuda-double", type: .dynamic, targets: ["CUDADouble"]),
    ],
    traits: [
        .trait(
            name: "TLS",
            description: "TLS for clients and towards servers. Off by default: its cryptography takes minutes to build."
        )
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.0"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    ],
    targets: rooms.flatMap { $0 } + [
        .executableTarget(
            name: "tandem",
            dependencies: [
                "CPUExecutor", "CUDADriver", "CUDAExecutor", "CUDAKernelChecks", "CUDAKernels", "Configuration",
                "DeviceMonitor", "Diagnosis", "EngineHost", "EngineLink", "GPUModel", "Gateway", "Grammar", "HTTPCore",
                "InferenceEngine", "JSON", "LanguageModel", "LoadGenerator", "MPS", "ModelStore", "Requests",
                "Processes", "SimulatedExecutor", "Study", "StudyReport", "Supervision",
                "Telemetry", "TerminalView", "Tokenization", "VirtualDevice", "Weights", "CTandemSystem",
                product("ArgumentParser", "swift-argument-parser"),
            ] + nio,
            swiftSettings: swiftSettings
        ),
        .target(name: "AllocationCounter", path: "Benchmarks/AllocationCounter", cSettings: cSettings),
        .target(name: "BenchmarkKernels", path: "Benchmarks/Kernels", cSettings: cSettings),
        .executableTarget(
            name: "engine-benchmark",
            dependencies: [
                "AllocationCounter", "BenchmarkKernels", "CPUExecutor", "InferenceEngine", "LanguageModel", "Requests",
                "Weights",
            ],
            path: "Benchmarks/Engine",
            swiftSettings: swiftSettings
        ),
        .target(name: "GatewayLoad", path: "Benchmarks/gateway/Native", cSettings: cSettings),
        .executableTarget(
            name: "gateway-benchmark",
            dependencies: ["EngineLink", "GatewayLoad", "JSON", "Requests", "Tokenization"] + nio,
            path: "Benchmarks/gateway/Command",
            swiftSettings: swiftSettings
        ),
        .target(
            name: "RoutingSimulation", dependencies: ["Requests", "Routing", "TestSupport"],
            path: "Benchmarks/Routing/Library", swiftSettings: numericSettings),
        .executableTarget(
            name: "routing-benchmark", dependencies: ["Requests", "Routing", "RoutingSimulation", "TestSupport"],
            path: "Benchmarks/Routing/Command", swiftSettings: numericSettings),
        .target(
            name: "GPUModelValidation", dependencies: ["GPUModel", "JSON", "LanguageModel"],
            path: "Benchmarks/GPUModel/Library", swiftSettings: numericSettings),
        .executableTarget(
            name: "gpu-model-report", dependencies: ["GPUModel", "GPUModelValidation", "LanguageModel"],
            path: "Benchmarks/GPUModel/Command", swiftSettings: numericSettings),
        .target(
            name: "Fuzzing",
            dependencies: ["JSON", "LanguageModel", "Requests", "TestSupport", "Tokenization", "Weights"],
            path: "Fuzzing/Library", swiftSettings: numericSettings),
        .executableTarget(
            name: "fuzz", dependencies: ["Fuzzing"], path: "Fuzzing/Command", swiftSettings: swiftSettings),
        testTarget("Fuzzing", []),
    ],
    cxxLanguageStandard: .cxx20
)
