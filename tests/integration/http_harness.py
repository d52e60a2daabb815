"""A served model and its HTTP clients, for the tests of the endpoint. Standard library only."""
import concurrent.futures
import http.client
import json
import pathlib
import random
import struct
import subprocess
import time

from harness import BIN, TINY_MODEL, TOKENIZER, tramontane

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"


class Server:
    """`tramontane serve` over a tiny random model; a context manager that leaves nothing behind."""

    def __init__(self, folder, *arguments, model=None):
        self.folder = pathlib.Path(folder)
        self.model = self.folder / "model"
        status, out, err = tramontane("init-model", "--tokenizer", TOKENIZER, "--out", self.model, "--json",
                                      stdin=json.dumps(model or TINY_MODEL))
        assert status == 0, out + err
        self.log = open(self.folder / "server.log", "w+", encoding="utf-8")
        ready = self.folder / "ready.json"
        self.process = subprocess.Popen(
            [str(BIN / "tramontane"), "serve", "--model", str(self.model), "--model-name", "tiny", "--port",
             "0", "--ready-file", str(ready), *map(str, arguments)],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + 60
        while not ready.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise AssertionError("the server did not start:\n" + self.story())
            time.sleep(0.02)
        self.address = json.loads(ready.read_text())["http_address"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
        self.log.close()

    def story(self):
        return (self.folder / "server.log").read_text()[-3000:]

    def connect(self, timeout=60):
        return http.client.HTTPConnection(self.address, timeout=timeout)

    def ask(self, method, path, body=None, connection=None):
        """(status, headers, document or text)."""
        own = connection or self.connect()
        data = body if body is None or isinstance(body, (bytes, str)) else json.dumps(body)
        own.request(method, path, data, {"Content-Type": "application/json"} if data else {})
        reply = own.getresponse()
        raw = reply.read()
        if connection is None:
            own.close()
        try:
            return reply.status, reply.headers, json.loads(raw)
        except ValueError:
            return reply.status, reply.headers, raw.decode()

    def complete(self, connection=None, path=TEXT, **fields):
        status, _, reply = self.ask("POST", path, fields, connection)
        assert status == 200, (status, reply)
        return reply

    def stream(self, path=TEXT, connection=None, **fields):
        """The events of a stream, one by one; fails unless [DONE] is the last."""
        own = connection or self.connect()
        own.request("POST", path, json.dumps({**fields, "stream": True}))
        reply = own.getresponse()
        assert reply.status == 200, (reply.status, reply.read())
        done = False
        for line in reply:
            if not line.strip():
                continue
            assert line.startswith(b"data: ") and not done, line
            if line.strip() == b"data: [DONE]":
                done = True
            else:
                yield json.loads(line[6:])
        assert done, "the stream broke off"
        if connection is None:
            own.close()

    def rss_kib(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])

    def metric(self, line_start):
        _, _, page = self.ask("GET", "/metrics")
        return sum(float(line.split()[-1]) for line in page.splitlines() if line.startswith(line_start))


def write_safetensors(path, tensors):
    """`tensors`: name → list of numbers, stored as float64."""
    header, data = {}, b""
    for name, numbers in tensors.items():
        packed = struct.pack(f"<{len(numbers)}d", *numbers)
        header[name] = {"dtype": "F64", "shape": [len(numbers)], "data_offsets": [len(data), len(data) + len(packed)]}
        data += packed
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def make_critic(folder, seed=5, **fields):
    """A random critic in a trainer's form: a body, and a head beside it."""
    model = {**TINY_MODEL, **fields}
    status, out, err = tramontane("init-model", "--tokenizer", TOKENIZER, "--out", folder, "--seed", str(seed), "--json",
                                  stdin=json.dumps(model))
    assert status == 0, out + err
    draw = random.Random(seed)
    write_safetensors(pathlib.Path(folder) / "value_head.safetensors", {
        "value_head.weight": [draw.gauss(0, 1) for _ in range(model["hidden_size"])], "value_head.bias": [0.25]})
    return folder


def mixed_requests(count, seed):
    """Prompts, lengths and settings of all kinds; each is a body of /v1/completions."""
    draw = random.Random(seed)
    bodies = []
    for number in range(count):
        prompt = [draw.randrange(256) for _ in range(draw.choice([1, 2, 5, 17, 40, 90, 150]))]
        bodies.append({"prompt": prompt, "max_tokens": draw.choice([1, 2, 8, 20, 60, 100]), "seed": number,
                       "temperature": draw.choice([0, 0.7, 1.0]), "top_p": draw.choice([1.0, 0.9]),
                       "top_k": draw.choice([0, 20]), "ignore_eos": draw.random() < 0.7, "logprobs": 0,
                       "n": draw.choice([1, 1, 1, 3]), "return_token_ids": True,
                       "stop": draw.choice([None, None, "a", ["xy", "e"]])})
    return bodies


def samples_of(choices):
    return [(c["token_ids"], c["text"], c["finish_reason"]) for c in choices]


def streamed_samples(events):
    """What a stream adds up to, in samples_of's form; the pieces' own order is kept."""
    samples = {}
    for event in events:
        for choice in event["choices"]:
            sample = samples.setdefault(choice["index"], [[], "", None])
            assert sample[2] is None, "a piece came behind its end"
            sample[0] += choice["token_ids"]
            sample[1] += choice["text"]
            sample[2] = choice["finish_reason"]
    return [tuple(samples[index]) for index in sorted(samples)]


def side_by_side(server, bodies, clients):
    """Each body's samples, asked by so many clients at once; every second one is streamed."""
    def work(numbers):
        connection = server.connect(timeout=240)
        answers = {}
        for number in numbers:
            if number % 2:
                answers[number] = streamed_samples(server.stream(connection=connection, **bodies[number]))
            else:
                answers[number] = samples_of(server.complete(connection, **bodies[number])["choices"])
        connection.close()
        return answers

    answers = {}
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        for part in pool.map(work, [range(i, len(bodies), clients) for i in range(clients)]):
            answers.update(part)
    return [answers[number] for number in range(len(bodies))]


def tiny_requests(server, count, clients):
    """So many requests of a token or two, as fast as they go; 429 is asked again."""
    def work(numbers):
        connection = server.connect()
        for number in numbers:
            body = {"prompt": [number % 256], "max_tokens": 1 + number % 2, "seed": number}
            while server.ask("POST", TEXT, body, connection)[0] != 200:
                time.sleep(0.01)
        connection.close()

    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        list(pool.map(work, [range(i, count, clients) for i in range(clients)]))
