// Tandem — Apache-2.0

internal import LanguageModel

extension AdviceRequest {
    /// Most engines that are considered.
    public static let mostEngines = 8

    /// A gain below this is not worth the operation of several engines.
    static let smallestGain = 0.05

    /// What one engine must gain by itself before that is called a fault to mend.
    static let faultGain = 0.1

    /// Predicts and judges.
    ///
    /// - Throws: ``GPUModelError`` naming the flag of `tandem advise` at fault.
    public func advice() throws(GPUModelError) -> Advice {
        try validate()
        let predictor = predictor(host ?? .assumed)
        let base: Arm = isAsynchronous ? .oneAsynchronous : .one
        let sharing: Arm = isAsynchronous ? .mpsAsynchronous : .mps
        guard let baseline = predictor.predictWithinLatency(base, engines: 1) else {
            throw latencyError(predictor, base)
        }
        let byEngines = (1...mostThatFit(predictor)).compactMap { engines in
            // One engine needs no MPS.
            engines == 1 ? baseline : predictor.predictWithinLatency(sharing, engines: engines)
        }
        let chosen = try choose(byEngines, predictor, sharing)
        let shared = chosen.engines == 1 ? baseline : chosen
        let alternative = isAsynchronous ? nil : predictor.predictWithinLatency(.oneAsynchronous, engines: 1)
        var unlimited = predictor
        unlimited.mostSequences = nil
        let larger = mostSequences == nil ? nil : unlimited.predictWithinLatency(base, engines: 1)
        let gain = shared.tokensPerSecond / baseline.tokensPerSecond - 1
        let interval = interval(gain, baseline, engines: shared.engines, base: base, sharing: sharing)
        let cache = predictor.memory.cacheBytes(engines: shared.engines, processes: shared.engines)
        let tokens = workload.averageTokens
        var advice = Advice(
            verdict: .no, reasons: [], cautions: [], engines: shared.engines, gain: gain, interval: interval,
            decomposition: shared.engines == 1
                ? Decomposition(
                    hostIdleRecovered: 0, tailsFilled: 0, overlap: 0, batchSplit: 0, capacity: 0, interference: 0,
                    latency: 0)
                : predictor.decomposition(one: baseline, mps: shared),
            baseline: baseline, shared: shared, alternative: alternative,
            largerBatch: larger.flatMap { $0.sequencesPerEngine > baseline.sequencesPerEngine ? $0 : nil },
            arms: arms(predictor, baseline, alternative, shared), byEngines: byEngines, cacheBytesPerEngine: cache,
            cacheTokensPerEngine: Int(cache / predictor.memory.sequenceBytes(tokens: tokens) * Double(tokens)),
            threadPercentage: 100)
        judge(&advice)
        caution(&advice)
        return advice
    }

    private func predictor(_ host: HostModel) -> Predictor {
        var predictor = Predictor(
            step: StepModel(model: model, device: device),
            memory: MemoryModel(model: model, device: device, sharesWeights: sharesWeights), host: host,
            workload: workload, mostSequences: mostSequences)
        predictor.isAsynchronous = isAsynchronous
        return predictor
    }

    // MARK: Input

