"""Two engines: prompts find the engine that holds their beginning, and what is new is spread."""
import random
import unittest

import serving

WORDS = "river stone letter garden winter copper signal harbour mirror thunder velvet orchard".split()


def words(count, seed):
    generator = random.Random(seed)
    return " ".join(generator.choice(WORDS) for _ in range(count))


class RoutingTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = serving.Server(engines=2).start()

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def complete(self, prompt, **fields):
        answer = self.server.post(
            "/v1/completions", {"prompt": prompt, "max_tokens": 2, "temperature": 0, "ignore_eos": True, **fields})
        self.assertEqual(answer.status, 200, answer)
        return answer.json["usage"]

    def prompts_by_engine(self):
        series = self.server.metrics().all("tandem_engine_prompt_tokens_total")
        return {dict(labels)["engine"]: value for labels, value in series.items()}

    def decisions(self, reason):
        return self.server.metrics().total("tandem_router_decisions_total", reason=reason)

    def test_shared_prefixes_concentrate(self):
        prefix = words(600, seed=1)
        before = self.decisions("prefix")
        usages = [self.complete(f"{prefix} {words(8, seed)}") for seed in range(10, 20)]
        for usage in usages[1:]:
            self.assertGreaterEqual(usage["prompt_tokens_details"]["cached_tokens"], 500, usage)
        self.assertEqual(usages[0]["prompt_tokens_details"]["cached_tokens"], 0)
        self.assertGreaterEqual(self.decisions("prefix") - before, 9)
        self.assertGreater(self.server.metrics().total("tandem_router_prefix_tokens_total"), 9 * 500)

    def test_cold_prompts_spread(self):
        serving.wait_until(lambda: len(self.prompts_by_engine()) == 2, 10, "the engines report nothing")
        before = self.prompts_by_engine()
        for seed in range(100, 124):
            self.complete(words(40, seed))

        def both():
            after = self.prompts_by_engine()
            return all(after[engine] - before.get(engine, 0) > 100 for engine in after)

        # Of 24 ties one engine gets fewer than two once in 300,000 runs.
        serving.wait_until(both, 10, lambda: f"{before} became {self.prompts_by_engine()}")

    def test_breakers_are_closed(self):
        metrics = self.server.metrics()
        self.assertEqual(metrics.total("tandem_router_breaker_state", state="closed"), 2)
        self.assertEqual(metrics.total("tandem_router_breaker_state", state="open"), 0)


if __name__ == "__main__":
    unittest.main()
