"""Compares the text library with transformers: ids, decoded text, streamed text, chat templates.

    python tests/integration/peers/text_parity.py --tool build/release/bin/text_tool
        [--also DIR …] [--rounds 60] [--seed 0] [--write-golden tests/golden/text]

Run it with a Python that has transformers 5, tokenizers and sentencepiece. Makes its own tokenizers
(text_kinds.py) in a temporary folder; --also adds existing model folders. Exits 1 on any difference.
"""
import argparse
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import text_kinds  # noqa: E402
from transformers import AutoTokenizer  # noqa: E402

ALPHABETS = [
    "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789", "     \t\n\r", " \n",
    "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", "äöüßéèñçøåÆŒſıİ", "абвгдежзАБВЪ", "東京日本語中文的一是不了",
    "ひらがなカタカナ", "العربية", "हिन्दीनमस्ते", "ไทยภาษา", "한국어조선글", "😀🎉👩‍👩‍👧🇩🇪✨", "½²³№™ﬁ㎏①Ⅷ", "\u00a0\u2003\u200b\u3000\ufeff\u0085",
    "\x00\x01\x1c\x1f\x7f", "e\u0301a\u0308\u0323\u1100\u1161", "𝔘𝕟𝒾\U00010348\U0010ffff", "'s't're 'LL'D'ſ", "▁▂Ġċ�",
]


def random_text(rng, specials):
    out = []
    for _ in range(rng.randint(1, 12)):
        if specials and rng.random() < 0.12:
            out.append(rng.choice(specials))
            continue
        alphabet = rng.choice(ALPHABETS)
        out.append("".join(rng.choice(alphabet) for _ in range(rng.randint(1, 9))))
        if rng.random() < 0.4:
            out.append(" ")
    return "".join(out)


class Tool:
    def __init__(self, path):
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8")

    def ask(self, model, call, arguments):
        request = {"model": str(model), "call": call, "in": arguments}
        self.process.stdin.write(json.dumps(request, ensure_ascii=True) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=30)


class Tally:
    def __init__(self):
        self.checked, self.wrong = 0, 0

    def same(self, what, mine, theirs, given):
        self.checked += 1
        if mine != theirs:
            self.wrong += 1
            if self.wrong <= 12:
                print(f"DIFFERS {what}\n  given  {given!r}\n  ours   {mine!r}\n  theirs {theirs!r}")


def specials_of(tokenizer):
    return [t.content for t in tokenizer.added_tokens_decoder.values()]


def check_tokens(name, folder, tool, rng, rounds, tally):
    """Returns a golden record of a few of the comparisons."""
    theirs = AutoTokenizer.from_pretrained(str(folder))
    texts = [random_text(rng, specials_of(theirs)) for _ in range(rounds)]
    texts += ["", " ", "\n\n", "Hello world", " leading and trailing  ", "a  b   c", "don't I'LL we've"]
    golden = {"texts": texts[:12] + texts[rounds:]}
    for special in (False, True):
        mine = tool.ask(folder, "tokenize", {"texts": texts, "add_special_tokens": special})
        expected = [theirs.encode(t, add_special_tokens=special) for t in texts]
        golden[f"ids_special_{special}"] = expected[:12] + expected[rounds:]
        for text, a, b in zip(texts, mine.get("ids", [mine] * len(texts)), expected):
            tally.same(f"{name} encode special={special}", a, b, text)
    size = len(theirs)
    rows = [theirs.encode(t, add_special_tokens=True) for t in texts]
    rows += [[rng.randrange(size) for _ in range(rng.randint(1, 24))] for _ in range(rounds)]
    rows += [[rng.randrange(min(size, 260)) for _ in range(rng.randint(1, 12))] for _ in range(rounds)]
    golden["rows"] = rows[:8] + rows[-12:] + rows[len(texts):len(texts) + 8]
    for skip in (False, True):
        mine = tool.ask(folder, "tokenize", {"ids": rows, "skip_special_tokens": skip})
        expected = [theirs.decode(r, skip_special_tokens=skip) for r in rows]
        golden[f"decoded_skip_{skip}"] = [theirs.decode(r, skip_special_tokens=skip) for r in golden["rows"]]
        for row, a, b in zip(rows, mine.get("texts", [mine] * len(rows)), expected):
            tally.same(f"{name} decode skip={skip}", a, b, row)
    streamed = tool.ask(folder, "stream", {"ids": rows})
    for row, a in zip(rows, streamed.get("texts", [streamed] * len(rows))):
        tally.same(f"{name} stream", a, theirs.decode(row), row)
    golden["vocab_size"] = size
    return golden


