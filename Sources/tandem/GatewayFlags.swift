// Tandem — Apache-2.0

import ArgumentParser
import Configuration
import EngineLink
import Gateway
import HTTPCore
import ModelStore
import NIOCore

/// Whom a gateway serves, and where.
struct GatewayFlags: ParsableArguments {
    @Option(help: ArgumentHelp("Address to listen on; 0.0.0.0 for all.", valueName: "address"))
    var host = "127.0.0.1"

    @Option(help: ArgumentHelp("Port to listen on; 0 takes any free one.", valueName: "number"))
    var port: UInt16 = 8000

    @Option(help: ArgumentHelp("First of the ports that reach one engine each.", valueName: "number"))
    var enginePorts: UInt16?

    @Option(
        help: ArgumentHelp("PEM file with the certificate to show to clients, who then speak TLS.", valueName: "path"))
    var tlsCertificate: String?

    @Option(help: ArgumentHelp("PEM file with its private key.", valueName: "path"))
    var tlsKey: String?

    @Option(
        help: ArgumentHelp("Key that clients must send, once a key; better given as TANDEM_API_KEY.", valueName: "key"))
    var apiKey: [String] = []

    @Option(
        help: ArgumentHelp(
            "Web pages that may call it from a browser: origins such as https://chat.example.org, with commas, or *.",
            valueName: "origins"))
    var allowedOrigins: String?

    @Option(help: ArgumentHelp("Threads that serve connections.", valueName: "number"))
    var threads = 1

    @Option(help: ArgumentHelp("Requests that may be unfinished, a thread; one more gets 429.", valueName: "number"))
    var maxRequests = 4096

    @Option(help: ArgumentHelp("How long a request waits when no engine serves.", valueName: "time"))
    var holdTimeout = "30s"

    @Option(help: ArgumentHelp("How long open requests may take to finish at the end.", valueName: "time"))
    var shutdownTimeout = "30s"

    @Option(
        help: ArgumentHelp("How long an engine of Tandem may be silent before its work moves on.", valueName: "time"))
    var engineSilenceTimeout = "2s"

    @Option(
        help: ArgumentHelp("How long a client may take nothing before its request is cancelled.", valueName: "time"))
    var slowClientTimeout = "60s"

    @Option(
        help: ArgumentHelp("A line on the standard output for every request: off, text or json.", valueName: "format"))
    var accessLog: AccessLogFormat = .off

    @Option(help: ArgumentHelp("debug, info, warning or error.", valueName: "level"))
    var logLevel: LogLevel = .info

    func validate() throws {
        guard threads > 0, maxRequests > 0 else {
            throw ValidationError("--threads and --max-requests take numbers from 1 on")
        }
    }

    func listener() -> HTTPListener { .address(host: host, port: Int(port)) }

    /// Ports of single engines; nil if none are wanted.
    func portsOfEngines() throws -> EnginePorts? {
        guard let enginePorts else { return nil }
        guard enginePorts > 0 else {
            throw ConfigurationError(source: "--engine-ports", reason: "the first port is a number from 1 to 65535")
        }
        return .from(host: host, first: Int(enginePorts))
    }

    /// What clients are shown; nil for plain HTTP.
    func tls() throws -> ServerTLS? {
        let environment = Process.environment()
        func text(_ flag: String?, _ variable: String) -> String? {
            if let flag { return flag }
            return environment[variable].flatMap { $0.isEmpty ? nil : $0 }
        }
        return try ServerTLS.configured(
            certificate: text(tlsCertificate, "TANDEM_TLS_CERTIFICATE"), key: text(tlsKey, "TANDEM_TLS_KEY"))
    }

    func address(port: Int) -> String { HTTPEndpoint(host: host, port: port).authority }

    func time(_ text: String, of flag: String) throws -> TimeAmount {
        guard let time = TimeSpan.parse(text) else {
            throw ConfigurationError(source: flag, reason: "\"\(text)\" is not a time such as 30s, 500ms or 2m")
        }
        return TimeAmount(time)
    }
}

/// The engines of a gateway without a supervisor.
struct EndpointFlags: ParsableArguments {
    @Argument(help: "The model of engines that are reached by link+tcp: and link+unix:.")
    var model: String?

    @Option(
        help: ArgumentHelp("Servers, with commas between them: http://HOST:PORT[/PREFIX], or https.", valueName: "urls")
    )
    var endpoints: String?

    @Option(
        help: ArgumentHelp("File with a server's address a line, read again when it changes.", valueName: "path"))
    var roster: String?

    @Option(
        help: ArgumentHelp("How often the addresses of dns+http://NAME:PORT are asked for.", valueName: "time"))
    var dnsInterval = "5s"

    @Option(
        help: ArgumentHelp("Key that the servers are sent; better given as TANDEM_ENDPOINT_API_KEY.", valueName: "key"))
    var endpointApiKey: String?

    @Option(
        help: ArgumentHelp(
            "PEM file with the authorities that https:// servers are trusted by. (default: the system's)",
            valueName: "path"))
    var endpointCa: String?

    @Option(help: ArgumentHelp("How long a connection may take to be made.", valueName: "time"))
    var connectTimeout = "2s"

