"""Functions written for TRL, verl and verifiers, called unchanged; async ones; group scorers."""
import tempfile
import unittest
from pathlib import Path

from tramontane_verifier import BadInput, rubric, verifier
from tramontane_verifier.spec import load
from tramontane_verifier.styles import detect, required_params


def request(completion="<think>2+3</think>5<|im_end|>", answer="5", **fields):
    return {"prompt": "2+3=", "completion": completion, "answer": answer, "params": {}, "messages": [],
            "finish_reason": "stop", **fields}


def group(*completions, **fields):
    return request(completion="", **fields) | {"group": [{"completion": c} for c in completions]}


def wrap(function, **settings):
    return verifier(name="x", version="1", reward_range=None, **settings)(function)


class TrlTest(unittest.TestCase):
    def test_gets_lists_and_columns(self):
        def reward(prompts, completions, solution, kind, **kwargs):
            self.assertEqual((prompts, kwargs["answer"]), (["2+3="], ["5"]))
            return [float(c.endswith(s)) for c, s in zip(completions, solution)]

        self.assertEqual(detect(reward), "trl")
        self.assertEqual(wrap(reward).call(request(params={"kind": "sum"})), 1.0)
        with self.assertRaises(BadInput):
            wrap(reward).call(request())

    def test_conversational_rows_come_as_messages(self):
        def reward(completions, **kwargs):
            return [0.5 if c[0]["content"].endswith("5") else None for c in completions]

        chat = [{"role": "user", "content": "2+3="}]
        self.assertEqual(wrap(reward).call(request(messages=chat)), 0.5)
        self.assertIsNone(wrap(reward).call(request("6", messages=chat)))

    def test_what_it_logs_are_metrics(self):
        def reward(completions, log_metric, log_extra, **kwargs):
            log_extra("seen", completions)
            log_metric("length", 3.0)
            return [1.0]

        self.assertEqual(wrap(reward).call(request()), {"reward": 1.0, "metrics": {"length": 3.0}})

    def test_async_and_groups(self):
        async def reward(completions, **kwargs):
            return [float(len(c) == max(map(len, completions))) for c in completions]

        spec = wrap(reward, group=True)
        self.assertEqual(spec.call(group("a", "abc", "ab")), [0.0, 1.0, 0.0])
        self.assertEqual(wrap(reward).call(request()), 1.0)

    def test_a_list_of_the_wrong_length_is_an_error(self):
        for said in ([1.0, 2.0], 1.0, "1.0", {"reward": 1}):
            with self.assertRaises(ValueError):
                wrap(lambda completions, **kwargs: said).call(request())


class VerlTest(unittest.TestCase):
    def test_compute_score_unchanged(self):
        def compute_score(data_source, solution_str, ground_truth, extra_info=None):
            self.assertEqual((data_source, extra_info), ("sums", {"index": 3}))
            return {"score": 1.0 if solution_str.endswith(ground_truth) else -1.0, "acc": True,
                    "pred": "5", "tries": 2}

        spec = wrap(compute_score)
        self.assertEqual(spec.style, "verl")
        params = {"data_source": "sums", "extra_info": {"index": 3}}
        self.assertEqual(spec.call(request(params=params)), {
            "reward": 1.0, "correct": True, "extracted": "5", "metrics": {"tries": 2.0}})

    def test_structured_gold_answers_and_async(self):
        async def compute_score(data_source, solution_str, ground_truth, extra_info):
            return float(ground_truth["target"] == 5)

        params = {"reward_model": {"ground_truth": {"target": 5}}}
        self.assertEqual(wrap(compute_score).call(request(params=params)), 1.0)

    def test_a_dictionary_without_score_is_an_error(self):
        with self.assertRaises(ValueError):
            wrap(lambda solution_str, ground_truth: {"reward": 1}).call(request())


class VerifiersTest(unittest.TestCase):
    def test_rubric_functions_unchanged(self):
        def exact(completion, answer, state, info):
            self.assertEqual(info, {"level": 2})
            self.assertEqual(state["completion"], completion)
            return float(completion[-1]["content"].endswith(answer))

        self.assertEqual(detect(exact), "verifiers")
        self.assertEqual(wrap(exact).call(request(params={"info": {"level": 2}})), 1.0)

    def test_groups_by_plural_names(self):
        def longest(completions, answers, states):
            return [float(len(c[0]["content"])) for c in completions]

        self.assertEqual(wrap(longest).call(group("a", "abc")), [1.0, 3.0])

    def test_a_rubric_is_the_weighted_sum_and_metrics_of_weight_zero(self):
        def right(completion, answer):
            return float(completion[-1]["content"].endswith(answer))

        async def length(completion):
            return len(completion[-1]["content"])

        def short(completion):
            return 0.5

        class Rubric:
            funcs, weights = [right, length, short], [1.0, 0.0, 0.2]

        for funcs, weights in ((Rubric(), None), (Rubric.funcs, Rubric.weights)):
            said = rubric(name="r", version="1", funcs=funcs, weights=weights).call(request("5"))
            self.assertEqual(said, {"components": {"right": 1.0, "short": 0.1}, "metrics": {"length": 1.0}})


class OwnTest(unittest.TestCase):
    def test_async_and_groups(self):
        async def one(completion):
            return 0.25

        async def whole(completions, finish_reasons, answer):
            return [float(c == answer) for c in completions]

        self.assertEqual(wrap(one).call(request()), 0.25)
        self.assertEqual(wrap(whole).call(group("5", "6")), [1.0, 0.0])
        with self.assertRaises(BadInput):
            wrap(one).call(group("5", "6"))

    def test_clients_kept_between_calls_stay_usable(self):
        loops = []

        async def one(completion):
            import asyncio
            loops.append(asyncio.get_running_loop())
            return 1.0

        spec = wrap(one)
        spec.call(request())
        spec.call(request())
        self.assertIs(loops[0], loops[1])

    def test_required_params_are_told(self):
        def f(completion, answer, entry, flavour="plain", **rest):
            return 1.0

        self.assertEqual(required_params(f, "tramontane", False), ["entry"])

    def test_a_plain_function_is_named_by_the_command(self):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "plain_rewards.py"
            file.write_text("def compute_score(data_source, solution_str, ground_truth, extra_info=None):\n"
                            "    return float(solution_str == ground_truth)\n")
            spec = load(f"{file}:compute_score")
            self.assertEqual((spec.name, spec.style, spec.version), ("compute_score", "verl", "0"))
            self.assertEqual(load(f"{file}:compute_score", "mine", "2").name, "mine")
            self.assertEqual(spec.call(request("5")), 1.0)


if __name__ == "__main__":
    unittest.main()