    private func validate() throws(GPUModelError) {
        func positive(_ value: Int, _ flag: String, most: Int) throws(GPUModelError) {
            guard value > 0, value <= most else {
                throw GPUModelError(subject: flag, reason: "\(value) is out of range; give 1 to \(most)")
            }
        }
        try positive(workload.promptTokens, "--context", most: 1 << 24)
        try positive(workload.outputTokens, "--output", most: 1 << 24)
        try positive(workload.concurrency, "--concurrency", most: 1 << 20)
        if let engines { try positive(engines, "--engines", most: Self.mostEngines) }
        if let mostSequences { try positive(mostSequences, "--max-sequences", most: 1 << 20) }
        if let cores { try positive(cores, "--cores", most: 1 << 16) }
        if let latency = workload.latency, !(latency > 0 && latency.isFinite) {
            throw GPUModelError(subject: "--latency", reason: "it must be more than zero")
        }
        if let host, !([host.secondsPerStep, host.secondsPerSequence].allSatisfy { $0 >= 0 && $0 < 60 }) {
            throw GPUModelError(subject: "--host-time", reason: "it must be between zero and a minute")
        }
        let length = workload.promptTokens + workload.outputTokens
        guard length <= model.contextLength else {
            throw GPUModelError(
                subject: "--context",
                reason: "\(workload.promptTokens) and --output \(workload.outputTokens) make \(length) tokens, and "
                    + "\(model.name) was made for at most \(model.contextLength); lower one of them")
        }
        let memory = MemoryModel(model: model, device: device, sharesWeights: sharesWeights)
        guard memory.sequences(engines: 1, processes: 1, tokens: length) >= 1 else {
            throw GPUModelError(
                subject: "--gpu \(device.name)",
                reason:
                    "\(model.name) does not fit: weights take \(gigabytes(memory.weightBytes)) in 16 bits, a sequence "
                    + "of \(length) tokens \(gigabytes(memory.sequenceBytes(tokens: length))), of "
                    + "\(gigabytes(device.memoryBytes)); choose a GPU with more memory or a smaller model")
        }
        if let engines, engines > 1 {
            if engines > workload.concurrency {
                throw GPUModelError(
                    subject: "--engines",
                    reason: "\(engines) engines for \(workload.concurrency) requests at once; give at most as many")
            }
            guard memory.sequences(engines: engines, processes: engines, tokens: length) >= 1 else {
                let most = (1...engines).last {
                    memory.sequences(engines: $0, processes: $0, tokens: length) >= 1
                }
                throw GPUModelError(
                    subject: "--engines",
                    reason: "\(engines) copies of \(model.name)'s weights (\(gigabytes(memory.weightBytes)) each) and "
                        + "contexts leave no memory for a sequence of \(length) tokens on \(device.title); "
                        + "at most \(most ?? 1) fit"
                        + (sharesWeights ? "" : "; engines that share weights would need one copy"))
            }
        }
    }

    private func latencyError(_ predictor: Predictor, _ arm: Arm) -> GPUModelError {
        let least = predictor.predict(arm, engines: 1, concurrency: 1)?.latency ?? .infinity
        return GPUModelError(
            subject: "--latency",
            reason: "one request alone is predicted to take \(seconds(least)) for \(workload.outputTokens) tokens; "
                + "give more time or a lower --output")
    }

    private func mostThatFit(_ predictor: Predictor) -> Int {
        let most = min(Self.mostEngines, workload.concurrency, max(cores ?? .max, engines ?? 1))
        let length = workload.promptTokens + workload.outputTokens
        return (1...most).last {
            predictor.memory.sequences(engines: $0, processes: $0, tokens: length) >= 1
        } ?? 1
    }

    // MARK: Choice

    /// What was asked for, or the fewest engines within 2 % of the best.
    private func choose(
        _ candidates: [Prediction], _ predictor: Predictor, _ arm: Arm
    ) throws(GPUModelError) -> Prediction {
        if let engines, engines > 1 {
            guard let found = candidates.first(where: { $0.engines == engines }) else {
                throw GPUModelError(
                    subject: "--latency",
                    reason: "\(engines) engines are predicted to miss it even with one request each; give more time or "
                        + "fewer engines")
            }
            return found
        }
        // With one engine asked about, the question is still whether two would pay.
        let several = candidates.filter { $0.engines > 1 }
        guard let best = several.map(\.tokensPerSecond).max(),
            let chosen = several.first(where: { $0.tokensPerSecond >= 0.98 * best })
        else { return candidates[0] }
        return chosen
    }

    private func arms(
        _ predictor: Predictor, _ baseline: Prediction, _ alternative: Prediction?, _ shared: Prediction
    ) -> [Prediction] {
        var arms = [baseline]
        if let alternative { arms.append(alternative) }
        guard shared.engines > 1 else { return arms }
        for arm in [Arm.timeSliced, .inProcess] {
            // The closed form finds the load, the simulation says what comes of it.
            guard let load = predictor.predictWithinLatency(arm, engines: shared.engines),
                let found = predictor.simulate(arm, engines: shared.engines, concurrency: load.concurrency)
            else { continue }
            arms.append(found)
        }
        arms.append(shared)
        if !isAsynchronous, let both = predictor.predictWithinLatency(.mpsAsynchronous, engines: shared.engines) {
            arms.append(both)
        }
        return arms
    }

