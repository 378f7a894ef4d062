// Tandem — Apache-2.0

import CUDADriver
import Glibc
import InferenceEngine
import LanguageModel
import Requests
import Synchronization
import TestSupport
import Testing
import Weights

@testable import CUDAExecutor

/// Weights that one copy of the stand-in holds and another uses, as two processes do.
@Suite(.serialized) struct SharedWeightsTests {
    static let fingerprint = Digest128(high: 1, low: 2)

    /// A source that counts how often it is read.
    final class CountedTensors: TensorSource {
        let source: any TensorSource
        let reads = Atomic<Int>(0)

        init(_ source: any TensorSource) { self.source = source }

        var path: String { source.path }
        var tensors: [TensorDescription] { source.tensors }
        func tensor(named name: String) -> TensorDescription? { source.tensor(named: name) }
        func refusal(ofTensorNamed name: String) -> WeightsError? { source.refusal(ofTensorNamed: name) }
        func bytes(of tensor: TensorDescription) -> UnsafeRawBufferPointer {
            reads.add(1, ordering: .relaxed)
            return source.bytes(of: tensor)
        }
    }

    static func store(
        _ gpu: DeviceFaultTests.OwnGPU, _ checkpoint: Checkpoint, source: WeightStore.Source = .file,
        ways: [WeightSharing] = WeightSharing.allCases, file: (any TensorSource)? = nil,
        report: (String) -> Void = { _ in }
    ) throws -> WeightStore {
        try WeightStore(
            model: checkpoint.description, file: file ?? checkpoint.tensors, fingerprint: fingerprint,
            device: .index(0), environment: gpu.options.environment, source: source, ways: ways, report: report)
    }

    /// Options of an engine that is offered something.
    static func options(
        _ gpu: DeviceFaultTests.OwnGPU, _ offer: WeightOffer, descriptor: Int32,
        report: @escaping @Sendable (String) -> Void = { _ in }
    ) -> CUDAExecutor.Options {
        var options = gpu.options
        options.fingerprint = fingerprint
        options.findWeights = { .offered(offer, descriptor: descriptor >= 0 ? dup(descriptor) : -1) }
        options.report = report
        return options
    }

    static func tokens(_ checkpoint: Checkpoint, _ options: CUDAExecutor.Options) throws -> [TokenID] {
        try DoubleGPU.harness(checkpoint, options: options).run([ChoiceTests.request(checkpoint)])[0].tokens
    }

    @Test(arguments: WeightSharing.allCases, ["llama-tied", "llama3-rope-untied"])
    func anEngineWithTheWeightsOfAnotherProcessSaysTheSame(_ way: WeightSharing, _ name: String) throws {
        let checkpoint = try DoubleGPU.tiny(name)
        let (owner, engine) = (try DeviceFaultTests.OwnGPU(), try DeviceFaultTests.OwnGPU())
        let own = try Self.tokens(checkpoint, engine.options)
        let store = try Self.store(owner, checkpoint, ways: [way])
        #expect(store.offer.sharing == way)
        let options = Self.options(engine, store.offer, descriptor: store.descriptor)
        #expect(try Self.tokens(checkpoint, options) == own)
        // And once more, as after a restart.
        let harness = try DoubleGPU.harness(checkpoint, options: options)
        #expect(harness.executor.hasSharedWeights)
        #expect(try harness.run([ChoiceTests.request(checkpoint)])[0].tokens == own)
    }

    @Test func anEngineWithSharedWeightsReadsNone() throws {
        let checkpoint = try DoubleGPU.tiny("llama-tied")
        let (owner, engine) = (try DeviceFaultTests.OwnGPU(), try DeviceFaultTests.OwnGPU())
        let counted = CountedTensors(checkpoint.tensors)
        let store = try Self.store(owner, checkpoint, file: counted)
        let loaded = counted.reads.load(ordering: .relaxed)
        #expect(loaded > 0)
        let executor = try CUDAExecutor(
            model: checkpoint.description, file: counted,
            options: Self.options(engine, store.offer, descriptor: store.descriptor))
        #expect(executor.hasSharedWeights)
        #expect(counted.reads.load(ordering: .relaxed) == loaded)
        executor.shutdown()
    }

    /// The descriptor alone keeps the memory: no process has to hold it.
    @Test func theDescriptorOutlivesItsOwner() throws {
        let checkpoint = try DoubleGPU.tiny("llama-tied")
        let (first, second, engine) = (
            try DeviceFaultTests.OwnGPU(), try DeviceFaultTests.OwnGPU(), try DeviceFaultTests.OwnGPU()
        )
        let own = try Self.tokens(checkpoint, engine.options)
        var store: WeightStore? = try Self.store(first, checkpoint)
        let offer = try #require(store?.offer)
        let kept = dup(try #require(store?.descriptor))
        defer { close(kept) }
        store = nil
        let counted = CountedTensors(checkpoint.tensors)
        let successor = try Self.store(
            second, checkpoint, source: .exported(offer, descriptor: dup(kept)), file: counted)
        #expect(successor.offer == offer)
        #expect(counted.reads.load(ordering: .relaxed) == 0)
        #expect(
            try Self.tokens(checkpoint, Self.options(engine, successor.offer, descriptor: successor.descriptor)) == own)
    }

