// Tandem — Apache-2.0

import JSON
import Tokenization

extension FuzzTarget {
    /// A chat template, and conversations through it.
    static func template() -> FuzzTarget {
        let conversations = TemplateSeeds.conversations
        return FuzzTarget(
            name: "template", dialect: .template, seeds: TemplateSeeds.templates.map { Array($0.utf8) }
        ) { input in
            let source = String(decoding: input, as: UTF8.self)
            let (messages, tools) = conversations[input.count % conversations.count]
            do throws(ChatTemplateError) {
                let template = try ChatTemplate(source: source)
                _ = try template.render(
                    messages: messages, tools: tools, addGenerationPrompt: input.count.isMultiple(of: 2),
                    bosToken: "<s>", eosToken: "</s>", extra: JSONObject())
                return .accepted
            } catch {
                // What a template itself refuses is meant for the sender and names no place.
                if error.kind == .raised { return .refused }
                guard !error.reason.isEmpty else { return .fault("a refusal without a reason: \(error)") }
                return refusal(error, names: ["chat template"])
            }
        }
    }
}

/// Templates in the styles of the known families, and conversations.
private enum TemplateSeeds {
    static let templates = [
        // ChatML with a default system message.
        #"""
        {% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system
        You are helpful<|im_end|>
        ' }}{% endif %}{{'<|im_start|>' + message['role'] + '
        ' + message['content'] + '<|im_end|>' + '
        '}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant
        ' }}{% endif %}
        """#,
        // Tools, calls of tools and their answers.
        #"""
        {%- if tools %}
            {{- '<|im_start|>system\n' }}
            {%- if messages[0]['role'] == 'system' %}{{- messages[0]['content'] }}{%- else %}{{- 'Be helpful.' }}{%- endif %}
            {%- for tool in tools %}{{- "\n" }}{{- tool | tojson }}{%- endfor %}
            {{- "<|im_end|>\n" }}
        {%- endif %}
        {%- for message in messages %}
            {%- if (message.role == "user") or (message.role == "assistant" and not message.tool_calls) %}
                {{- '<|im_start|>' + message.role + '\n' + message.content|string + '<|im_end|>' + '\n' }}
            {%- elif message.role == "assistant" %}
                {%- for tool_call in message.tool_calls %}
                    {%- if tool_call.function is defined %}{%- set tool_call = tool_call.function %}{%- endif %}
                    {{- '{"name": "' ~ tool_call.name ~ '", "arguments": ' ~ (tool_call.arguments | tojson(indent=2)) ~ '}' }}
                {%- endfor %}
            {%- elif message.role == "tool" %}
                {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}{{- '<tool>' }}{%- endif %}
                {{- message.content }}
            {%- endif %}
        {%- endfor %}
        """#,
        // Turns that must alternate, and content in parts.
        #"""
        {{ bos_token }}{%- if messages[0]['role'] == 'system' -%}{%- if messages[0]['content'] is string -%}
        {%- set first_user_prefix = messages[0]['content'] + '\n' -%}{%- else -%}
        {%- set first_user_prefix = messages[0]['content'][0]['text'] + '\n' -%}{%- endif -%}
        {%- set loop_messages = messages[1:] -%}{%- else -%}{%- set first_user_prefix = "" -%}
        {%- set loop_messages = messages -%}{%- endif -%}{%- for message in loop_messages -%}
        {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}{%- endif -%}
        {%- if (message['role'] == 'assistant') -%}{%- set role = "model" -%}{%- else -%}
        {%- set role = message['role'] -%}{%- endif -%}
        {{ '<start_of_turn>' + role + '\n' + (first_user_prefix if loop.first else "") }}
        {%- if message['content'] is string -%}{{ message['content'] | trim }}
        {%- elif message['content'] is iterable -%}{%- for item in message['content'] -%}
        {%- if item['type'] == 'text' -%}{{ item['text'] | trim }}{%- endif -%}{%- endfor -%}
        {%- else -%}{{ raise_exception("Invalid content type") }}{%- endif -%}{{ '<end_of_turn>\n' }}
        {%- endfor -%}{%- if add_generation_prompt -%}{{'<start_of_turn>model\n'}}{%- endif -%}
        """#,
        // Namespaces, macros' substitutes, slices, tests and methods.
        #"""
        {%- set ns = namespace(multi=true, last=messages|length - 1, found=none) -%}
        {%- if not tools is defined %}{% set tools = none %}{% endif -%}
        {%- for message in messages[::-1] -%}{%- set index = (messages|length - 1) - loop.index0 -%}
        {%- if ns.multi and message.role == 'user' and message.content is string
        and not (message.content.startswith('<a>') and message.content.endswith('</a>')) -%}
        {%- set ns.multi = false -%}{%- set ns.last = index -%}{%- endif -%}{%- endfor -%}
        {%- for message in messages if message.role in ['user', 'assistant'] -%}
        {%- set content = message.content if message.content is not none else '' -%}
        {%- if '</think>' in content -%}{%- set content = content.split('</think>')[-1].lstrip('\n') -%}{%- endif -%}
        {% generation %}{{ content.replace('a', 'b') | upper | default('x', true) }}{% endgeneration %}
        {%- if loop.last or (not loop.last and loop.nextitem is undefined) %}{{ eos_token }}{% break %}{% endif -%}
        {%- else -%}{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | list | join(', ') }}
        {%- endfor -%}
        {%- for key, value in {'a': 1, 'b': [1, 2.5, -3]}.items() -%}{{ key ~ value }}{%- endfor -%}
        {% for i in range(3) %}{{ i // 2 }}{{ i % 2 }}{{ i * 1.5 }}{% continue %}{% endfor %}
        {# a comment #}{% set block %}{{ [1, (2, 3), {'k': none}] }}{% endset %}{{ block }}
        """#,
    ]

    /// Messages and tools.
    static let conversations: [(JSONValue, JSONValue?)] = [
        (parse(#"[{"role":"user","content":"Hello"}]"#), nil),
        (
            parse(
                #"""
                [{"role":"system","content":"Be brief."},{"role":"user","content":"é ☃ \u0000 </think> a,b "},
                {"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function",
                "function":{"name":"f","arguments":{"x":1,"y":[1.5,null,true]}}}]},
                {"role":"tool","content":"42","tool_call_id":"1"},{"role":"assistant","content":"Done."}]
                """#),
            parse(#"[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{}}}}]"#)
        ),
        (parse(#"[{"role":"user","content":[{"type":"text","text":" part "},{"type":"image"}]}]"#), nil),
        (parse("[]"), parse("[]")),
    ]

    private static func parse(_ text: String) -> JSONValue {
        // These texts are ours; a typing error shows in the tests as a conversation that is null.
        (try? JSONParser.parse(Array(text.utf8))) ?? .null
    }
}
