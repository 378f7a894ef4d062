// Tandem — Apache-2.0

import CUDADriver
import CUDAKernels
import InferenceEngine
import LanguageModel
import Requests

/// Steps of an executor that was prepared: up to two in flight, which take turns with all that belongs to one.
final class PreparedSteps {
    let plan: DeviceMemoryPlan
    var blockCount: Int { plan.blockCount }

    private let session: GPUSession
    private let weights: DeviceModel
    private let buffers: DeviceBuffers
    private let layers: LayerProgram
    private let head: HeadProgram
    let products: MatrixPlans
    private let counts: TokenCountMemory
    private let shape: BatchShape
    private let options: CUDAExecutor.Options
    private var checker: PlanChecker
    private var book: SlotBook
    private var sums: PooledSums
    private var graphs: [LayerProgram.Size: CUDAGraph] = [:]
    private var launchedSizes: Set<LayerProgram.Size> = []
    /// Those for whose graphs there was no memory.
    private var refusedSizes: Set<LayerProgram.Size> = []

    /// What a step reads and what it writes, on the device.
    private var input: GrowingMemory
    private var output: GrowingMemory
    private var maskMemory: GrowingMemory
    private var turns: [Turn]
    private var submitted = 0
    private var collected = 0
    private var inFlight: [UInt64] = []
    private var profile = StepProfile()

    /// What belongs to one step in flight.
    private struct Turn {
        var batch = StepBatch()
        var regions = BatchRegions(StepBatch())
        var outputs = OutputRegions(StepBatch(), hiddenSize: 0)
        var input: GrowingPinnedMemory
        var output: GrowingPinnedMemory
        var masks: GrowingPinnedMemory
        /// Reached when the outputs are on the host.
        let done: CUDAEvent
        let begin: CUDAEvent
        let clock: ComponentClock
        var isTimed = false
        /// Whether the head waits for masks.
        var isOpen = false
    }

    init(
        _ session: GPUSession, _ weights: DeviceModel, _ library: MatrixLibrary?, limits: ExecutorLimits,
        groups: [KeyValueGroup], options: CUDAExecutor.Options
    ) throws(ExecutorError) {
        self.session = session
        self.weights = weights
        self.options = options
        let sharesContext = session.device.usesMPS
        let plan = try DeviceMemoryPlan(model: weights.model, limits: limits, groups: groups)
        self.plan = plan
        let deviceShape = weights.shape
        let dimension = HeadDimension(rawValue: deviceShape.paddedHead) ?? .d64
        let form = try PrefillChoice.form(
            environment: options.environment, capability: session.device.computeCapability, dimension: dimension,
            isDeterministic: options.isDeterministic)
        do throws(CUDAError) {
            try Self.check(plan, session)
            let buffers = try DeviceBuffers(session, weights, limits: limits, groups: groups, plan: plan)
            let products = try MatrixPlans(
                session, library: library, workspaceBytes: DeviceMemoryPlan.workspaceBytes,
                isChecked: options.checksProducts ?? (sharesContext || session.isPart), source: options.products,
                report: options.report)
            self.products = products
            let capacity = DeviceMemoryPlan.countCapacity(limits, deviceShape)
            counts = try TokenCountMemory(session, slots: limits.slots, capacity: capacity)
            head = try HeadProgram(session, weights, buffers, products, counts: counts)
            layers = try Self.layers(session, weights, buffers, products, groups, options, form)
            let tiling = PrefillTiling(dimension, form)
            shape = BatchShape(
                slots: limits.slots, tableStride: buffers.tableStride, group: deviceShape.group,
                tileRows: tiling.tileRows, rows: buffers.sizes.rows, logitRows: buffers.sizes.logitRows,
                countCapacity: capacity, decodesChunks: options.isDeterministic, usesGraphs: options.usesGraphs)
            // Enough for most steps; more is taken when a step needs it. On the device there may be no more by then: there
            // is room for all answers, and all that steps are told but what sequences bring much of their own.
            let inputBytes = DeviceMemoryPlan.inputBytes(limits)
            let outputBytes = limits.slots * 1024 + (64 << 10)
            input = try GrowingMemory(session, byteCount: inputBytes, purpose: "steps")
            output = try GrowingMemory(
                session, byteCount: DeviceMemoryPlan.outputBytes(limits, deviceShape), purpose: "results")
            maskMemory = try GrowingMemory(session, byteCount: 4096, purpose: "masks")
            var turns: [Turn] = []
            for _ in 0..<2 {
                turns.append(
                    Turn(
                        input: try GrowingPinnedMemory(session, byteCount: inputBytes, purpose: "steps"),
                        output: try GrowingPinnedMemory(session, byteCount: outputBytes, purpose: "results"),
                        masks: try GrowingPinnedMemory(session, byteCount: 4096, purpose: "masks"),
                        done: try CUDAEvent(session.context, measuresTime: true),
                        begin: try CUDAEvent(session.context, measuresTime: true), clock: ComponentClock(session)))
            }
            self.turns = turns
            self.buffers = buffers
        } catch {
            throw ExecutorError(error, sharesContext: sharesContext)
        }
        checker = PlanChecker(
            limits: limits, vocabularySize: deviceShape.vocabularySize, groups: groups, blockCount: plan.blockCount)
        book = SlotBook(slots: limits.slots)
        sums = PooledSums(slots: limits.slots, width: deviceShape.hiddenSize)
    }