    @Test func whatAnotherModelLeftIsLoadedAnew() throws {
        let checkpoint = try DoubleGPU.tiny("llama-tied")
        let (owner, engine) = (try DeviceFaultTests.OwnGPU(), try DeviceFaultTests.OwnGPU())
        let other = try Self.store(owner, DoubleGPU.tiny("qwen2-tied"))
        var lines: [String] = []
        let store = try Self.store(
            owner, checkpoint, source: .exported(other.offer, descriptor: dup(other.descriptor)),
            report: { lines.append($0) })
        #expect(lines.count == 1 && lines[0].contains("loaded anew"), "\(lines)")
        #expect(
            try Self.tokens(checkpoint, Self.options(engine, store.offer, descriptor: store.descriptor))
                == Self.tokens(checkpoint, engine.options))
    }

    @Test(arguments: ["model", "layout", "size", "mapped size", "device", "descriptor", "handle"])
    func whatIsNotExpectedIsNotMappedAndThatIsSaid(_ what: String) throws {
        let checkpoint = try DoubleGPU.tiny("llama-tied")
        let (owner, engine) = (try DeviceFaultTests.OwnGPU(), try DeviceFaultTests.OwnGPU())
        let store = try Self.store(owner, checkpoint)
        var (offer, descriptor) = (store.offer, store.descriptor)
        let null = open("/dev/null", O_RDONLY)
        defer { close(null) }
        switch what {
        case "model": offer.identity.model = Digest128(high: 1, low: 3)
        case "layout": offer.identity.layout &+= 1
        case "size": offer.identity.byteCount += 1
        case "mapped size": offer.mappedBytes = offer.identity.byteCount - 1
        case "device": offer.identity.device = "GPU-00000000-0000-0000-0000-000000000000"
        case "descriptor": descriptor = null
        default: (offer.sharing, offer.handle) = (.handle, [1, 2, 3])
        }
        let lines = Mutex<[String]>([])
        let harness = try DoubleGPU.harness(
            checkpoint,
            options: Self.options(engine, offer, descriptor: descriptor) { line in lines.withLock { $0.append(line) } })
        #expect(!harness.executor.hasSharedWeights)
        let said = lines.withLock { $0 }.filter { $0.contains("weights of its own") }
        #expect(said.count == 1, "\(said)")
        #expect(
            try harness.run([ChoiceTests.request(checkpoint)])[0].tokens == Self.tokens(checkpoint, engine.options))
    }

    @Test(arguments: ["VIRTUAL_MEMORY", "DESCRIPTORS"]) func withoutDescriptorsThereAreHandles(_ missing: String) throws
    {
        let checkpoint = try DoubleGPU.tiny("llama-tied")
        let owner = try DeviceFaultTests.OwnGPU([missing: "0"])
        let store = try Self.store(owner, checkpoint)
        #expect(store.offer.sharing == .handle && store.descriptor == -1 && !store.offer.handle.isEmpty)
        let error = #expect(throws: ExecutorError.self) { try Self.store(owner, checkpoint, ways: [.descriptor]) }
        #expect(error?.kind == .unsupported, "\(error?.message ?? "")")
    }

    @Test func anOwnerWithoutRoomSaysSo() throws {
        let checkpoint = try DoubleGPU.tiny("llama-tied")
        let owner = try DeviceFaultTests.OwnGPU(["MEMORY_MIB": "0"])
        let error = #expect(throws: ExecutorError.self) { try Self.store(owner, checkpoint) }
        #expect(error?.kind == .outOfMemory, "\(error?.message ?? "")")
    }

    @Test func enginesWithSharedWeightsHaveMoreRoom() {
        let gib = 1 << 30
        let context = DeviceMemoryPlan.contextBytes
        func shared(_ engines: Int, free: Int = 79 * gib) -> Int {
            DeviceMemoryPlan.keyValueBytes(
                own: gib, weights: 6 * gib, isImported: true, totalBytes: 80 * gib, freeBytes: free, engines: engines,
                process: ProcessShare(), fraction: 0.9)
        }
        func separate(_ engines: Int) -> Int {
            DeviceMemoryPlan.keyValueBytes(
                fixed: 7 * gib, totalBytes: 80 * gib, freeBytes: 79 * gib, engines: engines, fraction: 0.9)
        }
        for engines in 2...4 {
            // All of it together: weights once, the owner's context, and each engine's own.
            let all = engines * (shared(engines) + gib + context) + 6 * gib + context
            #expect((72 * gib - engines...72 * gib).contains(all))
            // The copies that are not made, but for the owner's context.
            let gained = engines * (shared(engines) - separate(engines))
            #expect(abs(gained - ((engines - 1) * 6 * gib - context)) <= 2 * engines)
        }
        #expect(shared(2, free: 4 * gib) == 3 * gib - (64 << 20))
        #expect(shared(2, free: gib) == 0)
    }
}
