"""Makes examples/demo/tokenizer: one token a byte, so that a tiny model sees every digit.

    python examples/demo/make_tokenizer.py [OUT_DIR]

Ids: 0-255 the bytes (in the order of their printable stand-ins), 256 <|endoftext|>,
257 <|im_start|>, 258 <|im_end|> (special), 259 <think>, 260 </think> (kept when decoding).
Needs the PyPI package `tokenizers`; the result is committed, so nothing else does.
"""
import json
import pathlib
import sys

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
PLAIN = ["<think>", "</think>"]
TEMPLATE = """\
{% for message in messages %}
{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{% if add_generation_prompt %}
{{ '<|im_start|>assistant\\n' }}
{%- endif %}
"""
CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "clean_up_tokenization_spaces": False,
    "eos_token": "<|im_end|>",
    "pad_token": "<|endoftext|>",
    "padding_side": "left",
    "model_max_length": 512,
}
GENERATION = {"eos_token_id": 258, "pad_token_id": 256}


def main():
    default = pathlib.Path(__file__).parent / "tokenizer"
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default
    out.mkdir(parents=True, exist_ok=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in PLAIN])
    assert [tokenizer.token_to_id(t) for t in SPECIAL + PLAIN] == list(range(256, 261))
    tokenizer.save(str(out / "tokenizer.json"))
    (out / "chat_template.jinja").write_text(TEMPLATE)
    for name, value in [("tokenizer_config", CONFIG), ("generation_config", GENERATION)]:
        (out / f"{name}.json").write_text(json.dumps(value, indent=2) + "\n")


if __name__ == "__main__":
    main()
