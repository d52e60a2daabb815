#!/usr/bin/env python3
"""Checks the include rules of docs/architecture.md: arrows never point up or sideways, torch stays
in its rooms, and gRPC/protobuf stay in services and cli. Prints each breach; exit status 1 if any."""
import pathlib
import re
import sys

# Room (folder, or file without its ending) → rooms it may include. A longer name wins.
MAY_USE = {
    "common": set(),
    "text": {"common"},
    "queue": {"common"},
    "data": {"common", "text"},
    "model": {"common", "text"},
    "model/weights": {"common"},
    "model/weights/flatten": {"common", "model"},
    "verifier": {"common"},
    "verifier/sdk/cpp": {"common", "verifier", "services"},
    "generator": {"common", "text", "data", "model"},
    "generator/core": {"common"},
    "trainer": {"common", "text", "data", "queue", "model"},
    "services": {"common", "text", "data", "queue", "model", "verifier", "generator", "trainer"},
    "services/verifier": {"common", "verifier", "services"},
    "cli": {"common", "text", "data", "queue", "verifier", "model/model_config", "trainer/ledger",
            "services"},
}
TORCH = re.compile(r"^(torch|ATen|c10)/")
TORCH_ROOMS = ("model", "generator", "trainer/learner", "deps/torch")
TORCH_FREE = ("model/weights/manifest", "model/weights/transport", "model/model_config",
              "model/safetensors", "model/fused", "model/ops/cpu", "generator/core",
              "generator/engine.h", "trainer/learner/learner.h")
WIRE = re.compile(r"^(grpc|grpcpp|google/protobuf|tramontane/v1)/")
WIRE_ROOMS = ("services", "cli")
INCLUDE = re.compile(r'^\s*#\s*include\s+[<"]([^>"]+)[>"]', re.MULTILINE)


def within(path, room):
    return path.startswith((room + "/", room + "."))


def room_of(path):
    return max((room for room in MAY_USE if within(path, room)), key=len, default=None)


def breaches(path, include):
    if TORCH.match(include) and (not path.startswith(TORCH_ROOMS) or path.startswith(TORCH_FREE)):
        yield "torch is not for this file"
    if WIRE.match(include) and not path.startswith(WIRE_ROOMS):
        yield "gRPC and protobuf belong to services and cli"
    here, there = room_of(path), room_of(include)
    if not here or not there or here == there or there.startswith(here + "/"):
        return
    if not any(within(include, room) for room in MAY_USE[here]):
        yield f"{here} must not use {there}"


def main(root):
    found = 0
    for source in sorted(root.glob("**/*")):
        path = source.relative_to(root).as_posix()
        if source.suffix not in (".h", ".cc", ".cu", ".inc") or not room_of(path):
            continue
        for include in INCLUDE.findall(source.read_text(encoding="utf-8")):
            for why in breaches(path, include):
                print(f"{path}: includes {include}: {why}")
                found += 1
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
