// Tandem — Apache-2.0

import Glibc
internal import JSON

/// The tensors of a model directory: those of `model.safetensors`, or of the shards that
/// `model.safetensors.index.json` names.
public struct SafetensorsModel: TensorSource {
    /// The directory.
    public let path: String
    /// The tensors, file by file. Of a model in shards, those that the index names.
    public let tensors: [TensorDescription]

    private let files: [SafetensorsFile]
    private let tensorIndex: [String: Int]
    private let refusals: [String: WeightsError]

    private static let singleName = "model.safetensors"
    private static let indexName = "model.safetensors.index.json"
    /// Far above any model's.
    private static let maximumShards = 4096
    private static let indexLimits = JSONLimits(maximumDepth: 8, maximumBytes: 64 << 20, maximumValues: 2_000_000)

    /// Opens and checks a model's files.
    ///
    /// - Parameter directory: its path.
    /// - Throws: ``WeightsError`` naming the file and what is wrong with it.
    public init(directory: String) throws(WeightsError) {
        path = directory
        let single = directory + "/" + SafetensorsModel.singleName
        let index = directory + "/" + SafetensorsModel.indexName
        if access(single, F_OK) == 0 {
            let file = try SafetensorsFile(path: single)
            files = [file]
            tensors = file.tensors
            refusals = file.refusals
        } else if access(index, F_OK) == 0 {
            (files, tensors, refusals) = try SafetensorsModel.shards(of: index, in: directory)
        } else {
            throw WeightsError(
                path: directory,
                reason: "holds neither \(SafetensorsModel.singleName) nor \(SafetensorsModel.indexName)")
        }
        // Names differ: within a file as its header was checked, between files as one entry of the index names one file.
        tensorIndex = Dictionary(zip(tensors.map(\.name), tensors.indices)) { first, _ in first }
    }

    /// The tensor with a name.
    public func tensor(named name: String) -> TensorDescription? { tensorIndex[name].map { tensors[$0] } }

    /// See ``TensorSource/refusal(ofTensorNamed:)``.
    public func refusal(ofTensorNamed name: String) -> WeightsError? { refusals[name] }

    /// See ``TensorSource/bytes(of:)``.
    public func bytes(of tensor: TensorDescription) -> UnsafeRawBufferPointer {
        files[tensor.fileIndex].bytes(of: tensor)
    }

    // MARK: - Shards

    private static func shards(
        of index: String, in directory: String
    ) throws(WeightsError) -> ([SafetensorsFile], [TensorDescription], [String: WeightsError]) {
        let map = try weightMap(index)
        var names: [String] = []
        var namesSeen: Set<String> = []
        var shardOfTensor: [String: String] = [:]
        for (tensor, value) in map.entries {
            guard let shard = value.string, isShardName(shard) else {
                let found = value.string.map(quoted) ?? "of type \(value.typeName)"
                throw WeightsError(
                    path: index,
                    reason: "weight_map: the file of \(quoted(tensor)) is \(found); it must be the name of a "
                        + ".safetensors file in the same directory")
            }
            guard shardOfTensor.updateValue(shard, forKey: tensor) == nil else {
                throw WeightsError(path: index, reason: "weight_map: \(quoted(tensor)) is there a second time")
            }
            if namesSeen.insert(shard).inserted { names.append(shard) }
        }
        guard (1...maximumShards).contains(names.count) else {
            throw WeightsError(
                path: index, reason: "weight_map names \(names.count) files; 1 to \(maximumShards) are allowed")
        }
        var files: [SafetensorsFile] = []
        var tensors: [TensorDescription] = []
        var refusals: [String: WeightsError] = [:]
        for (number, name) in names.enumerated() {
            let file = try SafetensorsFile(path: directory + "/" + name, fileIndex: number)
            files.append(file)
            tensors += file.tensors.filter { shardOfTensor[$0.name] == name }
            for (tensor, refusal) in file.refusals where shardOfTensor[tensor] == name { refusals[tensor] = refusal }
        }
        let found = Set(tensors.map(\.name))
        for (tensor, value) in map.entries where !found.contains(tensor) && refusals[tensor] == nil {
            throw WeightsError(
                path: directory + "/" + (value.string ?? ""),
                reason: "has no tensor \(quoted(tensor)), which \(indexName) says is there")
        }
        return (files, tensors, refusals)
    }

    private static func weightMap(_ index: String) throws(WeightsError) -> JSONObject {
        let file = try MappedFile(path: index)
        let content: JSONValue
        do throws(JSONError) {
            content = try JSONParser.parse(file.bytes, limits: indexLimits)
        } catch {
            throw WeightsError(path: index, offset: UInt64(error.offset), reason: error.reason)
        }
        guard let map = content.object?["weight_map"]?.object else {
            throw WeightsError(path: index, reason: "has no object weight_map")
        }
        return map
    }

    /// Whether a name stays in the directory.
    private static func isShardName(_ name: String) -> Bool {
        name.hasSuffix(".safetensors") && name.utf8.count <= 255 && !name.utf8.contains(UInt8(ascii: "/"))
            && !name.utf8.contains(0) && !name.contains("..")
    }
}
