"""The OpenAI-compatible endpoint of a served model, as plain HTTP clients see it."""
import concurrent.futures
import json
import pathlib
import re
import socket
import tempfile
import threading
import time
import unittest

from harness import main, tramontane
from http_harness import (CHAT, TEXT, Server, make_critic, mixed_requests, samples_of, side_by_side, streamed_samples,
                          tiny_requests)

USER = [{"role": "user", "content": "2+3"}]
PERSON = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 5},
                                           "age": {"type": "integer", "minimum": 0, "maximum": 99}},
          "required": ["name", "age"], "additionalProperties": False}


class ServedCase(unittest.TestCase):
    arguments = ()

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="tramontane-http-")
        cls.addClassCleanup(cls.folder.cleanup)
        cls.server = Server(cls.folder.name, *cls.arguments)
        cls.addClassCleanup(cls.server.close)


class Answers(ServedCase):
    def test_models_and_health(self):
        status, _, models = self.server.ask("GET", "/v1/models")
        self.assertEqual((status, models["data"][0]["id"], models["data"][0]["max_model_len"]), (200, "tiny", 256))
        self.assertEqual(self.server.ask("GET", "/health")[0], 200)

    def test_completions_of_every_kind_of_prompt(self):
        ids = self.server.complete(prompt="ab", max_tokens=2, return_token_ids=True, seed=5)["choices"][0]
        for prompt in (ids["prompt_token_ids"], ["ab"], [ids["prompt_token_ids"]]):
            choice = self.server.complete(prompt=prompt, max_tokens=2, return_token_ids=True, seed=5)["choices"][0]
            self.assertEqual(choice["token_ids"], ids["token_ids"])
        several = self.server.complete(prompt=["a", "b", "c"], max_tokens=3, n=2)
        self.assertEqual([c["index"] for c in several["choices"]], list(range(6)))

    def test_usage_adds_up(self):
        reply = self.server.complete(prompt=[1, 2, 3], max_tokens=7, ignore_eos=True)
        self.assertEqual({k: reply["usage"][k] for k in ("prompt_tokens", "completion_tokens", "total_tokens")},
                         {"prompt_tokens": 3, "completion_tokens": 7, "total_tokens": 10})
        *_, last = self.server.stream(prompt=[1, 2, 3], max_tokens=7, ignore_eos=True,
                                      stream_options={"include_usage": True})
        self.assertEqual((last["choices"], last["usage"]["completion_tokens"]), ([], 7))

    def test_a_stream_adds_up_to_the_whole_answer(self):
        body = {"messages": USER, "max_tokens": 40, "seed": 3, "logprobs": True, "top_logprobs": 2, "n": 2}
        whole = self.server.complete(path=CHAT, **body)["choices"]
        text, logprobs, finish = ["", ""], [[], []], [None, None]
        for event in self.server.stream(path=CHAT, **body):
            for choice in event["choices"]:
                i = choice["index"]
                text[i] += choice["delta"].get("content", "")
                logprobs[i] += (choice["logprobs"] or {"content": []})["content"]
                finish[i] = choice["finish_reason"] or finish[i]
        for i, choice in enumerate(whole):
            self.assertEqual(text[i], choice["message"]["content"])
            self.assertEqual(logprobs[i], choice["logprobs"]["content"])
            self.assertEqual(finish[i], choice["finish_reason"])
            for entry in choice["logprobs"]["content"]:
                self.assertEqual(len(entry["top_logprobs"]), 2)
                self.assertGreaterEqual(entry["top_logprobs"][0]["logprob"], entry["top_logprobs"][1]["logprob"])

    def test_greedy_tokens_are_the_likeliest_alternative(self):
        choice = self.server.complete(prompt="abc", max_tokens=10, temperature=0, logprobs=1)["choices"][0]
        for token, logprob, top in zip(choice["logprobs"]["tokens"], choice["logprobs"]["token_logprobs"],
                                       choice["logprobs"]["top_logprobs"]):
            self.assertEqual(top, {token: logprob})

    def test_echo_gives_the_prompts_own_log_probabilities(self):
        text = "what a harness wants to know the likelihood of"
        echoed = self.server.complete(prompt=text, max_tokens=3, echo=True, logprobs=2, temperature=0,
                                      return_token_ids=True)["choices"][0]
        ids = echoed["prompt_token_ids"]
        status, out, err = tramontane("score", "--model", self.server.model, "--json",
                                      stdin=json.dumps({"tokens": [ids + echoed["token_ids"]]}))
        self.assertEqual(status, 0, err)
        reference = json.loads(out)["logprobs"][0]
        self.assertTrue(echoed["text"].startswith(text))
        self.assertIsNone(echoed["logprobs"]["token_logprobs"][0])
        self.assertEqual(len(echoed["logprobs"]["token_logprobs"]), len(reference) + 1)
        for ours, theirs in zip(echoed["logprobs"]["token_logprobs"][1:], reference):
            self.assertAlmostEqual(ours, theirs, delta=1e-4)
        alone = self.server.complete(prompt=text, max_tokens=0, echo=True, logprobs=0, temperature=0)["choices"][0]
        self.assertEqual((alone["text"], len(alone["logprobs"]["tokens"])), (text, len(ids)))

    def test_stop_strings_end_the_text_before_them(self):
        free = self.server.complete(prompt="abc", max_tokens=60, seed=1, ignore_eos=True)["choices"][0]["text"]
        stop = next(piece for piece in (free[i:i + 1] for i in range(20, len(free))) if piece.isascii())
        choice = self.server.complete(prompt="abc", max_tokens=60, seed=1, ignore_eos=True, stop=stop)["choices"][0]
        self.assertEqual((choice["text"], choice["finish_reason"]), (free[:free.index(stop)], "stop"))

    def test_biases_decide(self):
        choice = self.server.complete(prompt="a", max_tokens=5, temperature=0, logit_bias={"65": 100},
                                      return_token_ids=True)["choices"][0]
        self.assertEqual(choice["token_ids"], [65] * 5)

    def test_whatever_the_model_says_fits_the_schema(self):
        for seed in range(8):
            choice = self.server.complete(path=CHAT, messages=USER, seed=seed, response_format={
                "type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}})["choices"][0]
            self.assertEqual(choice["finish_reason"], "stop")
            person = json.loads(choice["message"]["content"])
            self.assertEqual(set(person), {"name", "age"})
            self.assertLessEqual(person["age"], 99)

    def test_regular_expressions_and_choices(self):
        for fields in ({"guided_regex": "(yes|no), [0-9]{3}"}, {"structured_outputs": {"regex": "(yes|no), [0-9]{3}"}}):
            for choice in self.server.complete(prompt="a", max_tokens=30, n=5, **fields)["choices"]:
                self.assertRegex(choice["text"], r"\A(yes|no), [0-9]{3}\Z")
                self.assertEqual(choice["finish_reason"], "stop")
        for choice in self.server.complete(prompt="a", max_tokens=30, n=5, guided_choice=["up (1)", "down"])["choices"]:
            self.assertIn(choice["text"], ("up (1)", "down"))

    def test_a_closed_thought_is_reasoning(self):
        reply = self.server.complete(path=CHAT, messages=USER, guided_regex="<think>ab</think>cd", max_tokens=40)
        message = reply["choices"][0]["message"]
        self.assertEqual((message["reasoning_content"], message["content"]), ("ab", "cd"))
        raw = self.server.complete(path=CHAT, messages=USER, guided_regex="<think>ab</think>cd", max_tokens=40,
                                   separate_reasoning=False)["choices"][0]["message"]
        self.assertEqual(raw["content"], "<think>ab</think>cd")

    def test_metrics_have_both_names(self):
        self.server.complete(prompt="abc", max_tokens=2)
        _, _, page = self.server.ask("GET", "/metrics")
        self.assertRegex(page, r'(?m)^tramontane_http_requests_total\{route="/v1/.*completions",status="200"\}')
        self.assertNotIn("vllm:", page)


class Searches(ServedCase):
    def test_one_path_is_the_plain_answer_token_for_token(self):
        body = {"prompt": "1+1=", "max_tokens": 60, "seed": 4, "return_token_ids": True, "logprobs": 0}
        plain = self.server.complete(**body)["choices"][0]
        for search in ({"method": "beam", "n": 1, "expansion": 1, "step_end": "e"}, {"n": 1}, {"method": "majority", "n": 1}):
            reply = self.server.complete(**body, search=search)
            choice = reply["choices"][0]
            self.assertEqual((choice["token_ids"], choice["text"]), (plain["token_ids"], plain["text"]))
            self.assertEqual(choice["search"]["sampled_tokens"], reply["usage"]["completion_tokens"])

    def test_every_method_answers_and_pays_for_all_paths(self):
        body = {"messages": USER, "max_tokens": 20, "seed": 1, "ignore_eos": True}
        for search, paths in (({"method": "majority", "n": 5}, 5), ({"method": "best_of_n", "n": 3}, 3),
                              ({"method": "weighted_best_of_n", "n": 4, "scorer": "exact", "answers": ["5"]}, 4),
                              ({"method": "parallel", "n": 2, "scorer": "math", "answers": ["5"]}, 2)):
            reply = self.server.complete(path=CHAT, **body, search=search)
            self.assertEqual(len(reply["choices"][0]["search"]["candidates"]), paths)
            self.assertEqual(reply["usage"]["completion_tokens"], 20 * paths)
        for search in ({"method": "beam", "step_end": "e"}, {"method": "dvts", "step_end": "e"},
                       {"method": "mcts", "step_end": "e", "simulations": 6}):
            reply = self.server.complete(path=CHAT, **body, search={**search, "token_budget": 50})
            self.assertLessEqual(reply["usage"]["completion_tokens"], 50)

    def test_searches_and_plain_requests_share_an_engine_and_change_nothing_of_each_other(self):
        bodies = mixed_requests(30, seed=5)
        alone = [samples_of(self.server.complete(**body)["choices"]) for body in bodies]
        search = {"prompt": "abc", "max_tokens": 40, "seed": 2, "return_token_ids": True,
                  "search": {"method": "beam", "n": 4, "expansion": 2, "step_end": "e", "max_steps": 6}}
        expected = self.server.complete(**search)["choices"][0]
        found = []
        others = [threading.Thread(target=lambda: found.append(self.server.complete(**search)["choices"][0]))
                  for _ in range(6)]
        for other in others:
            other.start()
        self.assertEqual(side_by_side(self.server, bodies, clients=8), alone)
        for other in others:
            other.join(60)
        self.assertEqual(found, [expected] * 6)

    def test_thinking_keeps_its_budget_in_every_path(self):
        reply = self.server.complete(
            prompt="<think>", max_tokens=80, seed=3, ignore_eos=True, search={"method": "beam", "step_end": "e", "max_steps": 5},
            thinking={"budget": 9, "on_exhaust": "cwm", "reserve": 10}, return_token_ids=True)
        self.assertIn("...</think>", reply["choices"][0]["text"])
        self.assertEqual(reply["usage"]["completion_tokens_details"]["reasoning_tokens"], 9)

    def test_bad_searches_are_answered_with_the_field(self):
        for search, param in (({"method": "guess"}, "search.method"), ({"n": 10 ** 6}, "search.n"),
                              ({"scorer": "nobody", "answers": ["1"]}, "search.scorer"), ({"scorer": "math"}, "search.answers"),
                              ({"scorer": "math", "answers": ["\\frac{"]}, "search.answers"), (3, "search")):
            status, _, reply = self.server.ask("POST", TEXT, {"prompt": "a", "search": search})
            self.assertEqual((status, reply["error"]["param"]), (400, param), reply)
        self.assertEqual(self.server.metric("tramontane_generator_searches{"), 0)


class Values(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="tramontane-values-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def test_a_critic_chooses_among_the_paths_as_on_the_command_line(self):
        critic = make_critic(self.folder / "critic")
        with Server(self.folder, "--value-model", critic) as server:
            for method in ({"method": "best_of_n", "n": 6}, {"method": "weighted_best_of_n", "n": 6},
                           {"method": "beam", "n": 4, "step_end": "e", "max_steps": 4},
                           {"method": "mcts", "simulations": 8, "step_end": "e", "max_steps": 4}):
                search = {**method, "scorer": "value"}
                choice = server.complete(prompt=[49, 43, 49, 61], max_tokens=30, seed=3, search=search,
                                         return_token_ids=True)["choices"][0]
                scores = [candidate["score"] for candidate in choice["search"]["candidates"]]
                self.assertGreater(len(set(scores)), 1, method)
                if method["method"] == "best_of_n":
                    self.assertEqual(choice["search"]["score"], max(scores))
                status, out, err = tramontane("generate", "--model", server.model, "--value-model", critic, "--json",
                                              stdin=json.dumps({"prompts": [[49, 43, 49, 61]], "max_new_tokens": 30,
                                                                "seed": 3, "search": search}))
                self.assertEqual(status, 0, out + err)
                rollout = json.loads(out)["rollouts"][0]
                self.assertEqual(rollout["tokens"], choice["token_ids"])
                self.assertAlmostEqual(rollout["search"]["score"], choice["search"]["score"], places=4)
            self.assertGreater(server.metric("tramontane_generator_value_tokens_total"), 0)
            self.assertGreater(server.metric("tramontane_generator_value_seconds_count"), 0)
            status, _, reply = server.ask("POST", TEXT, {"prompt": "a", "search": {"scorer": "value", "answers": ["1"]}})
            self.assertEqual((status, reply["error"]["param"]), (400, "search.answers"))

    def test_a_critic_that_is_none_or_does_not_fit_is_refused(self):
        with Server(self.folder) as server:
            status, _, reply = server.ask("POST", TEXT, {"prompt": "a", "search": {"scorer": "value"}})
            self.assertEqual((status, reply["error"]["param"]), (400, "search.scorer"))
            self.assertIn("--value-model", reply["error"]["message"])
            other = make_critic(self.folder / "other", vocab_size=300)
            for critic, words in ((other, "vocab_size of the critic is 300"), (server.model, "value_head.safetensors")):
                status, out, err = tramontane("serve", "--model", server.model, "--port", "0", "--value-model", critic)
                self.assertNotEqual(status, 0)
                self.assertIn("generator.value_model", out + err)
                self.assertIn(words, out + err)


class Limits(ServedCase):
    arguments = ("--set", "generator.max_running_searches=1", "--set", "generator.max_waiting_searches=1",
                 "--set", "generator.max_sessions=2", "--set", "generator.session_idle_timeout_s=1")

    def test_more_searches_than_the_configuration_allows_are_told_to_come_back(self):
        body = {"prompt": "a", "max_tokens": 250, "ignore_eos": True, "search": {"n": 64}}
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            replies = list(pool.map(lambda _: self.server.ask("POST", TEXT, body), range(12)))
        refused = [(status, headers, reply) for status, headers, reply in replies if status != 200]
        self.assertGreaterEqual(len(replies) - len(refused), 2)
        self.assertGreater(len(refused), 0)
        for status, headers, reply in refused:
            self.assertEqual((status, reply["error"]["type"]), (429, "rate_limit_error"), reply)
            self.assertEqual(headers["Retry-After"], "1")
        self.assertEqual(self.server.metric('tramontane_generator_searches_total{outcome="refused"}'), len(refused))
        self.assertEqual(self.server.metric('tramontane_generator_limit{of="running_searches"}'), 1)
        self.assertEqual(self.server.metric('tramontane_generator_limit{of="waiting_searches"}'), 1)
        self.server.complete(**{**body, "search": {"n": 2}})

    def test_more_sessions_than_the_configuration_allows_wait_for_one_to_expire(self):
        body = {"prompt": "a", "max_tokens": 2, "session": "new"}
        first = self.server.complete(**body)["session"]
        self.server.complete(**body)
        status, _, reply = self.server.ask("POST", TEXT, body)
        self.assertEqual((status, reply["error"]["type"]), (429, "rate_limit_error"), reply)
        self.assertGreaterEqual(self.server.metric("tramontane_generator_sessions_refused_total"), 1)
        time.sleep(1.2)
        self.server.complete(**body)
        status, _, reply = self.server.ask("POST", TEXT, {**body, "session": first})
        self.assertEqual((status, reply["error"]["code"]), (404, "session_not_found"))

    def test_settings_that_cannot_be_are_refused_by_name(self):
        for setting, words in (("generator.max_sessions=-1", "generator.max_sessions: must be between"),
                               ("generator.max_sesions=1", "max_sessions"),
                               ("trainer.threads=2", "--set: takes generator.NAME=VALUE")):
            status, out, err = tramontane("serve", "--model", self.server.model, "--set", setting)
            self.assertNotEqual(status, 0)
            self.assertIn(words, out + err)


class Sessions(ServedCase):
    def test_turns_are_one_conversation_and_keep_their_keys(self):
        opened = self.server.metric("tramontane_generator_sessions")
        first = self.server.complete(prompt="abcdefgh" * 4, session="new", max_tokens=20, seed=1, ignore_eos=True,
                                     return_token_ids=True)
        said = first["choices"][0]["prompt_token_ids"] + first["choices"][0]["token_ids"]
        before = self.server.metric('tramontane_generator_prefix_hit_tokens_total{from="cache"}')
        second = self.server.complete(prompt=" and?", session=first["session"], max_tokens=20, seed=2,
                                      ignore_eos=True, return_token_ids=True)["choices"][0]
        self.assertEqual(second["prompt_token_ids"][:len(said)], said)
        new = self.server.complete(prompt=" and?", add_special_tokens=False, return_token_ids=True)["choices"][0]
        self.assertEqual(second["prompt_token_ids"][len(said):], new["prompt_token_ids"])
        self.assertGreaterEqual(
            self.server.metric('tramontane_generator_prefix_hit_tokens_total{from="cache"}') - before, 48)
        alone = self.server.complete(prompt=second["prompt_token_ids"], max_tokens=20, seed=2, ignore_eos=True,
                                     return_token_ids=True)["choices"][0]
        self.assertEqual(second["token_ids"], alone["token_ids"])
        status, _, _ = self.server.ask("DELETE", "/v1/sessions/" + first["session"])
        self.assertEqual(status, 200)
        status, _, reply = self.server.ask("POST", TEXT, {"prompt": "a", "session": first["session"]})
        self.assertEqual((status, reply["error"]["code"], reply["error"]["param"]),
                         (404, "session_not_found", "session"))
        self.assertEqual(self.server.metric("tramontane_generator_sessions"), opened)

    def test_a_chat_goes_on_with_the_tokens_it_was_sampled_in(self):
        history = [{"role": "user", "content": "tell me what came of it"}]
        body = {"path": CHAT, "max_tokens": 60, "guided_regex": "[a-z ]{40}", "return_token_ids": True}
        first = self.server.complete(**body, messages=history, session="new", seed=1)
        said = first["choices"][0]["prompt_token_ids"] + first["choices"][0]["token_ids"]
        history += [{"role": "assistant", "content": first["choices"][0]["message"]["content"]},
                    {"role": "user", "content": "and then?"}]
        second = self.server.complete(**body, messages=history, session=first["session"], seed=2)
        self.assertEqual((first["session_kept_tokens"], second["session_kept_tokens"]), (0, len(said)))
        self.assertGreaterEqual(second["usage"]["prompt_tokens_details"]["cached_tokens"], (len(said) - 1) // 16 * 16)
        alone = self.server.complete(**body, messages=history, seed=2)
        self.assertEqual(second["choices"][0]["message"], alone["choices"][0]["message"])
        rewrites = self.server.metric("tramontane_generator_session_rewrites_total")
        history[1]["content"] = "something else"
        events = list(self.server.stream(**body, messages=history, session=first["session"], seed=3))
        self.assertEqual({event["session_kept_tokens"] for event in events}, {0})
        self.assertEqual(self.server.metric("tramontane_generator_session_rewrites_total"), rewrites + 1)

    def test_a_session_that_outgrows_the_context_says_so(self):
        session = self.server.complete(prompt="a" * 200, session="new", max_tokens=20, ignore_eos=True)["session"]
        status, _, reply = self.server.ask("POST", TEXT, {"prompt": "b" * 20, "session": session, "max_tokens": 30})
        self.assertEqual((status, reply["error"]["code"]), (400, "context_length_exceeded"))
        self.assertEqual(self.server.complete(prompt="b", session=session, max_tokens=5)["session"], session)


class Many(ServedCase):
    def test_every_request_gets_what_it_gets_alone(self):
        bodies = mixed_requests(120, seed=11)
        alone = [samples_of(self.server.complete(**body)["choices"]) for body in bodies]
        self.assertEqual(side_by_side(self.server, bodies, clients=24), alone)
        self.assertEqual(self.server.metric("tramontane_http_open_requests"), 0)

    def test_memory_stays_where_it_is(self):
        tiny_requests(self.server, 1000, clients=8)
        before = self.server.rss_kib()
        tiny_requests(self.server, 2000, clients=8)
        self.assertLess(self.server.rss_kib() - before, 4 << 10)


class Abuse(ServedCase):
    def test_bad_requests_are_answered_and_disturb_nobody(self):
        body = {"prompt": "abc", "max_tokens": 200, "seed": 9, "ignore_eos": True, "return_token_ids": True}
        expected = streamed_samples(self.server.stream(**body))
        stop, wrong, streams = threading.Event(), [], [0]

        def keep_streaming():
            while not stop.is_set():
                if streamed_samples(self.server.stream(**body)) != expected:
                    wrong.append("differs")
                streams[0] += 1

        other = threading.Thread(target=keep_streaming)
        other.start()
        try:
            chat = {"messages": USER}
            for path, bad, status, param in (
                    (TEXT, b"{", 400, None), (TEXT, b"", 400, None), (TEXT, b'{"prompt": "\xff"}', 400, None),
                    (TEXT, b"[" * 200000, 400, None),
                    (TEXT, {"prompt": "a" * (10 << 20)}, 413, None),
                    (TEXT, {"prompt": "a" * 5000}, 400, "prompt"),
                    (TEXT, {"prompt": [300]}, 400, "prompt"),
                    (TEXT, {"prompt": "a", "stop": 3}, 400, "stop"),
                    (TEXT, {"prompt": "a", "stop": [""]}, 400, "stop"),
                    (TEXT, {"prompt": "a", "model": "gpt"}, 404, "model"),
                    (TEXT, {"prompt": "a", "n": 2000}, 400, "n"),
                    (TEXT, {"prompt": "a", "stop": ["x"] * 65}, 400, "stop"),
                    (TEXT, {"prompt": "a", "stop_token_ids": [1] * 1025}, 400, "stop_token_ids"),
                    (CHAT, {**chat, "thinking": {"budget": -5}}, 400, "thinking.budget"),
                    (CHAT, {**chat, "thinking": {"budget": 100000}}, 400, "thinking.budget"),
                    (CHAT, {**chat, "thinking": {"budget": 4, "guidance": True}}, 400, "thinking.guidance"),
                    (CHAT, {**chat, "max_tokens": 100000}, 400, "max_tokens"),
                    (CHAT, {**chat, "response_format": {"type": "json_schema", "json_schema": {
                        "schema": {"type": "never"}}}}, 400, "response_format"),
                    (CHAT, {**chat, "tool_choice": "required"}, 422, "tool_choice"),
                    ("/v1/nothing", {}, 404, None)):
                got, headers, reply = self.server.ask("POST", path, bad)
                self.assertEqual(got, status, (str(bad)[:100], reply))
                self.assertEqual(set(reply["error"]), {"message", "type", "param", "code"})
                self.assertEqual(reply["error"]["param"], param, reply)
        finally:
            stop.set()
            other.join(60)
        self.assertEqual(wrong, [])
        self.assertGreater(streams[0], 1)

    def test_a_slow_reader_blocks_nobody_and_loses_nothing(self):
        # Alternatives make it long: far more than sockets hold, of which the reader's is small.
        body = {"prompt": "abc", "max_tokens": 200, "seed": 4, "ignore_eos": True, "return_token_ids": True,
                "n": 100, "logprobs": 20}
        finished = self.server.metric("tramontane_generator_finished_total")
        slow = self.server.connect()
        slow.sock = socket.socket()
        slow.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.sock.settimeout(60)
        slow.sock.connect((slow.host, slow.port))
        slow.request("POST", TEXT, json.dumps({**body, "stream": True}))
        deadline = time.monotonic() + 60
        while (self.server.metric("tramontane_generator_finished_total") < finished + 100
               and time.monotonic() < deadline):
            time.sleep(0.02)
        # All is sampled, and the head of the answer is not even read.
        others = [self.server.complete(prompt="x", max_tokens=20, seed=i) for i in range(10)]
        self.assertEqual(len(others), 10)
        self.assertEqual(streamed_samples(self.server.stream(prompt="x", max_tokens=20, seed=3, return_token_ids=True)),
                         samples_of(self.server.complete(prompt="x", max_tokens=20, seed=3,
                                                         return_token_ids=True)["choices"]))
        self.assertEqual(self.server.metric("tramontane_http_open_requests"), 1)  # it is still being written
        reply = slow.getresponse()
        events = [json.loads(line[6:]) for line in reply if line.startswith(b"data: {")]
        slow.close()
        whole = samples_of(self.server.complete(**body)["choices"])
        self.assertEqual(streamed_samples(events), whole)

    def test_who_leaves_is_forgotten(self):
        for _ in range(20):
            connection = self.server.connect()
            connection.request("POST", TEXT, json.dumps({"prompt": "a", "max_tokens": 250, "n": 40,
                                                         "ignore_eos": True, "stream": True}))
            connection.getresponse().read(10)
            connection.close()
        deadline = time.monotonic() + 20
        while self.server.metric("tramontane_http_open_requests") > 0 and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertEqual(self.server.metric("tramontane_http_open_requests"), 0)
        self.assertGreater(self.server.metric('tramontane_http_unanswered_total{reason="client_left"}'), 0)
        self.assertEqual(self.server.metric("tramontane_generator_running_sequences"), 0)


class Long(ServedCase):
    def test_a_thousand_requests_at_64_at_once_each_equal_their_solo_run(self):
        bodies = mixed_requests(1000, seed=12)
        alone = [samples_of(self.server.complete(**body)["choices"]) for body in bodies]
        begin = time.monotonic()
        self.assertEqual(side_by_side(self.server, bodies, clients=64), alone)
        tokens = sum(len(sample[0]) for samples in alone for sample in samples)
        print(f"1000 requests, {tokens} tokens, 64 clients: {time.monotonic() - begin:.1f} s")

    def test_memory_is_constant_over_a_hundred_thousand_requests(self):
        tiny_requests(self.server, 5000, clients=16)
        sizes = [self.server.rss_kib()]
        for _ in range(10):
            tiny_requests(self.server, 10000, clients=16)
            sizes.append(self.server.rss_kib())
        print("RSS in KiB after 5k, 15k, … 105k requests:", sizes)
        self.assertLess(sizes[-1] - sizes[0], 8 << 10)
        self.assertLess(sizes[-1] - sizes[5], 3 << 10)


class Aliases(ServedCase):
    arguments = ("--vllm-metric-aliases",)

    def test_the_aliases_carry_the_same_counts(self):
        self.server.complete(prompt="a", max_tokens=9, ignore_eos=True)
        _, _, page = self.server.ask("GET", "/metrics")
        labels = re.escape('{model_name="tiny",engine="0"')
        self.assertRegex(page, rf"(?m)^vllm:generation_tokens_total{labels}}} 9$")
        self.assertRegex(page, rf"(?m)^vllm:time_to_first_token_seconds_count{labels}}} 1$")
        self.assertRegex(page, rf'(?m)^vllm:request_success_total{labels},finished_reason="length"}} 1$')


if __name__ == "__main__":
    main()
