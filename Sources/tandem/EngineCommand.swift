// Tandem — Apache-2.0

import ArgumentParser
import CPUExecutor
import Configuration
import EngineHost
import EngineLink
import InferenceEngine
import LanguageModel
import NIOCore
import NIOPosix
import Tokenization

/// One engine process, started by the supervisor.
struct EngineCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "engine",
        abstract: "Run one engine: tokens in, tokens out. Started by tandem serve.",
        shouldDisplay: false)

    /// Added to the nice value of compute threads, so that the gateway and the engine's own link go first.
    private static let computeNice: Int32 = 5

    @Option var index: UInt32 = 0
    @Option var model: String
    @Option var servedModelName: String
    @Option var link: String
    @Option var threads: Int = 1
    @Option var cpuCompute: CPUComputeSetting = .auto
    @Option var maxModelLen: Int?
    @Option var maxNumSeqs: Int = 128
    @Option var maxNumBatchedTokens: Int = 512
    @Option(help: "Bytes.") var kvCacheMemory: Int
    @Flag var asyncScheduling = false
    @Option var statusFd: Int32?
    @Option var weightsFd: Int32?
    @Option var logLevel: LogLevel = .info

    func run() throws {
        let events = ProcessEvents(processName: "tandem-engine")
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let service: EngineService
        do {
            service = try start(on: group.next())
        } catch {
            log("cannot start: \(error)")
            throw ExitCode(EngineExit.startFailed.rawValue)
        }
        service.ended.whenComplete { result in
            let end = (try? result.get()) ?? .deviceFailed
            events.end(with: end.rawValue)
        }
        while true {
            switch events.next() {
            case .signal:
                service.terminate()
            case .end(let code):
                // Only after a drain the device is at rest; else the process just ends, and the kernel cleans up.
                if code == EngineExit.drained.rawValue {
                    service.shutdown()
                } else {
                    try? service.closeLink().wait()
                }
                throw ExitCode(code)
            }
        }
    }

    private func start(on eventLoop: any EventLoop) throws -> EngineService {
        let address = try LinkAddress(link)
        let file = try ModelFile(path: model, maximumContextLength: maxModelLen)
        let tokenizer = try Tokenizer(gguf: file.gguf)
        let executor = try CPUExecutor(
            model: file.description, file: file.gguf,
            options: CPUExecutor.Options(
                compute: cpuCompute.compute, threads: threads, weightsDescriptor: weightsFd,
                cpus: Process.usableCores(),
                niceIncrement: Self.computeNice))
        let options = EngineServiceOptions(
            index: index,
            modelName: servedModelName,
            tokenizerFingerprint: tokenizer.fingerprint,
            vocabularySize: file.description.vocabularySize,
            scheduler: SchedulerConfiguration(
                slots: maxNumSeqs, tokensPerStep: maxNumBatchedTokens, contextLength: file.contextLength,
                vocabularySize: file.description.vocabularySize, asynchronous: asyncScheduling,
                modelFingerprint: executor.modelFingerprint),
            keyValueBytes: kvCacheMemory,
            groups: file.description.kvGroups,
            address: address,
            statusDescriptor: statusFd)
        let name = "engine \(index)"
        return try EngineService.start(
            executor: executor, options: options, on: eventLoop, now: Process.nanoseconds
        ) { Process.log("\(name): \($0)") }
    }

    private func log(_ text: String) {
        Process.log("engine \(index): \(text)")
    }
}
