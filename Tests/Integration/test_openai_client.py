"""The official client, unmodified, on every endpoint it has a method for."""
import openai
from openai import OpenAI

from serving import HOST, ServerTestCase

QUESTION = [{"role": "user", "content": "What is the capital of France? Answer with one word."}]


class ClientTests(ServerTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.client = OpenAI(
            base_url=f"http://{HOST}:{cls.server.port}/v1", api_key="any", max_retries=0, timeout=120)
        cls.name = cls.model["id"]

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        super().tearDownClass()

    def test_models(self):
        names = [model.id for model in self.client.models.list()]
        self.assertIn(self.name, names)
        model = self.client.models.retrieve(self.name)
        self.assertEqual((model.id, model.object), (self.name, "model"))

    def test_completion(self):
        answer = self.client.completions.create(
            model=self.name, prompt="The capital of France is", max_tokens=8, temperature=0, logprobs=2)
        choice = answer.choices[0]
        self.assertIn("Paris", choice.text)
        self.assertEqual(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens)
        self.assertEqual(len(choice.logprobs.tokens), answer.usage.completion_tokens)
        for token, own, top in zip(
            choice.logprobs.tokens, choice.logprobs.token_logprobs, choice.logprobs.top_logprobs
        ):
            self.assertEqual(top[token], own)

    def test_completion_stream(self):
        fields = dict(model=self.name, prompt="The capital of France is", max_tokens=24, temperature=0)
        whole = self.client.completions.create(**fields)
        text, finish, usage = "", None, None
        with self.client.completions.create(**fields, stream=True, stream_options={"include_usage": True}) as stream:
            for chunk in stream:
                for choice in chunk.choices:
                    text += choice.text
                    finish = choice.finish_reason or finish
                usage = chunk.usage or usage
        self.assertEqual(text, whole.choices[0].text)
        self.assertEqual(finish, whole.choices[0].finish_reason)
        self.assertEqual(usage.completion_tokens, whole.usage.completion_tokens)

    def test_completion_of_batches_and_token_ids(self):
        ids = self.server.tokenize("The capital of France is")
        answer = self.client.completions.create(
            model=self.name, prompt=[ids, ids[:2]], max_tokens=1, echo=True, logprobs=1, temperature=0, seed=1234)
        self.assertEqual([choice.index for choice in answer.choices], [0, 1])
        self.assertIsNone(answer.choices[0].logprobs.token_logprobs[0])
        self.assertEqual(len(answer.choices[0].logprobs.tokens), len(ids) + 1)
        answer = self.client.completions.create(model=self.name, prompt=["a", "b"], n=2, max_tokens=2, stop=["\n"])
        self.assertEqual(len(answer.choices), 4)

    def test_chat(self):
        answer = self.client.chat.completions.create(
            model=self.name, messages=QUESTION, temperature=0, max_completion_tokens=24, logprobs=True, top_logprobs=2)
        choice = answer.choices[0]
        self.assertEqual(choice.message.role, "assistant")
        self.assertIn("Paris", choice.message.content)
        self.assertIn(choice.finish_reason, ("stop", "length"))
        self.assertEqual(len(choice.logprobs.content[0].top_logprobs), 2)
        self.assertEqual(bytes(choice.logprobs.content[0].bytes).decode(), choice.logprobs.content[0].token)

    def test_chat_stream(self):
        fields = dict(model=self.name, messages=QUESTION, temperature=0, max_tokens=24)
        whole = self.client.chat.completions.create(**fields)
        text, roles, usage = "", [], None
        with self.client.chat.completions.create(
            **fields, stream=True, stream_options={"include_usage": True}
        ) as stream:
            for chunk in stream:
                usage = chunk.usage or usage
                for choice in chunk.choices:
                    text += choice.delta.content or ""
                    if choice.delta.role:
                        roles.append(choice.delta.role)
        self.assertEqual(text, whole.choices[0].message.content)
        self.assertEqual(roles, ["assistant"])
        self.assertEqual(usage.total_tokens, whole.usage.total_tokens)

    def test_chat_stream_helper(self):
        """The client's own accumulation of a stream needs every chunk to be well formed."""
        if not hasattr(self.client.chat.completions, "stream"):
            self.skipTest("this version of the client has no stream helper")
        fields = dict(model=self.name, messages=QUESTION, temperature=0, max_tokens=16)
        with self.client.chat.completions.stream(**fields) as stream:
            final = stream.get_final_completion()
        whole = self.client.chat.completions.create(**fields)
        self.assertEqual(final.choices[0].message.content, whole.choices[0].message.content)
        self.assertEqual(final.choices[0].finish_reason, whole.choices[0].finish_reason)

    def test_stream_left_early(self):
        with self.client.chat.completions.create(
            model=self.name, messages=QUESTION, max_tokens=2000, stream=True, extra_body={"ignore_eos": True}
        ) as stream:
            for index, _ in enumerate(stream):
                if index == 5:
                    break
        self.server.wait_idle()

    def test_errors_are_the_right_exceptions(self):
        chat = self.client.chat.completions
        with self.assertRaises(openai.NotFoundError) as caught:
            chat.create(model="gpt-99", messages=QUESTION)
        self.assertEqual((caught.exception.code, caught.exception.param), ("model_not_found", "model"))
        with self.assertRaises(openai.NotFoundError):
            self.client.models.retrieve("gpt-99")
        with self.assertRaises(openai.BadRequestError) as caught:
            chat.create(model=self.name, messages=QUESTION, temperature=9)
        self.assertEqual((caught.exception.param, caught.exception.type), ("temperature", "invalid_request_error"))
        with self.assertRaises(openai.BadRequestError) as caught:
            self.client.completions.create(
                model=self.name, prompt=[400] * (self.model["max_model_len"] + 1), max_tokens=1)
        self.assertEqual(caught.exception.code, "context_length_exceeded")
        with self.assertRaises(openai.BadRequestError):
            chat.create(model=self.name, messages=QUESTION, stream=True, n=0)
        with self.assertRaises(openai.BadRequestError):
            self.client.completions.create(model=self.name, prompt=[[400]] * 2000, n=128, max_tokens=1)
        with self.assertRaises(openai.NotFoundError):
            self.client.embeddings.create(model="no-such-model", input="text")

    def test_raw_response(self):
        raw = self.client.chat.completions.with_raw_response.create(
            model=self.name, messages=QUESTION, max_tokens=2, extra_headers={"X-Request-Id": "from-the-client"})
        self.assertEqual(raw.status_code, 200)
        self.assertEqual(raw.headers["x-request-id"], "from-the-client")
        parsed = raw.parse()
        self.assertEqual(parsed.id, "chatcmpl-from-the-client")
        self.assertEqual(parsed._request_id, "from-the-client")