    private static func check(_ plan: DeviceMemoryPlan, _ session: GPUSession) throws(CUDAError) {
        let free = try session.context.memory().free
        // The weights are there already.
        do throws(ExecutorError) {
            try plan.check(freeBytes: free + plan.weights)
        } catch {
            throw CUDAError(kind: .outOfMemory, call: "memory plan", detail: error.message)
        }
    }

    private static func layers(
        _ session: GPUSession, _ weights: DeviceModel, _ buffers: DeviceBuffers, _ products: MatrixPlans,
        _ groups: [KeyValueGroup], _ options: CUDAExecutor.Options, _ form: PrefillForm
    ) throws(CUDAError) -> LayerProgram {
        do throws(ExecutorError) {
            return try LayerProgram(
                session, weights, buffers, products, groups: groups, prefillForm: form,
                isDeterministic: options.isDeterministic)
        } catch {
            throw CUDAError(kind: .unsupported, call: "layers", detail: error.message)
        }
    }

    // MARK: - Steps

    func submit(_ plan: StepPlan) throws(ExecutorError) -> StepTicket {
        guard inFlight.count < 2 else {
            throw ExecutorError(
                kind: .unsupported, message: "step \(plan.step): the results of \(inFlight) were not taken yet")
        }
        if let last = inFlight.last, turns[(submitted - 1) % 2].isOpen {
            throw ExecutorError(
                kind: .unsupported, message: "step \(plan.step): step \(last) still waits for its masks")
        }
        try checker.accept(plan)
        book.apply(plan)
        let index = submitted % 2
        turns[index].batch.load(plan, book: book, shape: shape)
        do throws(CUDAError) {
            try start(index)
        } catch {
            // What the checker and the slots know has changed, so only a new process is sure of its state.
            let error = ExecutorError(error, sharesContext: session.device.usesMPS)
            throw ExecutorError(
                kind: .fatal, message: "step \(plan.step): \(error.message)", concernsAll: error.concernsAll)
        }
        submitted += 1
        inFlight.append(plan.step)
        return StepTicket(step: plan.step)
    }

    private func start(_ index: Int) throws(CUDAError) {
        let stream = session.stream
        try reserve(index)
        let batch = turns[index].batch
        let regions = turns[index].regions
        let isTimed = options.profileInterval > 0 && submitted % options.profileInterval == 0
        turns[index].isTimed = isTimed
        let clock = isTimed ? turns[index].clock : nil
        let bytes = turns[index].input.memory.bytes
        batch.encode(regions, into: bytes)
        // Before the step: choosing overwrites activations, and must not happen in a capture.
        if !batch.tokens.isEmpty { try layers.prepare(rows: batch.productRows) }
        try head.prepare(batch)
        let size = layers.size(batch)
        let graph = isTimed ? nil : try graph(batch, size, regions)
        try stream.record(turns[index].begin)
        try clock?.begin()
        try stream.copy(from: UnsafeRawBufferPointer(rebasing: bytes[0..<regions.byteCount]), to: input.address)
        try changeTables(batch, regions)
        var pending = layers.lastPending
        if let graph {
            try stream.launch(graph)
        } else if !batch.tokens.isEmpty {
            pending = try layers.run(size, input: input.address, regions: regions, clock: clock)
        }
        turns[index].isOpen = batch.isConstrained
        if !batch.isConstrained { try finish(index, pending: pending, masks: nil) }
    }

