"""The real `openai` package against a served model: what its users do must work, errors included.

    TRAMONTANE_BIN=build/release/bin python tests/integration/peers/openai_client.py

Run it with a Python that has openai 2 or later. Makes a small random checkpoint in a temporary folder.
"""
import json
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import openai  # noqa: E402
import pydantic  # noqa: E402
from harness import tramontane  # noqa: E402
from http_harness import Server  # noqa: E402

USER = [{"role": "user", "content": "2+3"}]


class Person(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    name: str = pydantic.Field(max_length=6)
    age: int = pydantic.Field(ge=0, le=120)


class OpenAiClient(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="tramontane-openai-")
        cls.addClassCleanup(cls.folder.cleanup)
        cls.server = Server(cls.folder.name)
        cls.addClassCleanup(cls.server.close)
        cls.client = openai.OpenAI(base_url=f"http://{cls.server.address}/v1", api_key="none", max_retries=0,
                                   timeout=60)
        cls.addClassCleanup(cls.client.close)

    def chat(self, **fields):
        return self.client.chat.completions.create(model="tiny", messages=USER, **fields)

    def text(self, **fields):
        return self.client.completions.create(model="tiny", **fields)

    def test_models(self):
        self.assertEqual([model.id for model in self.client.models.list()], ["tiny"])
        self.assertEqual(self.client.models.retrieve("tiny").id, "tiny")

    def test_chat_and_completion(self):
        reply = self.chat(max_tokens=8, seed=1, temperature=0.5)
        self.assertEqual(reply.choices[0].message.role, "assistant")
        self.assertIn(reply.choices[0].finish_reason, ("stop", "length"))
        self.assertEqual(reply.usage.total_tokens, reply.usage.prompt_tokens + reply.usage.completion_tokens)
        reply = self.text(prompt=["a", "b"], max_tokens=3, n=2)
        self.assertEqual([choice.index for choice in reply.choices], [0, 1, 2, 3])

    def test_streams(self):
        whole = self.chat(max_tokens=30, seed=7).choices[0].message.content
        pieces, usage = "", None
        for chunk in self.chat(max_tokens=30, seed=7, stream=True, stream_options={"include_usage": True}):
            usage = chunk.usage or usage
            for choice in chunk.choices:
                pieces += choice.delta.content or ""
        self.assertEqual(pieces, whole)
        self.assertGreater(usage.completion_tokens, 0)
        whole = self.text(prompt="abc", max_tokens=30, seed=7).choices[0].text
        self.assertEqual("".join(c.choices[0].text for c in self.text(prompt="abc", max_tokens=30, seed=7, stream=True)),
                         whole)

    def test_logprobs(self):
        content = self.chat(max_tokens=5, logprobs=True, top_logprobs=3).choices[0].logprobs.content
        self.assertTrue(content)
        for entry in content:
            self.assertLessEqual(entry.logprob, 0)
            self.assertEqual(len(entry.top_logprobs), 3)
            self.assertEqual(bytes(entry.bytes).decode(), entry.token)
        logprobs = self.text(prompt="abc", max_tokens=4, logprobs=2, temperature=0).choices[0].logprobs
        self.assertEqual(len(logprobs.tokens), len(logprobs.token_logprobs))

    def test_echo_scores_the_prompt(self):
        """What evaluation harnesses ask: the log-probabilities of a given text."""
        choice = self.text(prompt="abcd", max_tokens=0, echo=True, logprobs=1, temperature=0).choices[0]
        self.assertEqual(choice.text, "abcd")
        self.assertEqual(choice.logprobs.tokens, list("abcd"))
        self.assertIsNone(choice.logprobs.token_logprobs[0])
        self.assertEqual(choice.logprobs.text_offset, [0, 1, 2, 3])
        ids = self.text(prompt="abcd", max_tokens=1, extra_body={"return_token_ids": True}).choices[0].prompt_token_ids
        _, scored, _ = tramontane("score", "--model", self.server.model, "--json", stdin=json.dumps({"tokens": [ids]}))
        for ours, reference in zip(choice.logprobs.token_logprobs[1:], json.loads(scored)["logprobs"][0]):
            self.assertAlmostEqual(ours, reference, places=4)
        for logprob, top in zip(choice.logprobs.token_logprobs[1:], choice.logprobs.top_logprobs[1:]):
            self.assertLessEqual(logprob, max(top.values()) + 1e-6)

    def test_n_and_stop(self):
        reply = self.chat(max_tokens=20, n=4, temperature=1.0, seed=3)
        self.assertEqual(len({choice.message.content for choice in reply.choices}), 4)
        self.assertEqual(self.text(prompt="a", max_tokens=50, stop=["b", "c"], extra_body={
            "guided_regex": "xyzb.*"}).choices[0].text, "xyz")

    def test_json_schema(self):
        schema = {"name": "person", "strict": True, "schema": Person.model_json_schema()}
        for seed in range(5):
            reply = self.chat(seed=seed, response_format={"type": "json_schema", "json_schema": schema})
            Person.model_validate_json(reply.choices[0].message.content)
        parsed = self.client.chat.completions.parse(model="tiny", messages=USER, seed=9, response_format=Person)
        self.assertIsInstance(parsed.choices[0].message.parsed, Person)

    def test_tools_reach_the_template(self):
        tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
        self.assertEqual(len(self.chat(max_tokens=2, tools=[tool], tool_choice="auto").choices), 1)

    def test_a_chat_that_goes_on_finds_its_keys(self):
        """What agents do: all messages each time, and a session for the tokens of the earlier turns."""
        history = [{"role": "user", "content": "tell me what came of it, word for word"}]

        def turn(session, seed):
            return self.client.chat.completions.create(
                model="tiny", messages=history, seed=seed, max_tokens=60,
                extra_body={"session": session, "guided_regex": "[a-z ]{40}", "return_token_ids": True})

        first = turn("new", 1)
        self.assertEqual(first.session_kept_tokens, 0)
        said = first.choices[0].prompt_token_ids + first.choices[0].token_ids
        history.append({"role": "assistant", "content": first.choices[0].message.content})
        history.append({"role": "user", "content": "and then?"})
        second = turn(first.session, 2)
        self.assertEqual(second.session, first.session)
        self.assertEqual(second.session_kept_tokens, len(said))
        self.assertEqual(second.choices[0].prompt_token_ids[:len(said)], said)
        # Whole blocks of 16 tokens; the last of them may be the one that computes the next token.
        self.assertGreaterEqual(second.usage.prompt_tokens_details.cached_tokens, (len(said) - 1) // 16 * 16)
        self.assertGreater(len(said), 64)
        history[1]["content"] = "something else"
        history += [{"role": "assistant", "content": second.choices[0].message.content},
                    {"role": "user", "content": "no"}]
        self.assertEqual(turn(first.session, 3).session_kept_tokens, 0)
        with self.assertRaises(openai.NotFoundError):
            turn("nobody", 4)

    def test_errors(self):
        wrong = ((openai.NotFoundError, lambda: self.client.completions.create(model="gpt", prompt="a")),
                 (openai.BadRequestError, lambda: self.chat(max_tokens=-1)),
                 (openai.BadRequestError, lambda: self.text(prompt="a" * 1000)),
                 (openai.BadRequestError, lambda: self.chat(response_format={
                     "type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "never"}}})),
                 (openai.UnprocessableEntityError, lambda: self.chat(tools=[], tool_choice="required")),
                 (openai.BadRequestError, lambda: self.text(prompt="a", n=3000)),
                 (openai.APIStatusError, lambda: self.text(prompt="a" * (9 << 20))))
        for kind, ask in wrong:
            with self.assertRaises(kind) as caught:
                ask()
            self.assertTrue(caught.exception.message)
        with self.assertRaises(openai.BadRequestError) as caught:
            self.text(prompt="a" * 1000)
        self.assertEqual((caught.exception.param, caught.exception.code), ("prompt", "context_length_exceeded"))

    def test_a_deadline_is_an_error_of_the_stream(self):
        with self.assertRaises(openai.APIError):
            for _ in range(20):  # however fast the machine: some of them will not be done in time
                list(self.text(prompt="a", max_tokens=250, n=200, stream=True,
                               extra_body={"timeout_s": 0.05, "ignore_eos": True}))


if __name__ == "__main__":
    unittest.main(verbosity=2)