    /// The prediction's own error, and what host times between half and twice the assumed ones would make of it.
    private func interval(
        _ gain: Double, _ baseline: Prediction, engines: Int, base: Arm, sharing: Arm
    ) -> ClosedRange<Double> {
        guard engines > 1 else { return 0...0 }
        var low = gain
        var high = gain
        if assumesStepTime {
            for factor in [0.5, 2] {
                let other = predictor(
                    HostModel(
                        secondsPerStep: HostModel.assumed.secondsPerStep * factor,
                        secondsPerSequence: host?.secondsPerSequence ?? HostModel.assumed.secondsPerSequence * factor))
                guard let one = other.predictWithinLatency(base, engines: 1),
                    let several = other.predictWithinLatency(sharing, engines: engines)
                else { continue }
                let found = several.tokensPerSecond / one.tokensPerSecond - 1
                low = min(low, found)
                high = max(high, found)
            }
        }
        let error = Self.error(isMeasured: isProbed || device.name == "h100")
        low -= error
        high += error + Self.hostError(share: hostShare(baseline))
        // Models of this kind were found to be 12 to 20 % too good from four engines on.
        if engines >= 4 { low -= 0.16 * (1 + gain) }
        // Equal engines cannot make more than so many times one; within a latency they can.
        if workload.latency == nil { high = max(gain, min(high, Double(engines - 1))) }
        return max(low, -1)...high
    }

    /// Of gains, in shares: on an H100 17 of 19 held-out loops under MPS were within 10 points, and so are 77 of 95 gains
    /// of a study on another one; where sharing was not measured, 15 are assumed.
    static func error(isMeasured: Bool) -> Double { isMeasured ? 0.10 : 0.15 }

    /// How much more sharing may gain than predicted where one engine's host takes such a share of its steps: of four
    /// such gains on an H100 two were 20 points higher, at a share of 0.36 (Results/study-h100-2026-11-26).
    static func hostError(share: Double) -> Double { min(0.3, 0.75 * share) }

    // MARK: Words

    /// The part of the time in which one engine's GPU waits for its host.
    private func hostShare(_ baseline: Prediction) -> Double {
        let (host, device) = (baseline.hostSeconds, baseline.deviceSeconds)
        guard host + device > 0 else { return 0 }
        return isAsynchronous ? max(0, 1 - device / max(host, device)) : host / (host + device)
    }

