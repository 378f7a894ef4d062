"""Every endpoint, as a client sees it."""
import base64
import json
import math
import pathlib
import re
import socket
import struct
import threading
import unittest

import serving
from serving import ServerTestCase, read_answer

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
CAPITAL = "The capital of France is"
STORY = "Once upon a time, in a small village by the sea,"
USAGE = {"prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details"}


def prompt_of(words):
    return " ".join(f"word{index}" for index in range(words))


class CompletionTests(ServerTestCase):
    def check_usage(self, usage, prompt, completion):
        self.assertEqual(set(usage), USAGE)
        self.assertEqual(usage["prompt_tokens"], prompt)
        self.assertEqual(usage["completion_tokens"], completion)
        self.assertEqual(usage["total_tokens"], prompt + completion)
        self.assertLessEqual(usage["prompt_tokens_details"]["cached_tokens"], prompt)

    def test_string_prompt_and_shape(self):
        answer = self.server.post(
            COMPLETIONS, {"model": self.model["id"], "prompt": CAPITAL, "max_tokens": 8, "temperature": 0})
        self.assertEqual(answer.status, 200, answer)
        self.assertEqual(answer.headers["Content-Type"], "application/json")
        document = answer.json
        self.assertEqual(set(document), {"id", "object", "created", "model", "choices", "usage"})
        self.assertTrue(document["id"].startswith("cmpl-"))
        self.assertEqual(document["object"], "text_completion")
        self.assertEqual(document["model"], self.model["id"])
        self.assertIsInstance(document["created"], int)
        (choice,) = document["choices"]
        self.assertEqual(set(choice), {"index", "text", "logprobs", "finish_reason", "stop_reason"})
        self.assertEqual((choice["index"], choice["logprobs"]), (0, None))
        self.assertIn("Paris", choice["text"])
        count = len(self.server.tokenize(CAPITAL))
        self.check_usage(document["usage"], count, 8)
        self.assertEqual(choice["finish_reason"], "length")

    def test_model_may_be_omitted_and_nulls_are_absent(self):
        plain = self.server.complete(CAPITAL, temperature=0, max_tokens=8)
        nulls = self.server.complete(
            CAPITAL, temperature=0, max_tokens=8, model=None, logprobs=None, seed=None, stop=None, n=None, top_p=None,
            stream=None, stream_options=None, echo=None, logit_bias=None, user=None, suffix=None, best_of=None,
            something_unknown={"a": [1]})
        self.assertEqual(plain["choices"], nulls["choices"])
        self.assertEqual(plain["model"], self.model["id"])

    def test_default_of_max_tokens_is_16(self):
        document = self.server.complete(STORY, temperature=0, ignore_eos=True)
        self.assertEqual(document["usage"]["completion_tokens"], 16)
        self.assertEqual(document["choices"][0]["finish_reason"], "length")

    def test_neutral_values_change_nothing(self):
        plain = self.server.complete(CAPITAL, temperature=0, max_tokens=8)
        defaults = self.server.complete(
            CAPITAL, temperature=0, max_tokens=8, presence_penalty=0, frequency_penalty=0, repetition_penalty=1.0,
            logit_bias={}, min_tokens=0, best_of=1, suffix="", return_token_ids=False, n=1, top_p=1, min_p=0, top_k=-1,
            echo=False, stream=False, include_stop_str_in_output=False, ignore_eos=False, skip_special_tokens=True,
            response_format={"type": "text"}, structured_outputs={}, guided_json=None, prompt_logprobs=None,
            truncate_prompt_tokens=None, priority=0, cache_salt="", user="somebody")
        self.assertEqual(plain["choices"], defaults["choices"])

    def test_token_id_prompt_equals_text_prompt(self):
        ids = self.server.tokenize(CAPITAL)
        by_text = self.server.complete(CAPITAL, temperature=0, max_tokens=12, logprobs=3)
        by_ids = self.server.complete(ids, temperature=0, max_tokens=12, logprobs=3)
        self.assertEqual(by_text["choices"], by_ids["choices"])
        self.assertEqual(by_ids["usage"]["prompt_tokens"], len(ids))

    def test_batches_of_strings_and_of_ids(self):
        prompts = [CAPITAL, STORY, "1, 2, 3,"]
        alone = [self.server.complete(p, temperature=0, max_tokens=10)["choices"][0]["text"] for p in prompts]
        ids = [self.server.tokenize(p) for p in prompts]
        for batch in (prompts, ids):
            document = self.server.complete(batch, temperature=0, max_tokens=10)
            self.assertEqual([choice["index"] for choice in document["choices"]], [0, 1, 2])
            self.assertEqual([choice["text"] for choice in document["choices"]], alone)
            self.check_usage(
                document["usage"], sum(len(i) for i in ids), document["usage"]["completion_tokens"])
            self.assertLessEqual(document["usage"]["completion_tokens"], 30)

    def test_n_choices_of_two_prompts_are_in_order_and_reproducible(self):
        fields = dict(n=3, seed=11, temperature=1, max_tokens=12, ignore_eos=True)
        both = self.server.complete([CAPITAL, STORY], **fields)
        self.assertEqual([choice["index"] for choice in both["choices"]], list(range(6)))
        texts = [choice["text"] for choice in both["choices"]]
        self.assertGreater(len(set(texts[:3])), 1, "three samples are all the same")
        self.assertEqual(texts, [c["text"] for c in self.server.complete([CAPITAL, STORY], **fields)["choices"]])
        prompts = len(self.server.tokenize(CAPITAL)) + len(self.server.tokenize(STORY))
        self.check_usage(both["usage"], prompts, 72)

    def test_a_seed_gives_the_same_text_and_others_another(self):
        def sample(seed):
            return self.server.complete(STORY, seed=seed, temperature=1, max_tokens=24)["choices"][0]["text"]

        self.assertEqual(sample(3), sample(3))
        self.assertGreater(len({sample(seed) for seed in (3, 4, -5, 2**63 - 1)}), 1)

    def test_narrow_sampling_is_greedy(self):
        greedy = self.server.complete(STORY, temperature=0, max_tokens=16)["choices"][0]["text"]
        for narrow in ({"top_k": 1}, {"top_p": 1e-9}, {"min_p": 1}):
            with self.subTest(narrow):
                sampled = self.server.complete(STORY, temperature=1.5, seed=1, max_tokens=16, **narrow)
                self.assertEqual(sampled["choices"][0]["text"], greedy)

    def test_greedy_is_the_same_alone_together_and_on_both_engines(self):
        fields = dict(prompt=STORY, temperature=0, max_tokens=32, logprobs=2, ignore_eos=True)
        alone = self.server.ask(COMPLETIONS, **fields)["choices"]
        before = self.server.metrics().all("tandem_engine_generated_tokens_total")
        answers = [None] * 12

        def run(index):
            answers[index] = self.server.ask(COMPLETIONS, **fields)["choices"]

        threads = [threading.Thread(target=run, args=(index,)) for index in range(len(answers))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120 * serving.PATIENCE)
        for answer in answers:
            self.assertEqual(answer, alone)

        def both_worked():
            now = self.server.metrics().all("tandem_engine_generated_tokens_total")
            return len(now) == 2 and all(value > before.get(key, 0) for key, value in now.items())

        serving.wait_until(both_worked, 10, "the same requests did not run on both engines")

    def test_every_sampling_field_at_its_edges(self):
        for field, values in {
            "temperature": [0, 2, 0.1], "top_p": [0.001, 1], "top_k": [-1, 0, 1, 10**9], "min_p": [0, 1],
            "seed": [0, -1, 2**63 - 1, -(2**63)], "n": [1, 2], "logprobs": [0, 20], "presence_penalty": [-2, 2],
            "frequency_penalty": [-2, 2], "repetition_penalty": [0.01, 10], "min_tokens": [0, 2],
            "logit_bias": [{"0": -100}, {"0": 100}, {str(id): 1 for id in range(1024)}],
            "priority": [-(2**31), 2**31 - 1], "cache_salt": ["x" * 1024],
        }.items():
            for value in values:
                with self.subTest(field=field, value=str(value)[:40]):
                    self.server.complete(CAPITAL, max_tokens=2, **{field: value})

    # Penalties and biases

    def ids(self, **fields):
        """Ids of greedy tokens."""
        document = self.server.complete(
            STORY, temperature=0, ignore_eos=True, return_token_ids=True, **{"max_tokens": 48, **fields})
        (choice,) = document["choices"]
        self.assertEqual(document["usage"]["completion_tokens"], len(choice["token_ids"]))
        return choice["token_ids"]

    def test_penalties_forbid_repetition(self):
        free = self.ids()
        self.assertLess(len(set(free)), len(free), "the story repeats nothing: nothing can be seen")
        self.assertEqual(free, self.ids(presence_penalty=0, frequency_penalty=0.0, repetition_penalty=1))
        for fields in ({"presence_penalty": 2}, {"frequency_penalty": 2}, {"repetition_penalty": 2}):
            with self.subTest(fields):
                tokens = self.ids(**fields)
                self.assertNotEqual(tokens, free)
                if "presence_penalty" not in fields:
                    self.assertGreater(len(set(tokens)) / len(tokens), len(set(free)) / len(free))
        heavy = self.ids(repetition_penalty=10)
        self.assertEqual(len(set(heavy)), len(heavy), "a token came twice")
        prompt = set(self.server.tokenize(STORY))
        self.assertFalse(prompt & set(heavy), "a token of the prompt came again")
        for fields in ({"presence_penalty": -2}, {"frequency_penalty": -2}):
            self.assertLessEqual(len(set(self.ids(**fields))), len(set(free)))

    def test_penalties_count_what_a_request_generated_and_nobody_elses(self):
        alone = self.ids(frequency_penalty=1.5, presence_penalty=0.5)
        answers = [None] * 6

        def run(index):
            fields = {"frequency_penalty": 1.5, "presence_penalty": 0.5} if index % 2 else {}
            answers[index] = self.ids(**fields)

        threads = [threading.Thread(target=run, args=(index,)) for index in range(len(answers))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120 * serving.PATIENCE)
        self.assertEqual(answers[1::2], [alone] * 3)
        self.assertEqual(answers[0::2], [self.ids()] * 3)

    def test_biases_forbid_and_force(self):
        first = self.ids(max_tokens=1)[0]
        self.assertNotEqual(self.ids(max_tokens=1, logit_bias={str(first): -100})[0], first)
        (forced,) = self.server.tokenize(" banana", add_special_tokens=False)[:1]
        self.assertEqual(self.ids(max_tokens=4, logit_bias={str(forced): 100}), [forced] * 4)
        sampled = self.server.complete(
            STORY, temperature=1, seed=3, max_tokens=4, logit_bias={str(forced): 100}, return_token_ids=True)
        self.assertEqual(sampled["choices"][0]["token_ids"], [forced] * 4)

    def test_log_probabilities_are_those_of_the_model_without_penalties(self):
        plain = self.server.complete(STORY, temperature=0, max_tokens=1, logprobs=5)["choices"][0]["logprobs"]
        moved = self.server.complete(
            STORY, temperature=0, max_tokens=1, logprobs=5, repetition_penalty=1.5, presence_penalty=1,
            logit_bias={"5": -3})["choices"][0]["logprobs"]
        self.assertEqual(max(plain["top_logprobs"][0].values()), max(moved["top_logprobs"][0].values()))

    def test_the_best_of_several_is_the_likeliest(self):
        fields = dict(seed=11, temperature=1, max_tokens=12, ignore_eos=True)
        all = self.server.complete(STORY, n=6, logprobs=0, **fields)

        def mean(choice):
            return sum(choice["logprobs"]["token_logprobs"]) / len(choice["logprobs"]["tokens"])

        ranked = sorted(all["choices"], key=mean, reverse=True)
        best = self.server.complete(STORY, n=2, best_of=6, **fields)
        self.assertEqual([c["text"] for c in best["choices"]], [c["text"] for c in ranked[:2]])
        self.assertEqual([c["index"] for c in best["choices"]], [0, 1])
        self.assertEqual([c["logprobs"] for c in best["choices"]], [None, None])
        self.assertEqual(best["usage"]["completion_tokens"], 72)

    # Stopping

    def test_stop_strings_cut_the_text_before_them(self):
        text = self.server.complete(STORY, temperature=0, max_tokens=48, ignore_eos=True)["choices"][0]["text"]
        middle = len(text) // 2
        stop = text[middle : middle + 9]
        expected = text[: text.index(stop)]
        for value in (stop, [stop], ["never written \u2603", stop]):
            for stream in (False, True):
                with self.subTest(stop=value, stream=stream):
                    fields = dict(prompt=STORY, temperature=0, max_tokens=48, ignore_eos=True, stop=value)
                    if stream:
                        run = self.server.stream(COMPLETIONS, **fields).finish()
                        last = run.chunks[-1]["choices"][0]
                        self.assertEqual(run.text(), expected)
                    else:
                        last = self.server.ask(COMPLETIONS, **fields)["choices"][0]
                        self.assertEqual(last["text"], expected)
                    self.assertEqual((last["finish_reason"], last["stop_reason"]), ("stop", stop))
        kept = self.server.complete(
            STORY, temperature=0, max_tokens=48, ignore_eos=True, stop=stop, include_stop_str_in_output=True)
        self.assertEqual(kept["choices"][0]["text"], expected + stop)

    def test_the_beginning_of_a_stop_string_that_does_not_end_is_given_out(self):
        text = self.server.complete(STORY, temperature=0, max_tokens=32, ignore_eos=True)["choices"][0]["text"]
        stops = [text[-4:] + "\u2603", text[6:20] + "\u2603"]
        run = self.server.stream(
            COMPLETIONS, prompt=STORY, temperature=0, max_tokens=32, ignore_eos=True, stop=stops).finish()
        self.assertEqual(run.text(), text)
        self.assertEqual(run.finish_reason(), "length")

    def test_stop_token_ids(self):
        first = self.server.complete(CAPITAL, temperature=0, max_tokens=1, logprobs=0)["choices"][0]
        (token,) = self.server.tokenize(first["logprobs"]["tokens"][0], add_special_tokens=False)
        document = self.server.complete(CAPITAL, temperature=0, max_tokens=9, stop_token_ids=[token])
        choice = document["choices"][0]
        self.assertEqual((choice["text"], choice["finish_reason"], choice["stop_reason"]), ("", "stop", token))
        self.assertEqual(document["usage"]["completion_tokens"], 1)

    def test_ignore_eos_generates_to_the_end(self):
        document = self.server.complete("The end.", temperature=0, max_tokens=200, ignore_eos=True)
        self.assertEqual(document["usage"]["completion_tokens"], 200)

    def test_min_tokens(self):
        short = self.server.chat("What is 2+2?", temperature=0, max_tokens=60, return_token_ids=True)
        count = short["usage"]["completion_tokens"]
        self.assertEqual(short["choices"][0]["finish_reason"], "stop")
        longer = self.server.chat(
            "What is 2+2?", temperature=0, max_tokens=60, min_tokens=count + 5, return_token_ids=True)
        self.assertGreater(longer["usage"]["completion_tokens"], count + 4)
        ids, other = (document["choices"][0]["token_ids"] for document in (short, longer))
        self.assertEqual(ids[: count - 1], other[: count - 1])
        self.assertNotIn(ids[-1], other[: count + 5])
        text = self.server.complete(STORY, temperature=0, max_tokens=32, ignore_eos=True)["choices"][0]["text"]
        letter = next(letter for letter in text if text.count(letter) > 2)
        for minimum in (0, 20):
            stopped = self.server.complete(
                STORY, temperature=0, max_tokens=32, ignore_eos=True, stop=letter, min_tokens=minimum)
            self.assertGreaterEqual(stopped["usage"]["completion_tokens"], minimum)
            self.assertTrue(text.startswith(stopped["choices"][0]["text"]))

    # Structure

    SCHEMA = {
        "type": "object", "properties": {"city": {"type": "string", "maxLength": 20}, "large": {"type": "boolean"}},
        "required": ["city", "large"], "additionalProperties": False,
    }

    def test_json_schemas_in_every_spelling(self):
        question = "Describe Paris as JSON with the fields city and large."
        for fields in (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "city", "schema": self.SCHEMA}}},
            {"response_format": {"type": "json_object", "schema": self.SCHEMA}},
            {"structured_outputs": {"json": self.SCHEMA}}, {"guided_json": self.SCHEMA},
            {"guided_json": json.dumps(self.SCHEMA)}, {"json_schema": self.SCHEMA},
        ):
            for sampling in ({"temperature": 0}, {"temperature": 1.5, "seed": 3}):
                with self.subTest(fields=fields, sampling=sampling):
                    document = self.server.chat(question, max_tokens=120, **sampling, **fields)
                    choice = document["choices"][0]
                    self.assertEqual(choice["finish_reason"], "stop", choice)
                    value = json.loads(choice["message"]["content"])
                    self.assertEqual(set(value), {"city", "large"})
                    self.assertIsInstance(value["city"], str)
                    self.assertIsInstance(value["large"], bool)

    def test_any_json_object(self):
        document = self.server.chat(
            "Answer with a small JSON object.", temperature=0, max_tokens=200, response_format={"type": "json_object"})
        choice = document["choices"][0]
        if choice["finish_reason"] == "stop":
            self.assertIsInstance(json.loads(choice["message"]["content"]), dict)
        self.assertTrue(choice["message"]["content"].lstrip().startswith("{"))

    def test_choices_expressions_and_grammars(self):
        for fields, pattern in (
            ({"guided_choice": ["red", "green", "blue"]}, "red|green|blue"),
            ({"structured_outputs": {"choice": ["up", "down"]}}, "up|down"),
            ({"guided_regex": r"[0-9]{3}-[0-9]{4}"}, r"[0-9]{3}-[0-9]{4}"),
            ({"structured_outputs": {"regex": "(yes|no), [a-z]{2,5}"}}, "(yes|no), [a-z]{2,5}"),
            ({"grammar": 'root ::= "<" [a-c]+ ">"'}, "<[a-c]+>"),
            ({"guided_grammar": 'root ::= item ("," item)* "."\nitem ::= [0-9]'}, r"[0-9](,[0-9])*\."),
        ):
            for stream in (False, True):
                with self.subTest(fields=fields, stream=stream):
                    body = dict(prompt=CAPITAL, temperature=1, seed=7, max_tokens=60, **fields)
                    if stream:
                        run = self.server.stream(COMPLETIONS, **body).finish()
                        text, finish = run.text(), run.finish_reason()
                    else:
                        choice = self.server.ask(COMPLETIONS, **body)["choices"][0]
                        text, finish = choice["text"], choice["finish_reason"]
                    if finish == "stop":
                        self.assertRegex(text, f"^(?:{pattern})$")
                    else:
                        self.assertTrue(re.match(r"[<0-9]", text), text)

    def test_structure_holds_for_every_choice_and_company(self):
        fields = dict(prompt=[CAPITAL, STORY], n=4, temperature=1, seed=5, max_tokens=8)
        free = self.server.ask(COMPLETIONS, **fields)["choices"]
        bound = self.server.ask(COMPLETIONS, **fields, guided_choice=["cat", "dog"])["choices"]
        self.assertTrue(all(choice["text"] in ("cat", "dog") for choice in bound), bound)
        self.assertEqual(free, self.server.ask(COMPLETIONS, **fields)["choices"])

    def test_structures_that_cannot_be_are_refused(self):
        for fields, name in (
            ({"guided_regex": "a("}, "guided_regex"), ({"grammar": "root ::= ("}, "grammar"),
            ({"guided_json": {"type": "no-such-type"}}, "guided_json"), ({"guided_json": "{"}, "guided_json"),
            ({"structured_outputs": {"grammar": 'other ::= "x"'}}, "structured_outputs.grammar"),
            ({"guided_regex": "a", "guided_choice": ["a"]}, "guided_choice"),
            (
                {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "#/no"}}}},
                "response_format.json_schema.schema",
            ),
        ):
            with self.subTest(fields=fields):
                answer = self.server.post(COMPLETIONS, {"prompt": CAPITAL, **fields})
                self.assertEqual(answer.status, 400, answer)
                self.assertEqual(answer.error["param"], name)

    # Token ids

    def test_token_ids_are_those_of_the_text(self):
        for fields in (dict(prompt=CAPITAL), dict(prompt=[CAPITAL, STORY], n=2, seed=3)):
            body = dict(max_tokens=10, temperature=0, ignore_eos=True, return_token_ids=True, **fields)
            whole = self.server.ask(COMPLETIONS, **body)
            prompts = body["prompt"] if isinstance(body["prompt"], list) else [body["prompt"]]
            run = self.server.stream(COMPLETIONS, **body).finish()
            for choice in whole["choices"]:
                prompt = prompts[choice["index"] * len(prompts) // len(whole["choices"])]
                self.assertEqual(choice["prompt_token_ids"], self.server.tokenize(prompt))
                self.assertEqual(len(choice["token_ids"]), 10)
                text = self.server.ask("/detokenize", tokens=choice["token_ids"])["prompt"]
                self.assertEqual(text, choice["text"])
                parts = run.choices(choice["index"])
                self.assertEqual(parts[0]["prompt_token_ids"], choice["prompt_token_ids"])
                self.assertTrue(all("prompt_token_ids" not in part for part in parts[1:]))
                streamed = [token for part in parts for token in part["token_ids"]]
                self.assertEqual(streamed, choice["token_ids"])

    def test_prompts_are_cut_from_their_beginning(self):
        ids = self.server.tokenize(STORY)
        for limit in (1, 5, len(ids), len(ids) + 5):
            document = self.server.complete(
                STORY, temperature=0, max_tokens=4, truncate_prompt_tokens=limit, return_token_ids=True)
            self.assertEqual(document["choices"][0]["prompt_token_ids"], ids[-limit:])
        limit = self.model["max_model_len"]
        document = self.server.complete([400] * (limit + 9), max_tokens=5, truncate_prompt_tokens=-1)
        self.assertEqual(document["usage"]["prompt_tokens"], limit - 5)

    # Log-probabilities

    def test_prompt_logprobs_are_those_of_echo(self):
        echoed = self.server.complete(STORY, echo=True, logprobs=3, max_tokens=1, temperature=0)["choices"][0]
        document = self.server.complete(STORY, prompt_logprobs=3, max_tokens=1, temperature=0)
        given = document["choices"][0]["prompt_logprobs"]
        ids = self.server.tokenize(STORY)
        self.assertEqual(len(given), len(ids))
        self.assertIsNone(given[0])
        for place, (entries, token) in enumerate(zip(given, ids)):
            if place == 0:
                continue
            own = entries[str(token)]
            self.assertEqual(own["logprob"], echoed["logprobs"]["token_logprobs"][place])
            self.assertEqual(set(own), {"logprob", "rank", "decoded_token"})
            ranked = sorted((e for e in entries.values() if e["rank"]), key=lambda e: e["rank"])
            self.assertEqual([e["rank"] for e in ranked[:3]], [1, 2, 3])
            # A fourth is the prompt's own token, wherever it stands.
            self.assertEqual(len(ranked), 3 if own in ranked[:3] else 4)
            values = [e["logprob"] for e in ranked]
            self.assertEqual(values, sorted(values, reverse=True))
        chat = self.server.chat("Hi", max_tokens=1, prompt_logprobs=0)
        self.assertEqual(len(chat["prompt_logprobs"]), chat["usage"]["prompt_tokens"])

    def test_echo_with_several_choices_and_ids(self):
        ids = self.server.tokenize(CAPITAL)
        document = self.server.complete(
            [ids, ids[:3]], echo=True, logprobs=1, max_tokens=0, n=2, return_token_ids=True)
        self.assertEqual([c["index"] for c in document["choices"]], [0, 1, 2, 3])
        for choice in document["choices"]:
            prompt = ids if choice["index"] < 2 else ids[:3]
            self.check_legacy(choice["logprobs"], len(prompt), 1)
            self.assertEqual((choice["prompt_token_ids"], choice["token_ids"]), (prompt, []))
            self.assertEqual(choice["finish_reason"], "length")
        self.check_usage(document["usage"], len(ids) + 3, 0)

    def check_legacy(self, logprobs, count, top):
        self.assertEqual(set(logprobs), {"tokens", "token_logprobs", "top_logprobs", "text_offset"})
        for key, values in logprobs.items():
            self.assertEqual(len(values), count, key)
        for token, own, others in zip(logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"]):
            if own is None:
                self.assertIsNone(others)
                continue
            self.assertLessEqual(own, 0)
            self.assertEqual(others[token], own, "the chosen token is not in top_logprobs with the same number")
            # Two tokens may share one text, and the chosen one may be none of the likeliest.
            self.assertLessEqual(len(others), top + 1)
            if top > 1:
                self.assertGreater(len(others), 1)
            self.assertLessEqual(sum(math.exp(value) for value in others.values()), 1.001)
        self.assertEqual(logprobs["text_offset"], sorted(logprobs["text_offset"]))

    def test_logprobs_of_generated_tokens(self):
        for top in (0, 1, 5, 20):
            with self.subTest(top=top):
                document = self.server.complete(STORY, temperature=0, max_tokens=12, logprobs=top, ignore_eos=True)
                choice = document["choices"][0]
                self.check_legacy(choice["logprobs"], 12, top)
                self.assertEqual("".join(choice["logprobs"]["tokens"]), choice["text"])
                for offset, token in zip(choice["logprobs"]["text_offset"], choice["logprobs"]["tokens"]):
                    self.assertEqual(choice["text"][offset : offset + len(token)], token)
                if top:
                    for own, others in zip(
                        choice["logprobs"]["token_logprobs"], choice["logprobs"]["top_logprobs"]
                    ):
                        self.assertEqual(own, max(others.values()), "greedy did not take the likeliest token")

    def test_logprobs_do_not_depend_on_temperature_or_company(self):
        alone = self.server.complete(CAPITAL, echo=True, max_tokens=0, logprobs=4)["choices"][0]["logprobs"]
        for temperature in (0, 2):
            batch = self.server.complete(
                [STORY, CAPITAL, prompt_of(60)], echo=True, max_tokens=0, logprobs=4, temperature=temperature)
            self.assertEqual(batch["choices"][1]["logprobs"], alone)

    def test_echo(self):
        document = self.server.complete(CAPITAL, echo=True, temperature=0, max_tokens=4)
        plain = self.server.complete(CAPITAL, temperature=0, max_tokens=4)
        self.assertEqual(document["choices"][0]["text"], CAPITAL + plain["choices"][0]["text"])
        self.assertEqual(document["usage"], plain["usage"])
        run = self.server.stream(COMPLETIONS, prompt=CAPITAL, echo=True, temperature=0, max_tokens=4).finish()
        self.assertEqual(run.text(), document["choices"][0]["text"])

    def test_echo_with_logprobs_scores_a_prompt(self):
        ids = self.server.tokenize(STORY)
        for new in (0, 1):
            with self.subTest(max_tokens=new):
                document = self.server.complete(
                    [ids, ids[:4]], echo=True, logprobs=1, max_tokens=new, temperature=0, seed=1234)
                for choice, prompt in zip(document["choices"], (ids, ids[:4])):
                    self.check_legacy(choice["logprobs"], len(prompt) + new, 1)
                    self.assertIsNone(choice["logprobs"]["token_logprobs"][0])
                    self.assertEqual(choice["logprobs"]["token_logprobs"].count(None), 1)
                    self.assertEqual("".join(choice["logprobs"]["tokens"]), choice["text"])
                self.assertTrue(document["choices"][0]["text"].startswith(STORY))
                self.check_usage(document["usage"], len(ids) + 4, 2 * new)

    def test_generated_tokens_score_the_same_when_they_are_a_prompt(self):
        generated = self.server.complete(STORY, temperature=0, max_tokens=24, logprobs=3, echo=True, ignore_eos=True)
        logprobs = generated["choices"][0]["logprobs"]
        text = generated["choices"][0]["text"]
        ids = self.server.tokenize(text)
        if len(ids) != len(logprobs["tokens"]):
            self.skipTest("the generated text has another tokenization than was generated")
        scored = self.server.complete(ids, max_tokens=0, echo=True, logprobs=3)["choices"][0]["logprobs"]
        self.assertEqual(scored["token_logprobs"], logprobs["token_logprobs"])

    def test_scores_are_those_of_the_model(self):
        if "smollm2" not in self.model["id"].lower():
            self.skipTest(f"no reference for {self.model['id']}")
        fixture = serving.ROOT / "Tests/Fixtures/reference/smollm2-135m-instruct-q4_1.hf.json"
        for case in json.loads(pathlib.Path(fixture).read_text())["cases"]:
            answer = self.server.complete(case["prompt_ids"], echo=True, logprobs=1, max_tokens=0)
            ours = answer["choices"][0]["logprobs"]["token_logprobs"]
            self.assertEqual(len(ours), len(case["prompt_logprobs"]))
            errors = [abs(a - b) for a, b in zip(ours[1:], case["prompt_logprobs"][1:])]
            # Wide enough for activations of 8 bits; the exact bounds are tested where the modes are.
            self.assertLess(sum(errors) / len(errors), 0.25, case["prompt"][:60])

    # Streaming

    def test_stream_equals_whole(self):
        for fields in (
            dict(prompt=STORY, temperature=0, max_tokens=32, ignore_eos=True),
            dict(prompt=STORY, temperature=1, seed=5, max_tokens=32, ignore_eos=True),
            dict(prompt="Write emoji: \U0001f600\U0001f389 and \u65e5\u672c\u8a9e:", temperature=0, max_tokens=32,
                 ignore_eos=True),
            dict(prompt=CAPITAL, temperature=0, max_tokens=24, logprobs=2),
        ):
            with self.subTest(fields):
                whole = self.server.ask(COMPLETIONS, **fields)["choices"][0]
                run = self.server.stream(COMPLETIONS, **fields).finish()
                self.assertEqual(run.text(), whole["text"])
                self.assertEqual(run.finish_reason(), whole["finish_reason"])
                self.assertEqual(run.chunks[-1]["choices"][0]["finish_reason"], whole["finish_reason"])
                if "logprobs" in fields:
                    for key, values in whole["logprobs"].items():
                        streamed = [v for c in run.choices() if c["logprobs"] for v in c["logprobs"][key]]
                        self.assertEqual(streamed, values, key)

    def test_stream_form(self):
        run = self.server.stream(COMPLETIONS, prompt=STORY, temperature=0, max_tokens=32, ignore_eos=True).finish()
        self.assertEqual(run.headers["Content-Type"], "text/event-stream; charset=utf-8")
        self.assertEqual(run.headers["Cache-Control"], "no-cache")
        self.assertEqual(run.headers["X-Accel-Buffering"], "no")
        self.assertGreaterEqual(len(run.chunks), 26)
        self.assertLessEqual(len(run.chunks), 33)
        for chunk in run.chunks:
            self.assertEqual(chunk["object"], "text_completion")
            self.assertEqual((chunk["id"], chunk["created"]), (run.chunks[0]["id"], run.chunks[0]["created"]))
            self.assertEqual(chunk["model"], self.model["id"])
            self.assertIsNone(chunk.get("usage"))
        for chunk in run.chunks[:-1]:
            self.assertIsNone(chunk["choices"][0]["finish_reason"])
        self.assertTrue(run.chunks[0]["id"].startswith("cmpl-"))

    def test_stream_of_several_choices(self):
        fields = dict(prompt=[CAPITAL, STORY], n=2, seed=9, temperature=1, max_tokens=12, ignore_eos=True)
        whole = self.server.ask(COMPLETIONS, **fields)
        run = self.server.stream(COMPLETIONS, **fields, stream_options={"include_usage": True}).finish()
        for choice in whole["choices"]:
            self.assertEqual(run.text(choice["index"]), choice["text"])
            self.assertEqual(run.finish_reason(choice["index"]), choice["finish_reason"])
        self.assertEqual(run.chunks[-1]["usage"]["completion_tokens"], 48)

    def test_stream_usage(self):
        count = len(self.server.tokenize(STORY))
        fields = dict(prompt=STORY, temperature=0, max_tokens=10, ignore_eos=True)
        run = self.server.stream(COMPLETIONS, **fields, stream_options={"include_usage": True}).finish()
        for chunk in run.chunks[:-1]:
            self.assertTrue(chunk["choices"])
            self.assertIsNone(chunk["usage"])
        self.assertEqual(run.chunks[-1]["choices"], [])
        self.check_usage(run.chunks[-1]["usage"], count, 10)
        options = {"include_usage": True, "continuous_usage_stats": True}
        run = self.server.stream(COMPLETIONS, **fields, stream_options=options).finish()
        counts = [chunk["usage"]["completion_tokens"] for chunk in run.chunks]
        self.assertEqual(counts, sorted(counts))
        self.assertEqual((counts[0] > 0, counts[-1]), (True, 10))

    def test_first_token_comes_before_the_last(self):
        """A stream that is read slowly still comes in pieces: nothing is gathered up to the end."""
        run = self.server.stream(COMPLETIONS, prompt=STORY, temperature=0, max_tokens=400, ignore_eos=True)
        run.read(1)
        self.assertGreaterEqual(self.server.in_flight()[0], 1)
        run.finish()


class ChatTests(ServerTestCase):
    QUESTION = [{"role": "user", "content": "What is the capital of France? Answer with one word."}]

    def test_shape(self):
        document = self.server.chat(self.QUESTION, temperature=0, max_tokens=24, model=self.model["id"])
        self.assertEqual(set(document), {"id", "object", "created", "model", "choices", "usage"})
        self.assertTrue(document["id"].startswith("chatcmpl-"))
        self.assertEqual(document["object"], "chat.completion")
        (choice,) = document["choices"]
        self.assertEqual(choice["message"]["role"], "assistant")
        self.assertIn("Paris", choice["message"]["content"])
        self.assertIn(choice["finish_reason"], ("stop", "length"))
        self.assertIsNone(choice["logprobs"])
        self.assertEqual(set(document["usage"]), USAGE)

    def test_prompt_tokens_are_those_of_tokenize(self):
        conversations = [
            self.QUESTION,
            [{"role": "system", "content": "You are terse."}] + self.QUESTION,
            self.QUESTION + [{"role": "assistant", "content": "Paris."}, {"role": "user", "content": "And of Italy?"}],
        ]
        for messages in conversations:
            count = self.server.ask("/tokenize", messages=messages)["count"]
            self.assertEqual(self.server.chat(messages, max_tokens=1)["usage"]["prompt_tokens"], count)

    def test_roles_and_content_parts(self):
        def run(messages):
            document = self.server.chat(messages, temperature=0, max_tokens=12)
            return document["choices"], document["usage"]["prompt_tokens"]

        question = self.QUESTION[0]["content"]
        system = {"role": "system", "content": "You are a pirate."}
        self.assertEqual(run([system] + self.QUESTION), run([{**system, "role": "developer"}] + self.QUESTION))
        parts = [{"role": "user", "content": [{"type": "text", "text": question}]}]
        self.assertEqual(run(self.QUESTION), run(parts))
        self.assertNotEqual(run([system] + self.QUESTION)[1], run(self.QUESTION)[1])
        run(self.QUESTION + [{"role": "assistant", "content": None}, {"role": "user", "content": "Well?"}])

    def test_length_limits(self):
        for fields in ({"max_tokens": 5}, {"max_completion_tokens": 5}, {"max_completion_tokens": 5, "max_tokens": 9}):
            document = self.server.chat("Tell me a long story.", temperature=0, ignore_eos=True, **fields)
            self.assertEqual(document["usage"]["completion_tokens"], 5, fields)
            self.assertEqual(document["choices"][0]["finish_reason"], "length")

    def test_the_default_length_is_more_than_that_of_completions(self):
        run = self.server.stream(CHAT, messages=self.QUESTION, temperature=0, ignore_eos=True)
        run.read(60).abort()
        self.server.wait_idle()

    def test_end_of_turn_stops_and_is_not_shown(self):
        document = self.server.chat("Say: yes", temperature=0, max_tokens=1000)
        choice = document["choices"][0]
        self.assertEqual(choice["finish_reason"], "stop")
        self.assertNotIn("<|im_end|>", choice["message"]["content"])

    def test_stream(self):
        fields = dict(messages=self.QUESTION, temperature=0, max_tokens=32, ignore_eos=True)
        whole = self.server.ask(CHAT, **fields)
        run = self.server.stream(CHAT, **fields, stream_options={"include_usage": True}).finish()
        self.assertEqual(run.headers["Content-Type"], "text/event-stream; charset=utf-8")
        self.assertEqual(run.text(), whole["choices"][0]["message"]["content"])
        first, *content, last, usage = run.chunks
        self.assertEqual(first["choices"][0]["delta"]["role"], "assistant")
        self.assertFalse(first["choices"][0]["delta"].get("content"))
        for chunk in content:
            self.assertEqual(set(chunk["choices"][0]["delta"]), {"content"})
            self.assertIsNone(chunk["choices"][0]["finish_reason"])
        self.assertEqual(last["choices"][0]["delta"], {})
        self.assertEqual(last["choices"][0]["finish_reason"], whole["choices"][0]["finish_reason"])
        # The second run finds more of the prompt in the prefix cache, so that one field may differ.
        for document in (usage, whole):
            document["usage"].pop("prompt_tokens_details")
        self.assertEqual((usage["choices"], usage["usage"]), ([], whole["usage"]))
        self.assertGreaterEqual(len(content), 26)
        self.assertEqual({chunk["id"] for chunk in run.chunks}, {first["id"]})
        self.assertEqual({chunk["object"] for chunk in run.chunks}, {"chat.completion.chunk"})

    def test_stream_without_usage_has_none(self):
        run = self.server.stream(CHAT, messages=self.QUESTION, temperature=0, max_tokens=4).finish()
        self.assertTrue(all(chunk.get("usage") is None and chunk["choices"] for chunk in run.chunks))

    def test_n_and_seed(self):
        fields = dict(messages=[{"role": "user", "content": "Name an animal."}], n=3, seed=2, max_tokens=12)
        first, again = self.server.ask(CHAT, **fields), self.server.ask(CHAT, **fields)
        self.assertEqual(first["choices"], again["choices"])
        self.assertEqual([choice["index"] for choice in first["choices"]], [0, 1, 2])
        run = self.server.stream(CHAT, **fields).finish()
        for choice in first["choices"]:
            self.assertEqual(run.text(choice["index"]), choice["message"]["content"])
            roles = [c["delta"]["role"] for c in run.choices(choice["index"]) if "role" in c["delta"]]
            self.assertEqual(roles, ["assistant"])

    def test_logprobs(self):
        fields = dict(
            messages=self.QUESTION, temperature=0, max_tokens=10, logprobs=True, top_logprobs=3, ignore_eos=True,
            skip_special_tokens=False)
        whole = self.server.ask(CHAT, **fields)["choices"][0]
        content = whole["logprobs"]["content"]
        self.assertEqual(len(content), 10)
        for entry in content:
            self.assertEqual(set(entry), {"token", "logprob", "bytes", "top_logprobs"})
            self.assertEqual(len(entry["top_logprobs"]), 3)
            best = entry["top_logprobs"][0]
            self.assertEqual((best["token"], best["logprob"]), (entry["token"], entry["logprob"]))
            values = [other["logprob"] for other in entry["top_logprobs"]]
            self.assertEqual(values, sorted(values, reverse=True))
        joined = bytes(byte for entry in content for byte in entry["bytes"])
        self.assertEqual(joined.decode(), whole["message"]["content"])
        run = self.server.stream(CHAT, **fields).finish()
        streamed = [e for c in run.choices() if c.get("logprobs") for e in c["logprobs"]["content"]]
        self.assertEqual(streamed, content)
        bare = self.server.ask(CHAT, **{**fields, "top_logprobs": None})["choices"][0]["logprobs"]["content"]
        self.assertEqual([entry["top_logprobs"] for entry in bare], [[]] * 10)

    def test_stop(self):
        text = self.server.chat(self.QUESTION, temperature=0, max_tokens=24)["choices"][0]["message"]["content"]
        stop = text[8:14]
        choice = self.server.chat(self.QUESTION, temperature=0, max_tokens=24, stop=[stop])["choices"][0]
        self.assertEqual(choice["message"]["content"], text[: text.index(stop)])
        self.assertEqual(choice["finish_reason"], "stop")

    def test_features_that_are_not_here_are_refused_by_name(self):
        refused = {
            "audio": {"voice": "x"}, "modalities": ["text", "audio"],
            "prediction": {"type": "content", "content": "x"},
        }
        for field, value in refused.items():
            with self.subTest(field=field):
                answer = self.server.post(CHAT, {"messages": self.QUESTION, "max_tokens": 1, field: value})
                self.assertEqual(answer.status, 400, answer)
                self.assertEqual(answer.error["param"], field)
        self.server.chat(
            self.QUESTION, max_tokens=1, tools=[], tool_choice="auto", response_format={"type": "text"},
            modalities=["text"], parallel_tool_calls=True, chat_template_kwargs={})

    def test_token_ids(self):
        fields = dict(messages=self.QUESTION, temperature=0, max_tokens=24, return_token_ids=True)
        whole = self.server.ask(CHAT, **fields)
        prompt = self.server.ask("/tokenize", messages=self.QUESTION)["tokens"]
        self.assertEqual(whole["prompt_token_ids"], prompt)
        ids = whole["choices"][0]["token_ids"]
        self.assertEqual(len(ids), whole["usage"]["completion_tokens"])
        run = self.server.stream(CHAT, **fields).finish()
        self.assertEqual(run.chunks[0]["prompt_token_ids"], prompt)
        self.assertTrue(all("prompt_token_ids" not in chunk for chunk in run.chunks[1:]))
        self.assertEqual([t for c in run.choices() for t in c.get("token_ids", [])], ids)

    def test_penalties_and_biases(self):
        fields = dict(messages="Name an animal.", temperature=0, max_tokens=8, return_token_ids=True)
        first = self.server.chat(**fields)["choices"][0]["token_ids"][0]
        other = self.server.chat(**fields, logit_bias={str(first): -100}, presence_penalty=1, frequency_penalty=-1)
        self.assertNotEqual(other["choices"][0]["token_ids"][0], first)

    def test_images_are_refused(self):
        parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
        answer = self.server.post(CHAT, {"messages": [{"role": "user", "content": parts}]})
        self.assertEqual(answer.status, 400, answer)
        self.assertIn("image_url", answer.error["message"])


def vector(entry):
    """The numbers of an embedding in either encoding."""
    if isinstance(entry["embedding"], str):
        data = base64.b64decode(entry["embedding"], validate=True)
        return list(struct.unpack(f"<{len(data) // 4}f", data))
    # As floats of 32 bits, which is what the texts of numbers stand for.
    return [struct.unpack("<f", struct.pack("<f", number))[0] for number in entry["embedding"]]


def cosine(left, right):
    product = sum(a * b for a, b in zip(left, right))
    return product / math.sqrt(sum(a * a for a in left) * sum(b * b for b in right))


class ScoringTests(ServerTestCase):
    """Endpoints that generate nothing."""

    TEXTS = ["The cat sat on the mat.", "A kitten rests on a rug.", "Quarterly revenue rose by four percent."]

    def embed(self, input, **fields):
        document = self.server.ask("/v1/embeddings", input=input, **fields)
        self.assertEqual(set(document), {"object", "data", "model", "usage"})
        self.assertEqual([entry["index"] for entry in document["data"]], list(range(len(document["data"]))))
        self.assertTrue(all(entry["object"] == "embedding" for entry in document["data"]))
        return [vector(entry) for entry in document["data"]]

    def test_embeddings(self):
        vectors = self.embed(self.TEXTS)
        self.assertEqual(len(vectors), 3)
        for text, one in zip(self.TEXTS, vectors):
            self.assertAlmostEqual(sum(x * x for x in one), 1, places=4)
            self.assertEqual(self.embed(text), [one], "a vector depends on its company")
            self.assertEqual(self.embed(self.server.tokenize(text)), [one])
        self.assertEqual(self.embed(self.TEXTS, encoding_format="base64"), vectors)
        self.assertEqual(vector(self.server.ask("/embeddings", input=self.TEXTS[0])["data"][0]), vectors[0])
        ids = [self.server.tokenize(text) for text in self.TEXTS]
        document = self.server.ask("/v1/embeddings", input=ids)
        self.assertEqual([vector(entry) for entry in document["data"]], vectors)
        count = sum(len(i) for i in ids)
        self.assertEqual(document["usage"], {"prompt_tokens": count, "total_tokens": count})

    def test_embeddings_pooled_and_cut(self):
        for pooling in ("last", "mean"):
            vectors = self.embed(self.TEXTS, pooling=pooling)
            near, far = cosine(vectors[0], vectors[1]), cosine(vectors[0], vectors[2])
            self.assertGreater(near, far, pooling)
        self.assertEqual(self.embed(self.TEXTS, pooling="last"), self.embed(self.TEXTS))
        raw = self.embed(self.TEXTS[0], normalize=False)[0]
        cut = self.embed(self.TEXTS[0], dimensions=16)[0]
        length = math.sqrt(sum(x * x for x in raw[:16]))
        for value, expected in zip(cut, raw):
            self.assertAlmostEqual(value, expected / length, places=4)
        answer = self.server.post("/v1/embeddings", {"input": "x", "dimensions": len(raw) + 1})
        self.assertEqual((answer.status, answer.error["param"]), (400, "dimensions"))

    def test_many_embeddings_at_once(self):
        inputs = [f"Sentence number {index} of many." for index in range(300)]
        vectors = self.embed(inputs)
        for index in (0, 77, 299):
            self.assertEqual(self.embed(inputs[index])[0], vectors[index])
        self.server.wait_idle()

    def test_labels_have_the_probabilities_of_completions(self):
        ids = self.server.tokenize(" Paris", add_special_tokens=False) + self.server.tokenize(
            " London", add_special_tokens=False)
        items = [" The capital of France is", " The capital of England is"]
        document = self.server.ask("/v1/score", query="Geography.", items=items, label_token_ids=ids)
        self.assertEqual(document["object"], "scoring")
        for item, scores in zip(items, document["scores"]):
            top = self.server.complete(
                "Geography." + item, temperature=0, max_tokens=1, logprobs=20, return_token_ids=True)["choices"][0]
            likely = {
                name: math.exp(value) for name, value in top["logprobs"]["top_logprobs"][0].items()}
            for token, score in zip(ids, scores):
                name = self.server.ask("/detokenize", tokens=[token])["prompt"]
                if name in likely:
                    self.assertAlmostEqual(score, likely[name], places=5)
        normal = self.server.ask(
            "/score", query="Geography.", items=items, label_token_ids=ids, apply_softmax=True)["scores"]
        for scores in normal:
            self.assertAlmostEqual(sum(scores), 1, places=9)
        self.assertGreater(normal[0][0], normal[0][1])

    def test_pairs(self):
        query, documents = self.TEXTS[0], self.TEXTS[1:]
        for fields in ({}, {"method": "judge"}, {"method": "cosine"}, {"method": "cosine", "pooling": "mean"}):
            with self.subTest(fields):
                document = self.server.ask("/score", text_1=query, text_2=documents, **fields)
                self.assertEqual(set(document), {"id", "object", "created", "model", "data", "usage"})
                scores = [entry["score"] for entry in document["data"]]
                self.assertEqual([entry["index"] for entry in document["data"]], [0, 1])
                same = self.server.ask("/v1/score", queries=[query] * 2, documents=documents, **fields)
                self.assertEqual([entry["score"] for entry in same["data"]], scores)
                if fields.get("method") != "cosine":
                    self.assertTrue(all(0 <= score <= 1 for score in scores))
        vectors = self.embed(self.TEXTS)
        cosines = self.server.ask("/score", text_1=query, text_2=documents, method="cosine")["data"]
        for entry, other in zip(cosines, vectors[1:]):
            self.assertAlmostEqual(entry["score"], cosine(vectors[0], other), places=4)

    def test_rerank(self):
        documents = [self.TEXTS[2], {"text": self.TEXTS[1]}, "Paris is the capital of France."]
        for path in ("/rerank", "/v1/rerank", "/v2/rerank"):
            document = self.server.ask(path, query="Which animal is sleeping?", documents=documents)
            results = document["results"]
            self.assertEqual(sorted(result["index"] for result in results), [0, 1, 2])
            scores = [result["relevance_score"] for result in results]
            self.assertEqual(scores, sorted(scores, reverse=True))
            for result in results:
                given = documents[result["index"]]
                self.assertEqual(result["document"]["text"], given["text"] if isinstance(given, dict) else given)
        top = self.server.ask(
            "/rerank", query="Which animal is sleeping?", documents=documents, top_n=1, return_documents=False)
        self.assertEqual(len(top["results"]), 1)
        self.assertEqual(set(top["results"][0]), {"index", "relevance_score"})
        self.assertEqual(top["results"][0]["relevance_score"], scores[0])

    def test_the_query_is_computed_once(self):
        query = " ".join(f"topic{index}" for index in range(120))
        # A prefix is kept once two prompts had it, on each of the engines.
        self.server.ask("/rerank", query=query, documents=[f"first {index}" for index in range(8)])
        document = self.server.ask("/rerank", query=query, documents=[f"second {index}" for index in range(8)])
        usage = document["usage"]
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        # The documents and what follows them are not cached, nor is the template's part twice.
        self.assertGreater(cached, usage["prompt_tokens"] / 3)

    def test_classify(self):
        document = self.server.ask(
            "/classify", input=["I love this film!", "What a waste of time."], labels=["positive", "negative"])
        self.assertEqual(document["labels"], ["positive", "negative"])
        for index, entry in enumerate(document["data"]):
            self.assertEqual(set(entry), {"index", "label", "probs", "num_classes"})
            self.assertEqual((entry["index"], entry["num_classes"]), (index, 2))
            self.assertAlmostEqual(sum(entry["probs"]), 1, places=9)
            self.assertEqual(entry["label"], document["labels"][entry["probs"].index(max(entry["probs"]))])
        first, second = (entry["probs"][0] for entry in document["data"])
        self.assertGreater(first, second, "praise is less positive than blame")
        answer = self.server.post("/v1/classify", {"input": "x", "labels": ["same", "same"]})
        self.assertEqual((answer.status, answer.error["param"]), (400, "labels"))
        self.assertIn("same", answer.error["message"])

    def test_a_client_that_leaves_costs_nothing(self):
        body = json.dumps({"input": [prompt_of(400)] * 200}).encode()
        with self.server.connect() as sock:
            sock.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            serving.wait_until(lambda: self.server.in_flight()[1] > 0, 20, "nothing is computed")
        self.server.wait_idle()

    def test_an_engine_may_die(self):
        body = {"input": [f"{prompt_of(150)} {index}" for index in range(120)]}
        expected = self.server.post("/v1/embeddings", body).json["data"]
        self.server.wait_for_all_engines()
        answers = []
        thread = threading.Thread(target=lambda: answers.append(self.server.post("/v1/embeddings", body)))
        thread.start()
        serving.wait_until(lambda: self.server.in_flight()[1] > 0 or not thread.is_alive(), 20, "nothing is computed")
        self.server.kill(self.server.engine(0))
        thread.join(120 * serving.PATIENCE)
        self.assertEqual(answers[0].status, 200, answers[0])
        self.assertEqual(answers[0].json["data"], expected)
        self.server.wait_for_all_engines()


class InformationTests(ServerTestCase):
    def test_tokenizer_info(self):
        info = self.server.get("/tokenizer_info").json
        for name in ("tokenizer_class", "eos_token", "bos_token", "pad_token", "chat_template"):
            self.assertIn(name, info)
        (eos,) = self.server.tokenize(info["eos_token"], add_special_tokens=False)
        self.assertEqual(self.server.ask("/detokenize", tokens=[eos])["prompt"], info["eos_token"])
        self.assertIn("messages", info["chat_template"])

    def test_load(self):
        self.server.wait_idle()
        self.assertEqual(self.server.get("/load").json, {"server_load": 0})
        run = self.server.stream(COMPLETIONS, prompt=STORY, max_tokens=300, ignore_eos=True).read(1)
        self.assertEqual(self.server.get("/load").json, {"server_load": 1})
        run.finish()
        serving.wait_until(
            lambda: self.server.get("/load").json == {"server_load": 0}, 10, "a finished request still counts")

    def test_filling_in_the_middle_needs_a_model_for_it(self):
        answer = self.server.post(COMPLETIONS, {"prompt": "def add(a, b):\n    return ", "suffix": "\n", "max_tokens": 8})
        if answer.status == 200:
            self.assertTrue(answer.json["choices"][0]["text"])
        else:
            self.assertEqual((answer.status, answer.error["param"]), (400, "suffix"))

    def test_models(self):
        document = self.server.get("/v1/models").json
        self.assertEqual(document["object"], "list")
        for model in document["data"]:
            self.assertEqual(model["object"], "model")
            self.assertGreater(model["max_model_len"], 1024)
            self.assertEqual(self.server.get(f"/v1/models/{model['id']}").json, model)

    def test_unknown_model(self):
        for answer in (
            self.server.get("/v1/models/no-such-model"),
            self.server.post(COMPLETIONS, {"model": "no-such-model", "prompt": "x"}),
            self.server.post(CHAT, {"model": "no-such-model", "messages": [{"role": "user", "content": "x"}]}),
        ):
            self.assertEqual(answer.status, 404)
            self.assertEqual((answer.error["code"], answer.error["param"]), ("model_not_found", "model"))
            self.assertIn(self.model["id"], answer.error["message"])

    def test_probes(self):
        for path in ("/health", "/live", "/ping", "/version"):
            answer = self.server.get(path)
            self.assertEqual(answer.status, 200, path)
            head = self.server.request("HEAD", path)
            self.assertEqual((head.status, head.body), (200, b""), path)
            self.assertEqual(head.headers["Content-Length"], str(len(answer.body)), path)
        self.assertRegex(self.server.get("/version").json["version"], r"^\d+\.\d+")

    def test_metrics(self):
        head = self.server.request("HEAD", "/metrics")
        self.assertEqual((head.status, head.body), (200, b""))
        answer = self.server.get("/metrics")
        self.assertTrue(answer.headers["Content-Type"].startswith("text/plain; version=0.0.4"))
        before = self.server.metrics()
        for name, kind in {
            "vllm:num_requests_running": "gauge", "vllm:num_requests_waiting": "gauge",
            "vllm:kv_cache_usage_perc": "gauge", "vllm:cache_config_info": "gauge",
            "vllm:prompt_tokens_total": "counter", "vllm:generation_tokens_total": "counter",
            "vllm:request_success_total": "counter", "vllm:num_preemptions_total": "counter",
            "vllm:time_to_first_token_seconds": "histogram", "vllm:inter_token_latency_seconds": "histogram",
            "vllm:e2e_request_latency_seconds": "histogram", "process_resident_memory_bytes": "gauge",
            "tandem_engine_restarts_total": "counter", "tandem_engine_host_seconds_total": "counter",
            "tandem_engine_device_seconds_total": "counter", "tandem_engine_gap_seconds_total": "counter",
            "tandem_engine_idle_seconds_total": "counter", "tandem_engine_component_seconds_total": "counter",
            "tandem_gateway_host_seconds_total": "counter", "tandem_engines_serving": "gauge",
            "vllm:prefix_cache_queries_total": "counter", "vllm:prefix_cache_hits_total": "counter",
        }.items():
            self.assertEqual(before.kinds.get(name), kind, name)
        self.assertEqual(len(before.all("vllm:num_requests_running", model_name=self.model["id"])), 2)
        ids = self.server.tokenize(STORY)
        self.server.complete(ids, n=2, seed=1, max_tokens=10, ignore_eos=True)
        after = self.server.metrics()

        def moved(name, **labels):
            return after.total(name, **labels) - before.total(name, **labels)

        self.assertEqual(moved("vllm:prompt_tokens_total"), len(ids))
        self.assertEqual(moved("vllm:generation_tokens_total"), 20)
        self.assertEqual(moved("vllm:request_success_total", finished_reason="length"), 2)
        self.assertEqual(moved("vllm:time_to_first_token_seconds_count"), 2)
        self.assertEqual(moved("vllm:inter_token_latency_seconds_count"), 18)
        self.assertEqual(moved("vllm:e2e_request_latency_seconds_count"), 1)
        self.assertEqual(moved("vllm:e2e_request_latency_seconds_bucket", le="+Inf"), 1)
        for phase in ("tokenize", "detokenize", "write"):
            self.assertGreater(after.total("tandem_gateway_host_seconds_total", phase=phase), 0, phase)

    def test_engines_say_where_their_time_went(self):
        before = self.server.metrics()
        self.server.complete(STORY, max_tokens=20, ignore_eos=True)

        def moved(name, **labels):
            return self.server.metrics().total(name, **labels) - before.total(name, **labels)

        # The last statistics come when the engine falls idle.
        serving.wait_until(
            lambda: moved("tandem_engine_generated_tokens_total") == 20, 10, "an engine does not report its tokens")
        for phase in ("schedule", "prepare", "sample", "report"):
            self.assertGreater(moved("tandem_engine_host_seconds_total", phase=phase), 0, phase)
        self.assertEqual(moved("tandem_engine_host_seconds_total", phase="stall"), 0)
        for component in ("attention", "mlp", "rest"):
            self.assertGreater(moved("tandem_engine_component_seconds_total", component=component), 0, component)
        inside = moved("tandem_engine_component_seconds_total")
        self.assertGreater(moved("tandem_engine_device_seconds_total"), inside * 0.9)

    def test_in_flight_gauges_rise_and_fall(self):
        runs = [
            self.server.stream(COMPLETIONS, prompt=STORY, max_tokens=600, ignore_eos=True, seed=i) for i in range(4)
        ]
        for run in runs:
            run.read(1)
        serving.wait_until(
            lambda: self.server.in_flight()[1] >= 2, 20,
            lambda: f"running requests do not show in the metrics: {self.server.in_flight()}")
        usage = self.server.metrics().all("vllm:kv_cache_usage_perc")
        self.assertTrue(all(0 <= value <= 1 for value in usage.values()))
        for run in runs:
            run.finish()
        self.server.wait_idle()
        serving.wait_until(
            lambda: self.server.metrics().total("vllm:kv_cache_usage_perc") <= 0.5, 10, "KV blocks are not freed")

    # Tokens

    def test_tokenize_and_back(self):
        for text in (
            "Hello, world!", "  spaces\n\n\ttabs ", "123456 7.89", "\u65e5\u672c\u8a9e \U0001f600 e\u0301", "a" * 5000,
            "<|im_start|>user\nhi<|im_end|>", "\u0000\u0001",
        ):
            with self.subTest(text[:20]):
                answer = self.server.ask("/tokenize", prompt=text, return_token_strs=True)
                self.assertEqual(answer["count"], len(answer["tokens"]))
                self.assertEqual(len(answer["token_strs"]), answer["count"])
                self.assertEqual(answer["max_model_len"], self.model["max_model_len"])
                back = self.server.ask("/detokenize", tokens=answer["tokens"])
                self.assertEqual(back, {"prompt": text})
        self.assertEqual(self.server.ask("/tokenize", prompt="")["count"], 0)
        self.assertEqual(self.server.ask("/detokenize", tokens=[]), {"prompt": ""})

    def test_tokenize_a_conversation(self):
        messages = [{"role": "user", "content": "hi"}]
        full = self.server.ask("/tokenize", messages=messages)["tokens"]
        bare = self.server.ask("/tokenize", messages=messages, add_generation_prompt=False)["tokens"]
        self.assertEqual(full[: len(bare)], bare)
        self.assertGreater(len(full), len(bare))
        text = self.server.ask("/detokenize", tokens=full)["prompt"]
        completion = self.server.complete(full, temperature=0, max_tokens=8)["choices"][0]["text"]
        chat = self.server.chat(messages, temperature=0, max_tokens=8)["choices"][0]["message"]["content"]
        self.assertEqual(completion, chat, text)


class TransportTests(ServerTestCase):
    BODY = json.dumps({"prompt": CAPITAL, "max_tokens": 4, "temperature": 0}).encode()

    def head(self, *fields, path=COMPLETIONS):
        return "\r\n".join([f"POST {path} HTTP/1.1", "Host: localhost", *fields, "", ""]).encode()

    def expected(self):
        return self.server.post(COMPLETIONS, self.BODY).json["choices"]

    def test_request_ids(self):
        answer = self.server.post(COMPLETIONS, self.BODY, headers={"X-Request-Id": "my-id_42"})
        self.assertEqual(answer.headers["X-Request-Id"], "my-id_42")
        self.assertEqual(answer.json["id"], "cmpl-my-id_42")
        run = self.server.stream(
            CHAT, headers={"X-Request-Id": "other"}, messages=[{"role": "user", "content": "x"}], max_tokens=2).finish()
        self.assertEqual(run.headers["X-Request-Id"], "other")
        self.assertEqual({chunk["id"] for chunk in run.chunks}, {"chatcmpl-other"})
        refused = self.server.post(COMPLETIONS, b"{", headers={"X-Request-Id": "third"})
        self.assertEqual((refused.status, refused.headers["X-Request-Id"]), (400, "third"))
        first, second = (self.server.post(COMPLETIONS, self.BODY) for _ in range(2))
        self.assertEqual(first.json["id"], "cmpl-" + first.headers["X-Request-Id"])
        self.assertNotEqual(first.json["id"], second.json["id"])

    def test_expect_continue(self):
        with self.server.connect() as sock:
            sock.sendall(self.head(f"Content-Length: {len(self.BODY)}", "Expect: 100-continue"))
            interim = b""
            while not interim.endswith(b"\r\n\r\n"):
                piece = sock.recv(1)
                self.assertTrue(piece, interim)
                interim += piece
            self.assertEqual(interim, b"HTTP/1.1 100 Continue\r\n\r\n")
            sock.sendall(self.BODY)
            self.assertEqual(read_answer(sock, 60).json["choices"], self.expected())

    def test_chunked_request_body(self):
        for size in (1, 7, 10_000):
            with self.server.connect() as sock:
                sock.sendall(self.head("Transfer-Encoding: chunked"))
                for start in range(0, len(self.BODY), size):
                    piece = self.BODY[start : start + size]
                    sock.sendall(b"%x;note=1\r\n%s\r\n" % (len(piece), piece))
                sock.sendall(b"0\r\nTrailer: x\r\n\r\n")
                self.assertEqual(read_answer(sock, 60).json["choices"], self.expected())

    def test_keep_alive_and_pipelining(self):
        with self.server.connect() as sock:
            request = self.head(f"Content-Length: {len(self.BODY)}") + self.BODY
            for _ in range(3):
                sock.sendall(request)
                self.assertEqual(read_answer(sock, 60).json["choices"], self.expected())
            sock.sendall(request + request)
            data = b""
            while data.count(b'"total_tokens"') < 2:
                piece = sock.recv(65536)
                self.assertTrue(piece, "the connection ended between pipelined requests")
                data += piece
            self.assertEqual(data.count(b"HTTP/1.1 200 OK\r\n"), 2)

    def test_keep_alive_after_a_stream_and_after_an_error(self):
        with self.server.connect() as sock:
            body = json.dumps({"prompt": CAPITAL, "max_tokens": 3, "stream": True}).encode()
            sock.sendall(self.head(f"Content-Length: {len(body)}") + body)
            self.assertIn(b"data: [DONE]", read_answer(sock, 60).body)
            sock.sendall(self.head("Content-Length: 1") + b"{")
            self.assertEqual(read_answer(sock).status, 400)
            sock.sendall(self.head(f"Content-Length: {len(self.BODY)}") + self.BODY)
            self.assertEqual(read_answer(sock, 60).status, 200)

    def test_connection_close(self):
        with self.server.connect() as sock:
            sock.sendall(self.head("Connection: close", f"Content-Length: {len(self.BODY)}") + self.BODY)
            data = serving.read_raw(sock, 60)
            self.assertTrue(data.startswith(b"HTTP/1.1 200 OK\r\n"))
            self.assertIn(b"connection: close", data.lower())

    def test_http_1_0(self):
        with self.server.connect() as sock:
            sock.sendall(b"GET /health HTTP/1.0\r\n\r\n")
            self.assertTrue(serving.read_raw(sock).startswith(b"HTTP/1.1 200 OK\r\n"))
        with self.server.connect() as sock:
            body = json.dumps({"prompt": CAPITAL, "max_tokens": 3, "stream": True}).encode()
            sock.sendall(b"POST /v1/completions HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            data = serving.read_raw(sock, 60)
            self.assertNotIn(b"chunked", data.lower())
            self.assertTrue(data.endswith(b"data: [DONE]\n\n"), data[-200:])

    def test_content_types(self):
        for kind in (None, "text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-8"):
            answer = self.server.post(COMPLETIONS, self.BODY, headers={"Content-Type": kind})
            self.assertEqual(answer.json["choices"], self.expected(), kind)

    def test_body_in_pieces(self):
        with self.server.connect() as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in self.head(f"Content-Length: {len(self.BODY)}") + self.BODY:
                sock.sendall(bytes([byte]))
            self.assertEqual(read_answer(sock, 60).json["choices"], self.expected())

    def test_any_key_is_taken_when_none_is_set(self):
        answer = self.server.post(COMPLETIONS, self.BODY, headers={"Authorization": "Bearer DUMMY_KEY"})
        self.assertEqual(answer.status, 200)

    def test_query_is_ignored(self):
        self.assertEqual(self.server.get("/health?verbose=1").status, 200)

    def test_text_of_any_kind(self):
        for text in ("\u0000\u0001\u0007", "\ufffd\u200b\u202e", "\U0010ffff", "\r\n" * 20, "\u0645\u0631\u062d\u0628\u0627"):
            document = self.server.complete(text, max_tokens=3)
            self.assertEqual(document["usage"]["prompt_tokens"], len(self.server.tokenize(text)))


class KeyTests(unittest.TestCase):
    def test_a_key_is_demanded_where_one_is_set(self):
        server = serving.Server(engines=1, environment={"TANDEM_API_KEY": "open-sesame"})
        self.addCleanup(server.discard)
        server.start()
        body = {"prompt": CAPITAL, "max_tokens": 1}
        for header in (None, "Bearer wrong", "Bearer", "open-sesame", "Basic open-sesame", "Bearer open-sesame2"):
            answer = server.post(COMPLETIONS, body, headers={"Authorization": header})
            self.assertEqual(answer.status, 401, header)
            self.assertEqual(answer.error["code"], "invalid_api_key")
            self.assertEqual(server.get("/v1/models", headers={"Authorization": header}).status, 401)
        for header in ("Bearer open-sesame", "bearer open-sesame"):
            self.assertEqual(server.post(COMPLETIONS, body, headers={"Authorization": header}).status, 200)
        for path in ("/health", "/live", "/ping", "/version", "/metrics"):
            self.assertEqual(server.get(path).status, 200, "probes and scrapers need no key")
        for process in server.processes():
            self.assertNotIn("open-sesame", " ".join(process.arguments), "the key is on a command line")
        self.assertNotIn("open-sesame", server.output())
        server.stop()


if __name__ == "__main__":
    unittest.main()
