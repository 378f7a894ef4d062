// Tandem — Apache-2.0

/// What flags of other servers are called here.
enum ForeignFlags {
    private static let ours: [String: String] = [
        // vLLM.
        "--gpu-memory-utilization": "--gpu-memory-fraction, of all engines together",
        "--kv-cache-memory-bytes": "--kv-cache-memory",
        "--dtype": "--cpu-compute on a CPU; a GPU computes in bfloat16",
        "--enable-prefix-caching": "nothing: prefixes are always cached",
        "--no-enable-prefix-caching": "cache_salt in a request, which then shares nothing",
        "--enable-chunked-prefill": "nothing: long prompts are always computed in chunks",
        "--tensor-parallel-size": "nothing: an engine has one GPU; --engines is how many share it",
        "--data-parallel-size": "--engines",
        "--api-server-count": "--gateway-threads",
        "--ssl-certfile": "--tls-certificate", "--ssl-keyfile": "--tls-key",
        "--enable-auto-tool-choice": "nothing: calls of tools are always understood",
        "--tool-call-parser": "nothing: it is chosen by the chat template",
        "--enforce-eager": "nothing of the kind",
        "--disable-log-requests": "--access-log off, which is the default",
        "--trust-remote-code": "nothing: no code of a model is ever run",
        "--swap-space": "nothing: preempted sequences are computed again",
        "--num-gpu-blocks-override": "--kv-cache-memory",
        // SGLang.
        "--model-path": "the model as the first argument: tandem serve MODEL",
        "--mem-fraction-static": "--gpu-memory-fraction, of all engines together",
        "--context-length": "--max-model-len", "--max-running-requests": "--max-num-seqs",
        "--chunked-prefill-size": "--max-num-batched-tokens", "--dp-size": "--engines",
        "--tp-size": "nothing: an engine has one GPU",
        // llama-server.
        "-m": "the model as the first argument: tandem serve MODEL",
        "--model": "the model as the first argument: tandem serve MODEL",
        "-hf": "the model as the first argument: tandem serve ORG/NAME",
        "-c": "--max-model-len", "--ctx-size": "--max-model-len", "-np": "--max-num-seqs",
        "--parallel": "--max-num-seqs", "-ngl": "--device", "--n-gpu-layers": "--device", "-t": "--threads",
        "-b": "--max-num-batched-tokens", "--batch-size": "--max-num-batched-tokens", "-cb": "nothing: it is always on",
        "--cont-batching": "nothing: it is always on", "--alias": "--served-model-name",
    ]

    /// A line for whoever gave one of them to `tandem serve`; null if none is among the arguments.
    static func hint(_ arguments: [String]) -> String? {
        guard arguments.first == "serve" else { return nil }
        for argument in arguments.dropFirst() {
            let name = String(argument.prefix { $0 != "=" })
            if let instead = ours[name] { return "\(name) of another server is here: \(instead)" }
        }
        return nil
    }
}
