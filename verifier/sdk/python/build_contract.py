"""Compiles what a verifier serves of proto/tramontane/v1 into src/tramontane_verifier/contract.binpb.

A descriptor set instead of generated modules: nothing ties the package to the protobuf version it
was built with. Run by the build; run it by hand after a change of the contract in a checkout that
is used in place.
"""
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
FILES = ("tramontane/v1/verifier.proto", "tramontane/v1/control.proto",
         "tramontane/v1/environment.proto")
OUT = HERE / "src" / "tramontane_verifier" / "contract.binpb"


def proto_root() -> Path:
    # Beside this file in a copy made for building; at the top of a checkout otherwise.
    for root in [HERE / "proto", *(parent / "proto" for parent in HERE.parents)]:
        if (root / "tramontane" / "v1" / "verifier.proto").is_file():
            return root
    raise SystemExit("proto/tramontane/v1/verifier.proto not found: build from a full checkout")


def compiler() -> list[str]:
    """grpcio-tools where it is installed (it is, in a build), else the system's protoc."""
    try:
        import grpc_tools  # noqa: F401
    except ImportError:
        return ["protoc"]
    return [sys.executable, "-m", "grpc_tools.protoc"]


def build() -> None:
    root = proto_root()
    command = compiler()
    if len(command) > 1:
        import grpc_tools

        command.append(f"-I{Path(grpc_tools.__file__).parent / '_proto'}")
    command += [
        f"-I{root}",
        "--include_imports",
        f"--descriptor_set_out={OUT}",
        *FILES,
    ]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    build()