    /// Makes room for a batch, on the host and on the device.
    private func reserve(_ index: Int) throws(CUDAError) {
        let batch = turns[index].batch
        let regions = BatchRegions(batch)
        let outputs = OutputRegions(batch, hiddenSize: weights.shape.hiddenSize)
        turns[index].regions = regions
        turns[index].outputs = outputs
        // The step that last had this turn is done: its result was taken.
        try turns[index].input.reserve(regions.byteCount)
        try turns[index].output.reserve(outputs.byteCount)
        // Graphs know the old address.
        if try input.reserve(regions.byteCount) { graphs.removeAll() }
        _ = try output.reserve(outputs.byteCount)
    }

    private func changeTables(_ batch: StepBatch, _ regions: BatchRegions) throws(CUDAError) {
        func words(_ offset: Int) -> DevicePointer<Int32> { DevicePointer(address: input.address + UInt64(offset)) }
        try session.launch(
            .scatterTables(
                tables: buffers.tables, runs: words(regions.tableRuns), ids: words(regions.tableIDs),
                runCount: batch.tableRuns.count))
        try session.launch(
            .copyBlocks(
                keys: buffers.keys, values: buffers.values, pairs: words(regions.copies),
                pairCount: batch.copies.count / 2,
                layers: plan.layersPerGroup, layerStride: buffers.layerStride,
                blockElements: buffers.blockElements))
        try counts.load(batch, from: input.address + UInt64(regions.counts))
    }

    /// The graph of a batch's size. The first batch of a size is launched kernel by kernel: what libraries load at their
    /// first call must not be loaded in a capture, and sizes that come once need no graph.
    private func graph(
        _ batch: StepBatch, _ size: LayerProgram.Size, _ regions: BatchRegions
    ) throws(CUDAError) -> CUDAGraph? {
        guard batch.graph != nil else { return nil }
        if let graph = graphs[size] { return graph }
        guard !launchedSizes.insert(size).inserted, !refusedSizes.contains(size) else { return nil }
        do throws(CUDAError) {
            let graph = try session.stream.capture { () throws(CUDAError) in
                _ = try layers.run(size, input: input.address, regions: regions)
            }
            try graph.upload(on: session.stream)
            graphs[size] = graph
            return graph
        } catch {
            // A graph takes memory that nobody planned; without one the kernels are launched one by one.
            guard error.kind == .outOfMemory else { throw error }
            refusedSizes.insert(size)
            return nil
        }
    }

    /// Puts the end of a step into the stream, and the copy of its outputs.
    private func finish(_ index: Int, pending: LayerProgram.Pending, masks: DeviceAddress?) throws(CUDAError) {
        let turn = turns[index]
        try head.run(
            turn.batch, pending: pending, input: input.address, regions: turn.regions, output: output.address,
            outputs: turn.outputs, masks: masks)
        if turn.isTimed { try turn.clock.end() }
        try session.stream.copy(
            from: output.address,
            to: UnsafeMutableRawBufferPointer(rebasing: turn.output.memory.bytes[0..<turn.outputs.byteCount]))
        try session.stream.record(turn.done)
    }

    func sample(_ ticket: StepTicket, masks: TokenMasks?) throws(ExecutorError) {
        guard let place = inFlight.firstIndex(of: ticket.step) else {
            throw ExecutorError(
                kind: .unsupported, message: "step \(ticket.step) is to sample; in flight, in order: \(inFlight)")
        }
        if let masks {
            let words = (weights.shape.vocabularySize + 31) / 32
            guard masks.wordsPerSlot == words, masks.words.count == words * masks.slots.count else {
                throw ExecutorError(
                    kind: .unsupported,
                    message: "step \(ticket.step): \(masks.words.count) words are no masks of "
                        + "\(weights.shape.vocabularySize) tokens for \(masks.slots.count) slots")
            }
        }
        let index = (collected + place) % 2
        guard turns[index].isOpen else { return }
        do throws(CUDAError) {
            try release(index, masks: masks)
        } catch {
            throw ExecutorError(error, sharesContext: session.device.usesMPS)
        }
        turns[index].isOpen = false
    }

