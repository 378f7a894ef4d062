// Tandem — Apache-2.0

import Tokenization

extension FuzzTarget {
    /// `tokenizer.json`, and texts through the tokenizer that comes of it.
    static func tokenizer(directory path: String) -> FuzzTarget {
        let directory = HostileDirectory(path)
        return FuzzTarget(
            name: "tokenizer", dialect: .json,
            seeds: [TokenizerSeeds.byteLevel, TokenizerSeeds.byteFallback, TokenizerSeeds.metaspace].map {
                Array($0.utf8)
            }
        ) { input in
            let file = directory.write(input, as: "tokenizer.json")
            return read(path, named: file, isEmpty: input.isEmpty)
        }
    }

    /// `tokenizer_config.json` beside a `tokenizer.json` that is valid.
    static func tokenizerConfig(directory path: String) -> FuzzTarget {
        let directory = HostileDirectory(path)
        directory.write(Array(TokenizerSeeds.byteLevel.utf8), as: "tokenizer.json")
        let seeds = [TokenizerSeeds.configuration, TokenizerSeeds.configurationWithTemplates]
        return FuzzTarget(name: "tokenizer-config", dialect: .json, seeds: seeds.map { Array($0.utf8) }) { input in
            let file = directory.write(input, as: "tokenizer_config.json")
            return read(path, named: file, isEmpty: input.isEmpty)
        }
    }

    private static func read(_ directory: String, named file: String, isEmpty: Bool) -> FuzzOutcome {
        do {
            let tokenizer = try Tokenizer(directory: directory)
            return TokenizerUse.fault(of: tokenizer).map { .fault($0) } ?? .accepted
        } catch {
            // Of a file that is no JSON, or no object, there is an offset or a type instead of a field.
            let place = error.field.isEmpty ? ["byte ", "object"].first { error.reason.contains($0) } : error.field
            return refusal(error, names: [file, isEmpty ? file : place])
        }
    }
}

/// Small valid files of the kinds of tokenizers that are read.
enum TokenizerSeeds {
    static let byteLevel = #"""
        {"version":"1.0","truncation":null,"added_tokens":[
        {"id":17,"content":"<|im_start|>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true},
        {"id":18,"content":"<|im_end|>","lstrip":true,"rstrip":true,"normalized":false,"special":true},
        {"id":19,"content":"[user]","normalized":true,"special":false}],
        "normalizer":{"type":"NFC"},
        "pre_tokenizer":{"type":"Sequence","pretokenizers":[
        {"type":"Digits","individual_digits":true},
        {"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true}]},
        "post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<|im_start|>","type_id":0}},
        {"Sequence":{"id":"A","type_id":0}}],"pair":[],
        "special_tokens":{"<|im_start|>":{"id":"<|im_start|>","ids":[17],"tokens":["<|im_start|>"]}}},
        "decoder":{"type":"ByteLevel"},
        "model":{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":"","fuse_unk":false,
        "byte_fallback":false,"ignore_merges":false,
        "vocab":{"a":0,"b":1,"e":2,"h":3,"l":4,"o":5,"r":6,"w":7,"Ġ":8,"Ċ":9,"1":10,"2":11,"he":12,"ll":13,"hell":14,
        "hello":15,"Ġw":16},
        "merges":[["h","e"],["l","l"],["he","ll"],["hell","o"],["Ġ","w"]]}}
        """#

    static let byteFallback = #"""
        {"version":"1.0","added_tokens":[
        {"id":0,"content":"<unk>","special":true},{"id":1,"content":"<bos>","special":true},
        {"id":13,"content":"<tag>","special":false,"normalized":true,"lstrip":true}],
        "normalizer":{"type":"Replace","pattern":{"String":" "},"content":"▁"},
        "pre_tokenizer":{"type":"Split","pattern":{"String":" "},"behavior":"MergedWithPrevious","invert":false},
        "post_processor":{"type":"Sequence","processors":[{"type":"TemplateProcessing",
        "single":[{"SpecialToken":{"id":"<bos>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],
        "special_tokens":{"<bos>":{"id":"<bos>","ids":[1],"tokens":["<bos>"]}}}]},
        "decoder":{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},
        {"type":"ByteFallback"},{"type":"Fuse"}]},
        "model":{"type":"BPE","unk_token":"<unk>","fuse_unk":true,"byte_fallback":true,
        "vocab":{"<unk>":0,"<bos>":1,"<0x0A>":2,"<0xC3>":3,"<0xA9>":4,"▁":5,"h":6,"e":7,"l":8,"o":9,"he":10,"ll":11,
        "▁he":12},
        "merges":["h e","l l","▁ he"]}}
        """#

    static let metaspace = #"""
        {"added_tokens":[{"id":0,"content":"<unk>","special":true},{"id":1,"content":"<s>","special":true}],
        "normalizer":{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"▁"},
        {"type":"Replace","pattern":{"String":" "},"content":"▁"}]},
        "pre_tokenizer":{"type":"Metaspace","replacement":"▁","prepend_scheme":"first","split":false},
        "post_processor":null,
        "decoder":{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},
        {"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]},
        "model":{"type":"BPE","unk_token":"<unk>","byte_fallback":true,"vocab":{"<unk>":0,"<s>":1,"<0x41>":2,"▁":3,"h":4,
        "e":5,"l":6,"o":7,"he":8},"merges":["h e"]}}
        """#

    static let configuration = #"""
        {"add_bos_token":true,"add_eos_token":false,"bos_token":{"__type":"AddedToken","content":"<|im_start|>"},
        "eos_token":"<|im_end|>","model_max_length":2048,"tokenizer_class":"GPT2Tokenizer","added_tokens_decoder":{},
        "chat_template":"{% for message in messages %}{{ message.content }}{% endfor %}"}
        """#

    static let configurationWithTemplates = #"""
        {"bos_token":null,"eos_token":"<|im_end|>","add_eos_token":true,
        "chat_template":[{"name":"tool_use","template":"{{ tools }}"},{"name":"default","template":"{{ messages }}"}]}
        """#
}
