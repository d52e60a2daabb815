#!/usr/bin/env python3
"""Decoding beside transformers' `generate` and llama.cpp: same checkpoints, same machine, one run.

    python tests/bench/versus_transformers.py [--models 1M,10M,100M] [--batches 1,16,64]
        [--threads 1,2] [--rounds 3] [--tool build/release/bin/tramontane] [--keep DIR] [--json FILE]

Makes random Llama checkpoints with `tramontane init-model`, then samples --new-tokens after prompts
of --prompt-tokens at temperature 1 in float32: a round of one, a round of the other, --rounds times,
with each number of threads; the best rate of each counts. Needs a Python with torch and
transformers 5. With `xllamacpp` and `gguf` beside them the 100M model is also measured in llama.cpp
at batch 1 (float32 GGUF, written here); without, that line is left out.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402

try:
    import gguf
    import xllamacpp
except ImportError:
    xllamacpp = None

SOURCE = pathlib.Path(__file__).resolve().parents[2]
SHAPES = {
    "1M": dict(hidden_size=128, intermediate_size=384, num_hidden_layers=4, num_attention_heads=4,
               num_key_value_heads=2, vocab_size=512),
    "10M": dict(hidden_size=320, intermediate_size=864, num_hidden_layers=8, num_attention_heads=5,
                num_key_value_heads=5, vocab_size=1024),
    "100M": dict(hidden_size=768, intermediate_size=2048, num_hidden_layers=12, num_attention_heads=12,
                 num_key_value_heads=12, vocab_size=16384),
}
TARGETS = {"1M": 3.0, "10M": 3.0, "100M": 1.5}
LLAMA_CPP_TARGET = 0.9


def make_checkpoint(tool, name, folder):
    config = dict(model_type="llama", max_position_embeddings=2048, tie_word_embeddings=True, **SHAPES[name])
    folder.mkdir()
    subprocess.run([tool, "init-model", "--out", folder, "--tokenizer", SOURCE / "examples/demo/tokenizer",
                    "--seed", "1", "--json"], input=json.dumps(config),
                   text=True, stdout=subprocess.DEVNULL, check=True)


def ours(args, folder, batch, threads):
    done = subprocess.run([args.tool, "bench", "generate", "--model", folder, "--batch", str(batch),
                           "--threads", str(threads), "--prompt-tokens", str(args.prompt_tokens),
                           "--new-tokens", str(args.new_tokens), "--rounds", "2"],
                          stdout=subprocess.PIPE, text=True, check=True)
    out = json.loads(done.stdout)
    return dict(out["runs"][0], memory_gb_per_s=out["memory_gb_per_s"])


def theirs(args, model, batch, threads):
    torch.set_num_threads(threads)
    prompts = torch.randint(0, model.config.vocab_size, (batch, args.prompt_tokens))
    best = 0
    for _ in range(2):
        before = time.perf_counter()
        with torch.inference_mode():
            out = model.generate(prompts, attention_mask=torch.ones_like(prompts), do_sample=True,
                                 max_new_tokens=args.new_tokens, min_new_tokens=args.new_tokens,
                                 top_k=0, pad_token_id=0)
        seconds = time.perf_counter() - before
        assert out.shape[1] == args.prompt_tokens + args.new_tokens
        best = max(best, batch * args.new_tokens / seconds)
    return best


def write_gguf(model, path):
    """A float32 GGUF of a Llama model with a made-up vocabulary: prompts are given as ids."""
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL] + [gguf.TokenType.BYTE] * 256
    tokens += [f"t{i}" for i in range(len(tokens), config.vocab_size)]
    kinds += [gguf.TokenType.NORMAL] * (config.vocab_size - len(kinds))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        for projection, heads in (("q_proj", config.num_attention_heads), ("k_proj", config.num_key_value_heads)):
            if f".{projection}." in name:  # llama.cpp rotates neighbours, not halves
                tensor = tensor.reshape(heads, 2, -1, tensor.shape[-1]).swapaxes(1, 2).reshape(tensor.shape)
        writer.add_tensor(names.get_name(name, (".weight", ".bias")), tensor.float().contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def llama_cpp(args, path, vocab, threads):
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx = args.prompt_tokens + args.new_tokens + 16
    params.n_parallel = 1
    params.warmup = True
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    server = xllamacpp.Server(params)
    best = 0
    for round_ in range(args.rounds):
        prompt = torch.randint(300, vocab, (args.prompt_tokens,)).tolist()
        before = time.perf_counter()
        out = server.handle_completions({"prompt": prompt, "n_predict": args.new_tokens, "ignore_eos": True,
                                         "temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0,
                                         "cache_prompt": False, "seed": round_})
        seconds = time.perf_counter() - before
        out = json.loads(out) if isinstance(out, str) else out
        usage = out.get("usage", {}).get("completion_tokens", out.get("tokens_predicted"))
        assert usage == args.new_tokens, out
        best = max(best, args.new_tokens / seconds)
    return best


def measure(args, name, folder, report):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    size = sum(p.numel() for p in model.parameters())
    for batch in args.batches:
        row = dict(model=name, parameters=size, batch=batch, tramontane=0, transformers=0)
        for _ in range(args.rounds):
            for threads in args.threads:
                row["transformers"] = max(row["transformers"], theirs(args, model, batch, threads))
                run = ours(args, folder, batch, threads)
                if run["tokens_per_second"] > row["tramontane"]:
                    row.update(tramontane=run["tokens_per_second"], threads=threads,
                               roofline_share=run["roofline_share"], memory_gb_per_s=run["memory_gb_per_s"])
        row["ratio"] = row["tramontane"] / row["transformers"]
        row["target"] = TARGETS[name]
        report.append(row)
        print(f"{name:>5} batch {batch:>3}: tramontane {row['tramontane']:>9.0f} tok/s ({row['threads']} threads, "
              f"{row['roofline_share']:.0%} of bandwidth), transformers {row['transformers']:>9.0f}: "
              f"{row['ratio']:.1f}x (target {row['target']})", flush=True)
    if name != "100M" or xllamacpp is None or 1 not in args.batches:
        return
    path = folder / "model.gguf"
    write_gguf(model, path)
    best = max(llama_cpp(args, path, model.config.vocab_size, threads) for threads in args.threads)
    mine = next(row["tramontane"] for row in report if row["model"] == name and row["batch"] == 1)
    report.append(dict(model=name, batch=1, tramontane=mine, llama_cpp=best, ratio=mine / best,
                       target=LLAMA_CPP_TARGET))
    print(f"{name:>5} batch   1: tramontane {mine:>9.0f} tok/s, llama.cpp {best:>9.0f}: {mine / best:.2f}x "
          f"(target {LLAMA_CPP_TARGET})", flush=True)


def numbers(text):
    return [int(part) for part in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--models", type=lambda text: text.split(","), default=list(SHAPES))
    parser.add_argument("--batches", type=numbers, default=[1, 16, 64])
    parser.add_argument("--threads", type=numbers, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompt-tokens", type=int, default=16)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--tool", default=str(SOURCE / "build/release/bin/tramontane"))
    parser.add_argument("--keep", type=pathlib.Path, help="folder for the checkpoints; reused when they are there")
    parser.add_argument("--json", type=pathlib.Path, help="write the rows here, too")
    args = parser.parse_args()
    torch.manual_seed(0)
    report = []
    with tempfile.TemporaryDirectory() as scratch:
        root = args.keep or pathlib.Path(scratch)
        root.mkdir(parents=True, exist_ok=True)
        for name in args.models:
            if not (root / name / "config.json").exists():
                make_checkpoint(args.tool, name, root / name)
            measure(args, name, root / name, report)
    if args.json:
        args.json.write_text(json.dumps(report, indent=1))
    missed = [row for row in report if row["ratio"] < row["target"]]
    print(f"{len(report) - len(missed)} of {len(report)} targets reached")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
