// swift-tools-version: 6.2
import Foundation
import PackageDescription

let package = Package(
    name: "tandem",
    dependencies: [
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    ],
    targets: []
)

// MARK: - The rooms
// One line a target; what it may import is law (see CONTRIBUTING.md and Scripts/check-imports).

/// Settings of every Swift target of ours.
let swiftSettings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    .enableExperimentalFeature("Lifetimes"),
    .treatAllWarnings(as: .error),
]

/// Numeric targets are optimised in debug builds too: scalar Swift is ten times slower otherwise.
let numericSettings: [SwiftSetting] = swiftSettings + [.unsafeFlags(["-O"], .when(configuration: .debug))]

let nio: [Target.Dependency] = [
    .product(name: "NIOCore", package: "swift-nio"),
    .product(name: "NIOPosix", package: "swift-nio"),
]

enum Kind { case c, swift, numeric }

@MainActor func room(
    _ name: String, _ kind: Kind = .swift, _ rooms: [String] = [], _ products: [Target.Dependency] = []
) {
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().path
    let dependencies =
        products
        + rooms.filter { FileManager.default.fileExists(atPath: "\(root)/Sources/\($0)") }
        .map { Target.Dependency.byName(name: $0) }
    guard FileManager.default.fileExists(atPath: "\(root)/Sources/\(name)") else { return }
    let settings = kind == .numeric ? numericSettings : swiftSettings
    package.targets.append(
        .target(
            name: name,
            dependencies: dependencies,
            cSettings: kind == .c ? [.unsafeFlags(["-O3", "-Wall", "-Wextra", "-Werror"])] : [],
            swiftSettings: kind == .c ? [] : settings
        )
    )
    guard FileManager.default.fileExists(atPath: "\(root)/Tests/\(name)Tests") else { return }
    let support: [Target.Dependency] =
        FileManager.default.fileExists(atPath: "\(root)/Sources/TestSupport") ? ["TestSupport"] : []
    package.targets.append(
        .testTarget(
            name: "\(name)Tests",
            dependencies: [.init(stringLiteral: name)] + dependencies + (name == "TestSupport" ? [] : support),
            swiftSettings: swiftSettings
        )
    )
}

room("CTandemSystem", .c)
room("CPUKernels", .c)
room("JSON", .numeric)
room("Requests")
room("Weights", .numeric, ["JSON", "CTandemSystem"])
room("Tokenization", .numeric, ["JSON", "Weights", "Requests"])
room("LanguageModel", .swift, ["JSON", "Weights"])
room("InferenceEngine", .numeric, ["Requests", "LanguageModel"])
room("CPUExecutor", .numeric, ["InferenceEngine", "LanguageModel", "Weights", "CPUKernels", "CTandemSystem", "Requests"])
room("Telemetry", .swift, [], [.product(name: "Metrics", package: "swift-metrics")])
room("EngineLink", .swift, ["Requests"], nio)
room("EngineHost", .swift, ["EngineLink", "InferenceEngine", "CPUExecutor", "Weights", "Telemetry", "Requests", "LanguageModel", "CTandemSystem"], nio)
room("HTTPCore", .swift, [], nio + [.product(name: "NIOHTTP1", package: "swift-nio")])
room("Routing", .swift, ["Requests"])
room("Gateway", .swift, ["HTTPCore", "JSON", "Requests", "Routing", "EngineLink", "Tokenization", "Telemetry"], nio)
room("Supervision", .swift, ["CTandemSystem", "EngineLink", "LanguageModel", "Telemetry"])
room("Configuration", .swift, [], [.product(name: "ArgumentParser", package: "swift-argument-parser"), .product(name: "Yams", package: "Yams")])
room("ModelStore", .swift, ["JSON", "CTandemSystem"])
room("TestSupport", .swift, ["Requests", "InferenceEngine", "LanguageModel", "JSON"])

package.targets.append(
    .executableTarget(
        name: "engine-benchmark",
        dependencies: ["CPUExecutor", "InferenceEngine", "LanguageModel", "Requests", "Weights"],
        path: "Benchmarks/Engine",
        swiftSettings: swiftSettings
    )
)
