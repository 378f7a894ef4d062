// Tandem — Apache-2.0

import ArgumentParser
import Configuration
import EngineHost
import EngineLink
import Gateway
import Glibc
import HTTPCore
import LanguageModel
import NIOCore
import Telemetry
import Tokenization

/// The gateway process: started by the supervisor, or by itself in front of servers that run anyway.
struct GatewayCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "gateway",
        abstract: "Put one endpoint in front of OpenAI-compatible servers that run already.",
        discussion: """
            The servers may be vLLM, SGLang, llama-server, another Tandem or anything else that speaks the OpenAI API. \
            Requests go to the one with the least to do that has the model, and elsewhere if it fails; see \
            docs/gateway.md.

            Example:
              tandem gateway --endpoints http://10.0.0.1:8000,http://10.0.0.2:8000
              tandem gateway --roster /etc/tandem/roster
              tandem gateway --endpoints dns+http://vllm.models.svc.cluster.local:8000
              tandem gateway smollm2-135m-instruct --endpoints link+tcp:10.0.0.1:7000

            Engines of Tandem itself (link+tcp:HOST:PORT, link+unix:PATH) need the model, for its tokenizer.
            """)

    @OptionGroup(title: "Engines") var engines: EndpointFlags
    @OptionGroup(title: "Server") var server: GatewayFlags

    @Option(help: .hidden, transform: GatewayModel.init) var servedModel: [GatewayModel] = []
    /// The supervisor's roster names servers besides.
    @Flag(help: .hidden) var externalEngines = false
    /// GPUs that are watched, by index or UUID.
    @Option(help: .hidden) var monitorGpu: [String] = []
    @Flag(help: .hidden) var monitorSimulated = false
    @Option(help: .hidden) var statusFd: Int32?
    @Option(help: .hidden) var listenFd: Int32?
    @Option(help: .hidden) var engineListenFd: [Int32] = []

    func run() throws {
        HeapPages.enlarge()
        DescriptorLimit.raise()
        let events = ProcessEvents(processName: "tandem-gateway")
        let configuration: GatewayConfiguration
        do {
            configuration = try makeConfiguration()
        } catch {
            Process.log("gateway: cannot start: \(error)")
            throw ExitCode(EngineExit.misconfigured.rawValue)
        }
        if let board = configuration.devices {
            GatewayMonitor.watch(monitorGpu, isSimulated: monitorSimulated, on: board, log: configuration.log)
        }
        // The main thread only waits, so that signals have somebody who takes them at any time.
        let lifetime = Task {
            try await GatewayServer.start(configuration) { reason in
                Process.log("gateway: \(reason)")
                events.end(with: EngineExit.supervisorGone.rawValue)
            }
        }
        Task { [server] in
            do {
                let port = try await lifetime.value.port
                if configuration.supervisor == nil {
                    let scheme = configuration.tls == nil ? "http" : "https"
                    Process.log("gateway: serving on \(scheme)://\(server.address(port: port ?? 0))/v1")
                }
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
        var count: UInt32 = 0
        for model in servedModel {
            var served: ServedModel
            do {
                served = try self.served(model)
            } catch {
                guard servedModel.count > 1 else { throw error }
                throw ConfigurationError(source: "model \(model.names[0])", reason: "\(error)")
            }
            count = model.firstEngine.map { UInt32($0) } ?? count
            served.engines = count..<count + UInt32(model.engines)
            count += UInt32(model.engines)
            models.append(served)
        }
        let sources = try engines.sources()
        if let model = try engines.linkedModel() { models.append(try served(model)) }
        let external = try engines.external(sources, fromSupervisor: externalEngines)
        guard !models.isEmpty || external != nil else {
            throw ConfigurationError(
                source: "--endpoints", reason: "give the servers, such as http://127.0.0.1:8001,http://127.0.0.1:8002")
        }
        var configuration = GatewayConfiguration(
            models: models,
            listener: listenFd.map { .fileDescriptor($0) } ?? server.listener(),
            supervisor: statusFd,
            version: Tandem.version,
            pid: getpid(),
            // What a gateway that serves has to say are warnings, and at `debug` its requests.
            log: { [logLevel = server.logLevel] in if logLevel != .error { Process.log("gateway: \($0)") } },
            secondsSince1970: Process.secondsSince1970)
        configuration.tls = try server.tls()
        configuration.external = external
        configuration.upstreams = sources
        configuration.enginePorts =
            engineListenFd.isEmpty ? try server.portsOfEngines() : .descriptors(engineListenFd)
        configuration.drainTimeout = try server.time(server.shutdownTimeout, of: "--shutdown-timeout")
        configuration.holdTimeout = try server.time(server.holdTimeout, of: "--hold-timeout")
        configuration.eventLoops = server.threads
        configuration.maximumSequences = server.maxRequests
        configuration.engineSilenceTimeout = try server.time(
            server.engineSilenceTimeout, of: "--engine-silence-timeout")
        configuration.slowClientTimeout = try server.time(server.slowClientTimeout, of: "--slow-client-timeout")
        switch server.accessLog {
        case .text: configuration.accessLog = AccessLogSettings(format: .text) { Process.write($0, to: STDOUT_FILENO) }
        case .json: configuration.accessLog = AccessLogSettings(format: .json) { Process.write($0, to: STDOUT_FILENO) }
        case .off where server.logLevel == .debug:
            configuration.accessLog = AccessLogSettings(format: .text) { Process.write($0, to: STDERR_FILENO) }
        case .off: break
        }
        if !monitorGpu.isEmpty || monitorSimulated { configuration.devices = DeviceBoard() }
        configuration.apiKeys = server.apiKey
        configuration.allowedOrigins = AllowedOrigins(
            try server.allowedOrigins.map { try OriginList.origins($0, source: "--allowed-origins") } ?? [])
        if let key = Process.environment()["TANDEM_API_KEY"], !key.isEmpty { configuration.apiKeys.append(key) }
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
            created: created, endTokens: file.checkpoint.generation.endTokens,
            vectorSize: file.checkpoint.description.hiddenSize)
    }
}
