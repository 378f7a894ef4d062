// Tandem — Apache-2.0

import GPUModel
import GPUModelValidation
import JSON
import Testing

@Suite struct KernelTests {
    static func errors(_ gpu: String, _ kind: String) throws -> [Double] {
        let device = try DeviceParameters.named(gpu)
        let errors = try Measured.published().filter { $0.gpu == gpu && $0.kind == kind }
            .map { abs($0.seconds(on: device) / $0.seconds - 1) }
        try #require(errors.count == 60)
        return errors
    }

    /// Against measurements that the fit has not seen.
    @Test(arguments: ["h100", "h200", "a100", "b200"])
    func products(gpu: String) throws {
        let error = mean(try Self.errors(gpu, "product"))
        #expect(error <= 0.12, "\(error)")
    }

    @Test(arguments: [("h100", 0.15), ("h200", 0.15), ("a100", 0.25)])
    func decodeAttention(gpu: String, most: Double) throws {
        let error = median(try Self.errors(gpu, "decode"))
        #expect(error <= most, "\(error)")
    }

    /// No acceptance number asks for these; they keep changes from being silent.
    @Test(arguments: [("h100", 0.2), ("h200", 0.2), ("a100", 0.2), ("b200", 0.25), ("l40s", 0.2)])
    func prefillAttention(gpu: String, most: Double) throws {
        let error = median(try Self.errors(gpu, "prefill"))
        #expect(error <= most, "\(error)")
    }

    static func error(_ device: DeviceParameters, _ points: [ProbeMeasurement]) -> Double {
        mean(
            points.map { point in
                guard case .product(let rows, let columns, let inner, let seconds) = point else { return .infinity }
                return abs(
                    device.matrixProduct("", .rest, rows: rows, columns: columns, inner: inner).seconds / seconds - 1)
            })
    }

    /// Our own probe of an H100: fitted on every second product, judged by the others.
    @Test func productsOfAProbe() throws {
        let points = try Measured.products()
        try #require(points.count > 60)
        let even = points.enumerated().filter { $0.offset % 2 == 0 }.map(\.element)
        let odd = points.enumerated().filter { $0.offset % 2 == 1 }.map(\.element)
        let published = try DeviceParameters.named("h100")
        let device = try published.calibrated(by: even)
        #expect(Self.error(device, odd) <= 0.12, "\(Self.error(device, odd)), published \(Self.error(published, odd))")
        #expect(Self.error(device, odd) < Self.error(published, odd))
    }

    @Test func decodeAttentionOfAProbe() throws {
        let points = Measured.attentions(try Measured.probe("kernels"), "best_us")
        try #require(points.count >= 20)
        let even = points.enumerated().filter { $0.offset % 2 == 0 }.map(\.element)
        let odd = points.enumerated().filter { $0.offset % 2 == 1 }.map(\.element)
        let device = try DeviceParameters.named("h100").calibrated(by: even)
        let errors = odd.map { point -> Double in
            guard
                case .decodeAttention(let sequences, let context, let query, let keyValue, let head, let seconds) =
                    point
            else { return .infinity }
            let kernel = device.attentionToCache(
                sequences: sequences, context: context, queryHeads: query, keyValueHeads: keyValue, headDimension: head)
            return abs(kernel.seconds / seconds - 1)
        }
        #expect(median(errors) <= 0.15, "\(errors)")
    }

    /// A fit finds parameters from times that they made.
    @Test func calibrationFindsWhatItWasGiven() throws {
        var truth = try DeviceParameters.named("h100")
        truth.product = ProductParameters(fixedSeconds: 7e-6, tensorShare: 0.6, memoryShare: 0.7, exponent: 2)
        truth.sharing.sliceSeconds = 3e-3
        var points: [ProbeMeasurement] = [
            .timeSlice(runSeconds: 3e-3, pauseSeconds: 3.4e-3),
            .stepUnderMPS(kernels: 100, seconds: 1.2e-3, secondsWithout: 1e-3),
        ]
        for rows in [1.0, 16, 64, 256, 1024, 8192] {
            for columns in [896.0, 4096, 18944] {
                points.append(
                    .product(
                        rows: rows, columns: columns, inner: 2048,
                        seconds: truth.matrixProduct("", .rest, rows: rows, columns: columns, inner: 2048).seconds))
            }
        }
        let found = try DeviceParameters.named("h100").calibrated(by: points)
        #expect(abs(found.product.fixedSeconds / 7e-6 - 1) < 0.02)
        #expect(abs(found.product.tensorShare / 0.6 - 1) < 0.02)
        #expect(abs(found.product.memoryShare / 0.7 - 1) < 0.02)
        #expect(found.sharing.sliceSeconds == 3e-3)
        #expect(abs(found.sharing.switchSeconds - 0.2e-3) < 1e-9)
        #expect(abs(found.sharing.mpsKernelSeconds - 2e-6) < 1e-12)
        #expect(found.decodeAttention == truth.decodeAttention)
        #expect(found.sources[0].hasPrefix("probe file: 18 products"))
    }

    @Test func uselessMeasurements() throws {
        let device = try DeviceParameters.named("h100")
        let broken: [ProbeMeasurement] = [
            .product(rows: 0, columns: 1, inner: 1, seconds: 1), .product(rows: 1, columns: .nan, inner: 1, seconds: 1),
            .product(rows: 1, columns: 1, inner: 1, seconds: -1), .timeSlice(runSeconds: .infinity, pauseSeconds: 1),
            .memory(bytes: 3), .multiprocessors(0),
        ]
        #expect(broken.allSatisfy { !$0.isPlausible })
        #expect(throws: GPUModelError.self) { try device.calibrated(by: broken) }
        #expect(throws: GPUModelError.self) { try device.calibrated(by: []) }
    }

    @Test func names() throws {
        #expect(try DeviceParameters.named("NVIDIA H100 80GB HBM3").name == "h100")
        #expect(try DeviceParameters.named("L4").name == "l4")
        #expect(try DeviceParameters.named("l40s").name == "l40s")
        for name in ["h1000", "", "H100 PCIe", "rtx 5090"] {
            #expect(throws: GPUModelError.self) { try DeviceParameters.named(name) }
        }
    }

    /// More work is never faster, and demands are shares.
    @Test(arguments: DeviceParameters.published)
    func monotonic(device: DeviceParameters) {
        var last = 0.0
        for rows in [1.0, 3, 64, 65, 300, 1000, 5000, 40000] {
            let kernel = device.matrixProduct("", .rest, rows: rows, columns: 2048, inner: 2048)
            #expect(kernel.seconds >= last)
            last = kernel.seconds
            for share in [kernel.demand.multiprocessors, kernel.demand.tensor, kernel.demand.memory] {
                #expect((0...1).contains(share))
            }
        }
        last = 0
        for context in [1.0, 100, 1000, 10000, 100_000] {
            let kernel = device.attentionToCache(
                sequences: 7, context: context, queryHeads: 16, keyValueHeads: 2, headDimension: 128)
            #expect(kernel.seconds > last)
            last = kernel.seconds
        }
    }
}

func median(_ values: [Double]) -> Double { quantile(values, 0.5) }