    /// Lets a step's head run.
    private func release(_ index: Int, masks: TokenMasks?) throws(CUDAError) {
        var address: DeviceAddress?
        if let masks, !masks.slots.isEmpty {
            // Rows of masks begin at multiples of four words, as wide loads want them.
            let stride = roundedUp(masks.wordsPerSlot, to: 4)
            let byteCount = masks.slots.count * stride * 4
            try turns[index].masks.reserve(byteCount)
            _ = try maskMemory.reserve(byteCount)
            let bytes = turns[index].masks.memory.bytes
            masks.words.withUnsafeBytes { words in
                for place in masks.slots.indices {
                    let row = words[place * masks.wordsPerSlot * 4..<(place + 1) * masks.wordsPerSlot * 4]
                    UnsafeMutableRawBufferPointer(rebasing: bytes[place * stride * 4..<place * stride * 4 + row.count])
                        .copyMemory(from: UnsafeRawBufferPointer(rebasing: row))
                }
            }
            try session.stream.copy(
                from: UnsafeRawBufferPointer(rebasing: bytes[0..<byteCount]), to: maskMemory.address)
            var offsets: [SlotIndex: Int32] = [:]
            for (place, slot) in masks.slots.enumerated() { offsets[slot] = Int32(place * stride) }
            let (batch, regions) = (turns[index].batch, turns[index].regions)
            let input = turns[index].input.memory.bytes
            batch.encodeSamples(regions, into: input) { offsets[$0] ?? -1 }
            let end = regions.samples + batch.sampleRows.count * MemoryLayout<SampleRow>.stride
            try session.stream.copy(
                from: UnsafeRawBufferPointer(rebasing: input[regions.samples..<end]),
                to: self.input.address + UInt64(regions.samples))
            address = maskMemory.address
        }
        try finish(index, pending: layers.lastPending, masks: address)
    }

    func result(of ticket: StepTicket, into result: inout StepResult) throws(ExecutorError) {
        guard inFlight.first == ticket.step else {
            throw ExecutorError(
                kind: .unsupported,
                message: "the result of step \(ticket.step) is asked for; in flight, in order: \(inFlight)")
        }
        let index = collected % 2
        guard !turns[index].isOpen else {
            throw ExecutorError(kind: .unsupported, message: "step \(ticket.step) still waits for its masks")
        }
        do throws(CUDAError) {
            try turns[index].done.synchronize()
            try note(index)
        } catch {
            // Whatever it is, nobody knows what the step has done.
            let error = ExecutorError(error, sharesContext: session.device.usesMPS)
            throw ExecutorError(
                kind: .fatal, message: "step \(ticket.step): \(error.message)", concernsAll: error.concernsAll)
        }
        if let base = turns[index].output.memory.bytes.baseAddress {
            turns[index].batch.collect(
                turns[index].outputs.outputs(at: UnsafeRawPointer(base)), sums: &sums, into: &result)
        }
        collected += 1
        inFlight.removeFirst()
    }

    /// Adds a step's time on the device to the profile.
    private func note(_ index: Int) throws(CUDAError) {
        if turns[index].isTimed {
            try turns[index].clock.add(to: &profile)
        } else if options.profileInterval == 0 {
            profile.steps &+= 1
            profile.rest &+= UInt64(max(0, try turns[index].done.seconds(since: turns[index].begin)) * 1e9)
        }
    }

    func fillCache(seed: UInt64) throws(ExecutorError) {
        let count = plan.layersPerGroup * buffers.layerStride
        do throws(CUDAError) {
            try session.launch(.fillRandom(buffers.keys, count: count, seed: seed, scale: 1))
            try session.launch(.fillRandom(buffers.values, count: count, seed: seed &+ 1, scale: 1))
            try session.stream.synchronize()
        } catch {
            throw ExecutorError(error, sharesContext: session.device.usesMPS)
        }
    }

    func takeProfile() -> StepProfile {
        defer { profile = StepProfile() }
        return profile
    }
}
