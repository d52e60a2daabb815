"""Compares `generate` with transformers: greedy ids must be the same, log-probabilities within 1e-4.

    python tests/integration/peers/generate_parity.py --tool build/release/bin/tramontane-generator
        [--also DIR …] [--prompts 8] [--new-tokens 48]

Run it with a Python that has torch and transformers 5. Makes small random checkpoints of the
families, each with a byte-level tokenizer, in a temporary folder; --also adds existing model folders.
Where the two part ways, the difference must be a tie: the two tokens' log-probabilities within 1e-4.
Exits 1 otherwise.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402
from tokenizers import Tokenizer, decoders, models, pre_tokenizers  # noqa: E402
from transformers import (  # noqa: E402
    AutoModelForCausalLM, LlamaConfig, MistralConfig, MixtralConfig, PreTrainedTokenizerFast, Qwen2Config,
    Qwen3Config, Qwen3MoeConfig)

TOLERANCE = 1e-4
VOCABULARY = 264


def write_checkpoint(kind, folder):
    common = dict(vocab_size=VOCABULARY, hidden_size=64, intermediate_size=160, num_hidden_layers=3,
                  num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512,
                  initializer_range=0.12, eos_token_id=256, bos_token_id=None, pad_token_id=257)
    config = {
        "llama": lambda: LlamaConfig(rope_theta=5000.0, **common),
        "mistral": lambda: MistralConfig(sliding_window=20, tie_word_embeddings=True, **common),
        "qwen2": lambda: Qwen2Config(**common),
        "qwen3": lambda: Qwen3Config(head_dim=32, tie_word_embeddings=True, **common),
        "qwen3_moe": lambda: Qwen3MoeConfig(num_experts=8, num_experts_per_tok=3, norm_topk_prob=True,
                                            moe_intermediate_size=56, mlp_only_layers=[1], **common),
        "mixtral": lambda: MixtralConfig(num_local_experts=4, **common),
    }[kind]()
    torch.manual_seed(sum(map(ord, kind)))
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    with torch.no_grad():  # biases and norms away from their trivial starts
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({symbol: i for i, symbol in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|end|>", "<|pad|>"])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>",
                            pad_token="<|pad|>").save_pretrained(folder)


def reference(model, prompt, new_tokens):
    """Greedy ids with their full log-probability rows."""
    out = model.generate(torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                         do_sample=False, max_new_tokens=new_tokens, output_logits=True,
                         return_dict_in_generate=True)
    ids = out.sequences[0, len(prompt):].tolist()
    rows = [logits[0].float().log_softmax(-1) for logits in out.logits]
    return ids, rows


def compare(tool, folder, arguments):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32,
                                                 attn_implementation="eager").eval()
    generator = torch.Generator().manual_seed(1)
    sizes = [1 + 9 * i for i in range(arguments.prompts)]
    prompts = [torch.randint(0, min(256, model.config.vocab_size), (size,), generator=generator).tolist()
               for size in sizes]
    document = {"prompts": prompts, "max_new_tokens": arguments.new_tokens, "temperature": 0}
    done = subprocess.run([tool, "generate", "--model", folder, "--json"], input=json.dumps(document),
                          capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        print(done.stdout, done.stderr, file=sys.stderr)
        return 1
    worst, ties, wrong, tokens = 0.0, 0, 0, 0
    for rollout in json.loads(done.stdout)["rollouts"]:
        ids, rows = reference(model, prompts[rollout["prompt_index"]], arguments.new_tokens)
        for i, (got, want) in enumerate(zip(rollout["tokens"], ids)):
            tokens += 1
            worst = max(worst, abs(rollout["logprobs"][i] - rows[i][got].item()))
            if got != want:
                tie = abs(rows[i][got].item() - rows[i][want].item()) <= TOLERANCE
                ties, wrong = ties + tie, wrong + (not tie)
                break
        else:
            wrong += len(rollout["tokens"]) != len(ids)
    print(f"{folder}: {tokens} tokens, {wrong} wrong, {ties} ties, largest log-probability difference {worst:.2e}")
    return int(wrong > 0 or worst > TOLERANCE)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tool", required=True)
    parser.add_argument("--also", nargs="*", default=[])
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--new-tokens", type=int, default=48)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    failures = 0
    with tempfile.TemporaryDirectory() as root:
        for kind in ["llama", "mistral", "qwen2", "qwen3", "qwen3_moe", "mixtral"]:
            folder = os.path.join(root, kind)
            write_checkpoint(kind, folder)
            failures += compare(arguments.tool, folder, arguments)
    for folder in arguments.also:
        failures += compare(arguments.tool, folder, arguments)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