    private func judge(_ advice: inout Advice) {
        let gain = advice.gain
        let share = hostShare(advice.baseline)
        if advice.engines == 1 {
            advice.verdict = .no
            advice.reasons.append(reasonForOne())
            return
        }
        if let larger = advice.largerBatch {
            let other = advice.gain(of: larger)
            if other >= Self.faultGain, other >= 0.75 * gain {
                advice.verdict = .fixEngineFirst
                advice.reasons.append(
                    "One engine is set to \(Int(advice.baseline.sequencesPerEngine)) sequences at once; with all that fit, "
                        + "\(Int(larger.sequencesPerEngine)), it alone gains \(signed(other)), \(advice.engines) engines "
                        + "\(signed(gain)).")
                return
            }
        }
        if let alternative = advice.alternative {
            let other = advice.gain(of: alternative)
            if other >= Self.faultGain, other >= 0.75 * gain {
                advice.verdict = .fixEngineFirst
                advice.reasons.append(
                    "One engine's GPU waits \(percent(share)) of the time for its host; planning a step ahead "
                        + "(asynchronous scheduling) alone gains \(signed(other)), \(advice.engines) engines "
                        + "\(signed(gain)).")
                if let both = advice.arms.first(where: { $0.arm == .mpsAsynchronous }) {
                    let beyond = both.tokensPerSecond / alternative.tokensPerSecond - 1
                    advice.reasons.append(
                        "With it, \(advice.engines) engines would add \(signed(beyond)) to that"
                            + (beyond < Self.smallestGain ? ": not worth it." : "."))
                }
                return
            }
        }
        if gain >= Self.smallestGain, advice.interval.lowerBound > 0 {
            advice.verdict = .yes
            advice.reasons.append(
                "\(advice.engines) engines are predicted to make \(percent(gain)) more than one"
                    + (share > 0.1
                        ? ", most of it while one's host leaves the GPU idle (\(percent(share)) of the time)." : "."))
            return
        }
        advice.verdict = .no
        if gain < Self.smallestGain {
            advice.reasons.append(
                "\(advice.engines) engines are predicted to gain \(signed(gain)): "
                    + (share < 0.1
                        ? "one engine keeps the GPU busy \(percent(1 - share)) of the time, and kernels of two hardly overlap."
                        : "what they recover is lost again."))
        } else {
            advice.reasons.append(
                "The gain of \(signed(gain)) is within the prediction's error; measure it before you rely on it.")
        }
        if advice.decomposition.capacity < -0.02 {
            advice.reasons.append(
                "\(advice.engines) copies of the weights leave each engine room for "
                    + "\(Int(advice.shared.sequencesPerEngine)) sequences at once, which costs "
                    + "\(percent(-advice.decomposition.capacity)).")
        }
        if advice.decomposition.batchSplit < -0.1 {
            advice.reasons.append(
                "Steps of a part of the batch take nearly as long as of all of it, which costs "
                    + "\(percent(-advice.decomposition.batchSplit)).")
        }
    }

    private func reasonForOne() -> String {
        if workload.concurrency == 1 {
            return "One request at a time keeps one engine, and leaves nothing for a second."
        }
        if let cores, cores < 2 { return "A second engine needs a core of its own, and there is one." }
        return "A second copy of \(model.name)'s weights leaves no room for its sequences on \(device.title)"
            + (workload.latency == nil ? "." : ", or misses the latency.")
    }

    private func caution(_ advice: inout Advice) {
        if assumesStepTime {
            let perSequence = host == nil ? " and 1.1 us a sequence" : ""
            advice.cautions.append(
                "Host time is assumed (1 ms a step\(perSequence); the interval covers half to twice that), and "
                    + "decides most of the answer: measure your engine's and give --host-time.")
        }
        if !isProbed {
            advice.cautions.append(
                device.name == "h100"
                    ? "Sharing was measured on one H100; yours may differ: give --probe."
                    : "Sharing was measured on an H100 only; for \(device.title) it is assumed to be the same.")
        }
        advice.cautions.append(
            "MPS alone makes a process slower: 3 to 23 % a decode step on an H100, most for short steps. That is in the "
                + "prediction (\(microseconds(device.sharing.mpsKernelSeconds)) a kernel).")
        advice.cautions.append(
            "Set no CUDA_MPS_ACTIVE_THREAD_PERCENTAGE: equal engines gain nothing from it, and under most limits "
                + "bfloat16 products of cuBLAS were silently wrong on an H100 (right at 25, 48, 50, 90, 95 %, wrong at 17 "
                + "others).")
        if advice.engines > 1 {
            advice.cautions.append(
                "One engine's fatal fault ends all engines of the GPU; Tandem replays their requests.")
        }
        if advice.engines >= 4 {
            advice.cautions.append(
                "Predictions for four engines and more are 12 to 20 % too good by experience; the interval allows for it."
            )
        }
    }
}

func signed(_ share: Double) -> String {
    let points = Int((share * 100).rounded())
    return points > 0 ? "+\(points) %" : "\(points) %"
}

private func gigabytes(_ bytes: Double) -> String {
    let tenths = Int((bytes / 1e8).rounded())
    return "\(tenths / 10).\(tenths % 10) GB"
}

private func seconds(_ value: Double) -> String {
    let hundredths = Int((min(value, 1e9) * 100).rounded(.up))
    return "\(hundredths / 100).\(hundredths / 10 % 10)\(hundredths % 10) s"
}

private func microseconds(_ value: Double) -> String {
    let tenths = Int((value * 1e7).rounded())
    return "\(tenths / 10).\(tenths % 10) us"
}
