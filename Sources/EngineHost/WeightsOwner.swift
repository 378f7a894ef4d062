// Tandem — Apache-2.0

import CPUExecutor
import CTandemSystem
import CUDADriver
import CUDAExecutor
import EngineLink
import Glibc
import InferenceEngine
public import LanguageModel
import Processes
import Requests

/// What a process that holds a GPU's weights for engines needs to know.
public struct WeightsOwnerOptions: Sendable {
    public var modelPath: String
    public var loadFormat = LoadFormat.auto
    public var ablation = Ablation.full
    /// Which GPU, by index or UUID.
    public var gpu: String
    /// Where libraries are looked for.
    public var environment: [String: String]
    /// Where engines ask.
    public var socketPath: String
    /// A socket to the supervisor, handed over.
    public var statusDescriptor: Int32?
    /// What the process before this one said, and the descriptor that it gave the supervisor.
    public var exported: (text: String, descriptor: Int32)?

    public init(modelPath: String, gpu: String, environment: [String: String], socketPath: String) {
        self.modelPath = modelPath
        self.gpu = gpu
        self.environment = environment
        self.socketPath = socketPath
    }
}

/// The body of `tandem weights`: loads a model into a GPU's memory and hands that to every engine which asks. It
/// launches no kernel. Where it cannot, it says why to everybody who asks, so that nobody waits.
public enum WeightsOwner {
    /// Runs until the supervisor is gone.
    public static func run(_ options: WeightsOwnerOptions, log: @escaping @Sendable (String) -> Void) -> EngineExit {
        _ = signal(SIGPIPE, SIG_IGN)
        let listener: Int32
        do {
            listener = try UnixSocket.listen(options.socketPath, type: .packets)
        } catch {
            log("cannot listen at \(options.socketPath): \(error.text)")
            return .startFailed
        }
        let store: WeightStore?
        let message: WeightsMessage
        do {
            let loaded = try load(options, log: log)
            store = loaded
            message = .ready(loaded.offer.message)
        } catch {
            store = nil
            message = .refused(reason: error.message)
        }
        let descriptor = store?.descriptor ?? -1
        if let supervisor = options.statusDescriptor { send(message, descriptor, to: supervisor) }
        // The memory and its descriptor are the store's.
        withExtendedLifetime(store) {
            serve(listener, message, descriptor, supervisor: options.statusDescriptor ?? -1)
        }
        return .supervisorGone
    }

    private static func load(
        _ options: WeightsOwnerOptions, log: @escaping @Sendable (String) -> Void
    ) throws(EngineHostError) -> WeightStore {
        let checkpoint: Checkpoint
        do {
            checkpoint = try Checkpoint(
                path: options.modelPath, loadFormat: options.loadFormat, ablation: options.ablation)
        } catch {
            throw EngineHostError(message: "\(error)")
        }
        guard let selector = CUDADeviceSelector(options.gpu) else {
            throw EngineHostError(message: "cuda:\(options.gpu) is no GPU; name its index or its UUID")
        }
        var source = WeightStore.Source.file
        if let (text, descriptor) = options.exported, case .ready(let weights)? = try? WeightsMessage(text: text.utf8),
            let offer = WeightOffer(weights)
        {
            source = .exported(offer, descriptor: descriptor)
        }
        let model = checkpoint.description
        do throws(ExecutorError) {
            return try WeightStore(
                model: model, file: checkpoint.tensors, fingerprint: fingerprint(of: model, in: checkpoint),
                device: selector, environment: options.environment, source: source, report: log)
        } catch {
            throw EngineHostError(message: error.message)
        }
    }

    /// The digest by which engines know the model.
    static func fingerprint(of model: DecoderDescription, in checkpoint: Checkpoint) -> Digest128 {
        ModelFingerprint.model(
            weights: ModelFingerprint.weights(model: model, file: checkpoint.tensors), ablation: model.ablation)
    }

    @discardableResult
    private static func send(_ message: WeightsMessage, _ descriptor: Int32, to socket: Int32) -> Bool {
        UnixSocket.send(Array(message.text.utf8), with: descriptor, to: socket)
    }

    /// Answers whoever connects; a connection stays open until its other end closes it, and closes if this process ends.
    private static func serve(_ listener: Int32, _ message: WeightsMessage, _ descriptor: Int32, supervisor: Int32) {
        var clients: [Int32] = []
        while true {
            var entries = ([listener, supervisor] + clients).map {
                pollfd(fd: $0, events: Int16(POLLIN), revents: 0)
            }
            let count = poll(&entries, nfds_t(entries.count), -1)
            guard count >= 0 || errno == EINTR else { return }
            guard count > 0 else { continue }
            // The supervisor never writes.
            if entries[1].revents != 0 { return }
            let ended = Set(entries.dropFirst(2).filter { $0.revents != 0 }.map(\.fd))
            for client in ended { close(client) }
            clients.removeAll { ended.contains($0) }
            while entries[0].revents != 0, let client = UnixSocket.accept(listener) {
                if send(message, descriptor, to: client), clients.count < 256 {
                    clients.append(client)
                } else {
                    close(client)
                }
            }
        }
    }
}