def rendered(theirs, chat):
    try:
        return {"text": theirs.apply_chat_template(tokenize=False, conversation=chat["messages"], **{
            k: v for k, v in chat.items() if k != "messages"})}
    except Exception as error:  # the template's own exceptions are part of the comparison
        return {"error": f"{type(error).__name__}: {error}"}


def check_templates(name, folder, tool, tally):
    theirs = AutoTokenizer.from_pretrained(str(folder))
    golden = []
    for chat in text_kinds.CHATS:
        expected = rendered(theirs, chat)
        mine = tool.ask(folder, "template", chat)
        tally.same(f"{name} template", mine.get("text", "<error>"), expected.get("text", "<error>"),
                   [chat, mine.get("error"), expected.get("error")])
        golden.append({"in": chat, "text": expected.get("text")})
    return golden


def template_folders(root, base):
    """One folder a template style; the last has several named ones."""
    for name, source in text_kinds.TEMPLATES.items():
        folder = root / f"template_{name}"
        shutil.copytree(base, folder)
        (folder / "chat_template.jinja").write_text(source)
        yield name, folder
    folder = root / "template_named"
    shutil.copytree(base, folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["chat_template"] = [{"name": "default", "template": "plain {{ messages | length }}"},
                               {"name": "tool_use", "template": "tools {{ tools | tojson }}"}]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    yield "named", folder


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tool", required=True)
    parser.add_argument("--also", nargs="*", default=[])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write-golden", type=pathlib.Path)
    args = parser.parse_args()
    rng, tool, total = random.Random(args.seed), Tool(args.tool), Tally()
    with tempfile.TemporaryDirectory() as temp:
        root = pathlib.Path(temp)
        kinds = text_kinds.make_kinds(root / "kinds")
        demo = pathlib.Path(__file__).parents[3] / "examples/demo/tokenizer"
        kinds["demo"] = demo
        kinds.update({f"also {p}": pathlib.Path(p) for p in args.also})
        for name, folder in kinds.items():
            tally = Tally()
            golden = check_tokens(name, folder, tool, rng, args.rounds, tally)
            if AutoTokenizer.from_pretrained(str(folder)).chat_template:
                check_templates(name, folder, tool, tally)
            print(f"{name}: {tally.checked - tally.wrong} of {tally.checked} agree", flush=True)
            total.checked, total.wrong = total.checked + tally.checked, total.wrong + tally.wrong
            if args.write_golden and name in GOLDEN_KINDS:
                write_golden(args.write_golden / name, folder, golden)
        for name, folder in template_folders(root, kinds["llama3"]):
            tally = Tally()
            golden = check_templates(name, folder, tool, tally)
            print(f"template {name}: {tally.checked - tally.wrong} of {tally.checked} agree", flush=True)
            total.checked, total.wrong = total.checked + tally.checked, total.wrong + tally.wrong
            if args.write_golden and "strftime_now" not in text_kinds.TEMPLATES.get(name, ""):
                target = args.write_golden / f"template_{name}"
                target.mkdir(parents=True, exist_ok=True)
                write_template_golden(target, folder, golden)
    tool.close()
    print(f"{total.checked - total.wrong} passed, {total.wrong} failed")
    sys.exit(1 if total.wrong else 0)


GOLDEN_KINDS = ["llama3", "qwen_class", "llama2_legacy", "mistral_legacy", "unigram", "unigram_bytes",
                "wordpiece", "many_splits", "tekken", "demo"]
GOLDEN_FILES = ["tokenizer.json", "tokenizer_config.json", "tekken.json", "config.json"]


def write_golden(target, folder, golden):
    target.mkdir(parents=True, exist_ok=True)
    for name in GOLDEN_FILES:
        if (folder / name).exists():
            text = json.dumps(json.loads((folder / name).read_text()), ensure_ascii=False, separators=(",", ":"))
            (target / name).write_text(text + "\n")
    (target / "expected.json").write_text(json.dumps(golden, ensure_ascii=True) + "\n")


def write_template_golden(target, folder, golden):
    if (folder / "chat_template.jinja").exists():
        shutil.copy(folder / "chat_template.jinja", target)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    if (folder / "chat_template.jinja").exists():
        config.pop("chat_template", None)
    (target / "tokenizer_config.json").write_text(json.dumps(config) + "\n")
    (target / "expected.json").write_text(json.dumps(golden, ensure_ascii=True) + "\n")


if __name__ == "__main__":
    main()
