"""Writes tiny random checkpoints and their log-probabilities under transformers.

Run from anywhere, with transformers 5 and torch installed:  python make_golden.py
Each case becomes a folder here with config.json (or the older form of it), model.safetensors and
expected.json {"tokens", "logprobs"}; entry t is log p(token t+1 | tokens <= t) in float32.
"""

import json
import pathlib

import torch
from transformers import (LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM,
                          MixtralConfig, MixtralForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config,
                          Qwen3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM)

HERE = pathlib.Path(__file__).parent
SIZES = dict(vocab_size=61, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
             num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
             initializer_range=0.3, bos_token_id=None, eos_token_id=3)


def rope(kind, **more):
    return dict(rope_parameters=dict(rope_type=kind, rope_theta=10000.0, **more))


CASES = {
    "llama": (LlamaConfig, LlamaForCausalLM, dict(rms_norm_eps=1e-5)),
    "llama_biases_tied": (LlamaConfig, LlamaForCausalLM,
                          dict(attention_bias=True, mlp_bias=True, tie_word_embeddings=True)),
    "llama_linear": (LlamaConfig, LlamaForCausalLM, rope("linear", factor=2.0)),
    "llama_dynamic": (LlamaConfig, LlamaForCausalLM, rope("dynamic", factor=2.0)),
    "llama_llama3": (LlamaConfig, LlamaForCausalLM,
                     rope("llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
                          original_max_position_embeddings=16)),
    "qwen3_yarn": (Qwen3Config, Qwen3ForCausalLM,
                   dict(head_dim=16, **rope("yarn", factor=4.0, original_max_position_embeddings=16))),
    "mistral_window": (MistralConfig, MistralForCausalLM, dict(sliding_window=7)),
    "mistral_head_dim": (MistralConfig, MistralForCausalLM,
                         dict(head_dim=12, sliding_window=None, num_key_value_heads=1)),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, dict(tie_word_embeddings=True)),
    "qwen2_window": (Qwen2Config, Qwen2ForCausalLM,
                     dict(use_sliding_window=True, sliding_window=5, max_window_layers=1)),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, dict(head_dim=16, tie_word_embeddings=True)),
    "qwen3_bias_untied": (Qwen3Config, Qwen3ForCausalLM, dict(head_dim=8, attention_bias=True)),
    "qwen3_moe": (Qwen3MoeConfig, Qwen3MoeForCausalLM,
                  dict(head_dim=16, num_experts=5, num_experts_per_tok=2, moe_intermediate_size=20,
                       norm_topk_prob=True, num_hidden_layers=3, mlp_only_layers=[1])),
    "qwen3_moe_plain": (Qwen3MoeConfig, Qwen3MoeForCausalLM,
                        dict(num_experts=4, num_experts_per_tok=3, moe_intermediate_size=12,
                             decoder_sparse_step=2, num_hidden_layers=4, use_sliding_window=True,
                             sliding_window=7)),
    "mixtral": (MixtralConfig, MixtralForCausalLM, dict(num_local_experts=4, intermediate_size=24)),
}
# The same model with its config as transformers 4 wrote it.
OLD_FORM = {"llama_linear", "llama_llama3", "qwen2", "qwen2_window", "qwen3_moe_plain"}
LENGTHS = [1, 2, 9, 33, 50]
LONG = {"llama_dynamic": [20, 64, 65, 90]}  # past the trained length the base grows


def to_old_form(config):
    parameters = config.pop("rope_parameters")
    config["rope_theta"] = parameters.pop("rope_theta")
    kind = parameters.pop("rope_type")
    config["rope_scaling"] = None if kind == "default" else dict(parameters, rope_type=kind)
    config["torch_dtype"] = config.pop("dtype")
    config.pop("layer_types", None)
    if config["model_type"] == "qwen3_moe":
        config["num_experts"] = config.pop("num_local_experts")
    config["transformers_version"] = "4.51.0"
    return config


def main():
    for number, (name, (config_class, model_class, fields)) in enumerate(CASES.items()):
        torch.manual_seed(number)
        model = model_class(config_class(**{**SIZES, **fields})).eval()
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                # Norm weights and biases away from 1 and 0, or their use would go unseen.
                if "norm" in key:
                    parameter.uniform_(0.5, 1.5)
                elif key.endswith("bias"):
                    parameter.normal_(0, 0.3)
        out = HERE / name
        model.save_pretrained(out)
        (out / "generation_config.json").unlink(missing_ok=True)
        if name in OLD_FORM:
            config = json.loads((out / "config.json").read_text())
            (out / "config.json").write_text(json.dumps(to_old_form(config), indent=2) + "\n")
        generator = torch.Generator().manual_seed(100 + number)
        rows = [torch.randint(SIZES["vocab_size"], (length,), generator=generator)
                for length in LONG.get(name, LENGTHS)]
        logprobs = []
        for row in rows:
            with torch.no_grad():
                logits = model(row[None]).logits[0].float()
            chosen = torch.log_softmax(logits[:-1], -1).gather(1, row[1:, None])[:, 0]
            logprobs.append([round(x, 7) for x in chosen.tolist()])
        (out / "expected.json").write_text(
            json.dumps({"tokens": [row.tolist() for row in rows], "logprobs": logprobs}) + "\n")
        print(name, sum(p.numel() for p in model.parameters()))


if __name__ == "__main__":
    main()
