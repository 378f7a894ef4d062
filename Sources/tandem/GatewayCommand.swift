// Tandem — Apache-2.0

import ArgumentParser
import Configuration
import EngineHost
import Gateway
import Glibc
import HTTPCore
import LanguageModel
import NIOCore
import Tokenization

/// The gateway process, started by the supervisor.
struct GatewayCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "gateway",
        abstract: "Run the HTTP gateway in front of engines. Started by tandem serve.",
        shouldDisplay: false)

    @Option(help: "A model as JSON, once a model.", transform: GatewayModel.init) var servedModel: [GatewayModel]
    @Option(help: "Milliseconds.") var shutdownTimeout: Int64 = 30_000
    @Option var threads: Int = 1
    @Option(help: "Milliseconds.") var engineSilenceTimeout: Int64 = 2000
    @Option(help: "Milliseconds.") var slowClientTimeout: Int64 = 60_000
    @Option var accessLog: AccessLogFormat = .off
    @Option var statusFd: Int32?
    @Option var listenFd: Int32
    @Option var logLevel: LogLevel = .info

    func run() throws {
        let events = ProcessEvents(processName: "tandem-gateway")
        let configuration: GatewayConfiguration
        do {
            configuration = try makeConfiguration()
        } catch {
            Process.log("gateway: cannot start: \(error)")
            throw ExitCode(EngineExit.misconfigured.rawValue)
        }
        // The main thread only waits, so that signals have somebody who takes them at any time.
        let lifetime = Task {
            try await GatewayServer.start(configuration) { reason in
                Process.log("gateway: \(reason)")
                events.end(with: EngineExit.supervisorGone.rawValue)
            }
        }
        Task {
            do {
                _ = try await lifetime.value
            } catch {
                Process.log("gateway: cannot start: \(error)")
                events.end(with: EngineExit.startFailed.rawValue)
            }
        }
        var isDraining = false
        while true {
            switch events.next() {
            case .end(let code):
                throw ExitCode(code)
            case .signal:
                guard !isDraining else { throw ExitCode(EngineExit.abandoned.rawValue) }
                isDraining = true
                Task {
                    if let server = try? await lifetime.value { await server.drain() }
                    events.end(with: 0)
                }
            }
        }
    }

    private func makeConfiguration() throws -> GatewayConfiguration {
        var models: [ServedModel] = []
        var engines: UInt32 = 0
        for model in servedModel {
            var served: ServedModel
            do {
                served = try self.served(model)
            } catch {
                guard servedModel.count > 1 else { throw error }
                throw ConfigurationError(source: "model \(model.names[0])", reason: "\(error)")
            }
            served.engines = engines..<engines + UInt32(model.engines)
            engines += UInt32(model.engines)
            models.append(served)
        }
        guard !models.isEmpty else { throw ValidationError("no --served-model is given") }
        var configuration = GatewayConfiguration(
            models: models,
            listener: .fileDescriptor(listenFd),
            supervisor: statusFd,
            version: Tandem.version,
            pid: getpid(),
            // What a gateway that serves has to say are warnings, and at `debug` its requests.
            log: { [logLevel] in if logLevel != .error { Process.log("gateway: \($0)") } },
            secondsSince1970: Process.secondsSince1970)
        configuration.drainTimeout = .milliseconds(shutdownTimeout)
        configuration.eventLoops = threads
        configuration.engineSilenceTimeout = .milliseconds(engineSilenceTimeout)
        configuration.slowClientTimeout = .milliseconds(slowClientTimeout)
        switch accessLog {
        case .text: configuration.accessLog = AccessLogSettings(format: .text) { Process.write($0, to: STDOUT_FILENO) }
        case .json: configuration.accessLog = AccessLogSettings(format: .json) { Process.write($0, to: STDOUT_FILENO) }
        case .off where logLevel == .debug:
            configuration.accessLog = AccessLogSettings(format: .text) { Process.write($0, to: STDERR_FILENO) }
        case .off: break
        }
        if let key = Process.environment()["TANDEM_API_KEY"], !key.isEmpty { configuration.apiKeys = [key] }
        return configuration
    }

    /// Opens what text needs of a model.
    private func served(_ model: GatewayModel) throws -> ServedModel {
        let file = try ModelFile(model.choice, maximumContextLength: model.contextLength)
        let tokenizer = try file.tokenizer()
        var chatTemplate: ChatTemplate?
        if let source = tokenizer.chatTemplateSource {
            do {
                chatTemplate = try ChatTemplate(source: source)
            } catch {
                let whose = servedModel.count == 1 ? "the model's" : "\(model.names[0])'s"
                Process.log("gateway: no chat completions, \(whose) chat template cannot be used: \(error)")
            }
        }
        var status = stat()
        let created = stat(model.choice.path, &status) == 0 ? Int(status.st_mtim.tv_sec) : 0
        return ServedModel(
            names: model.names, tokenizer: tokenizer, chatTemplate: chatTemplate, contextLength: file.contextLength,
            created: created, endTokens: file.checkpoint.generation.endTokens)
    }
}