    @Option(help: ArgumentHelp("Silence from a request to the first byte of its answer.", valueName: "time"))
    var firstByteTimeout = "10m"

    @Option(help: ArgumentHelp("Silence in the middle of an answer.", valueName: "time"))
    var silenceTimeout = "60s"

    @Option(help: ArgumentHelp("How often a server is asked whether it lives.", valueName: "time"))
    var probeInterval = "2s"

    @Option(help: ArgumentHelp("How long it may take to say so.", valueName: "time"))
    var probeTimeout = "3s"

    @Flag(
        inversion: .prefixedNo,
        help: "Let another server go on with a stream whose server is lost.")
    var continueStreams = true

    /// What names the engines; nil if nothing does.
    func sources() throws -> UpstreamSources? {
        let texts = (endpoints ?? "").split(separator: ",").map { String($0.filter { $0 != " " }) }
        var addresses: [UpstreamAddress] = []
        for text in texts where !text.isEmpty {
            do {
                let address = try UpstreamAddress(text)
                guard !addresses.contains(address) else {
                    throw ConfigurationError(source: "--endpoints", reason: "\(address) is given twice")
                }
                addresses.append(address)
            } catch let error as UpstreamAddressError {
                throw ConfigurationError(source: "--endpoints", reason: "\(error)")
            }
        }
        guard !addresses.isEmpty || roster != nil else {
            guard let model else { return nil }
            throw ConfigurationError(source: model, reason: Self.needlessModel)
        }
        let engine = addresses.first(where: \.isEngine)
        if let engine, model == nil {
            throw ConfigurationError(
                source: "--endpoints",
                reason: "\(engine) is an engine that knows no text: name its model, as in "
                    + "tandem gateway MODEL --endpoints \(engine)")
        }
        if let model, engine == nil, roster == nil {
            throw ConfigurationError(source: model, reason: Self.needlessModel)
        }
        var sources = UpstreamSources(addresses: addresses, takesEngines: model != nil)
        do {
            sources.file = try roster.map { (path: $0, content: try RosterFile(path: $0, takesEngines: model != nil)) }
        } catch {
            throw ConfigurationError(source: "--roster", reason: "\(error)")
        }
        sources.resolveInterval = try time(dnsInterval, of: "--dns-interval")
        return sources
    }

    private static let needlessModel = "a model is only needed for engines at link+tcp: or link+unix: addresses"

    /// How servers that are spoken to over HTTP are dealt with; nil if there are none, and none can come.
    ///
    /// - Parameter fromSupervisor: whether its roster names some.
    func external(_ sources: UpstreamSources?, fromSupervisor: Bool) throws -> ExternalEngines? {
        let named = sources.map { $0.file != nil || $0.addresses.contains(where: { !$0.isEngine }) } ?? false
        guard named || fromSupervisor else { return nil }
        var engines = ExternalEngines()
        let key = endpointApiKey ?? Process.environment()["TANDEM_ENDPOINT_API_KEY"] ?? ""
        engines.apiKey = key.isEmpty ? nil : key
        engines.tls = try trust(sources)
        engines.limits.connectTimeout = try time(connectTimeout, of: "--connect-timeout")
        engines.limits.firstByteTimeout = try time(firstByteTimeout, of: "--first-byte-timeout")
        engines.limits.silenceTimeout = try time(silenceTimeout, of: "--silence-timeout")
        engines.probeInterval = try time(probeInterval, of: "--probe-interval")
        engines.probeTimeout = try time(probeTimeout, of: "--probe-timeout")
        engines.continuesStreams = continueStreams
        return engines
    }

    /// Whom to trust where servers speak TLS; nil if none does, and none can come.
    private func trust(_ sources: UpstreamSources?) throws -> ClientTLS? {
        let variable = Process.environment()["TANDEM_ENDPOINT_CA"] ?? ""
        let authorities = endpointCa ?? (variable.isEmpty ? nil : variable)
        let addresses = (sources?.addresses ?? []) + (sources?.file?.content.addresses ?? [])
        let isNeeded = authorities != nil || addresses.contains(where: \.isSecure)
        // A file may name some later.
        guard isNeeded || sources?.file != nil else { return nil }
        do {
            return try ClientTLS(authorities: authorities)
        } catch {
            guard isNeeded else { return nil }
            throw ConfigurationError(source: "--endpoint-ca", reason: "\(error)")
        }
    }

    private func time(_ text: String, of flag: String) throws -> TimeAmount {
        guard let time = TimeSpan.parse(text), time >= .milliseconds(10) else {
            throw ConfigurationError(
                source: flag, reason: "\"\(text)\" is not a time such as 30s, 500ms or 2m, from 10ms on")
        }
        return TimeAmount(time)
    }

    /// The model of the engines that are reached by a link; nil if there are none.
    func linkedModel() throws -> GatewayModel? {
        guard let model else { return nil }
        let found = try ModelFile.resolve(model)
        let choice = ModelChoice(path: found.path)
        return GatewayModel(
            choice: choice, names: [found.name],
            contextLength: try ModelFile(choice, maximumContextLength: nil).contextLength, engines: 1)
    }
}
