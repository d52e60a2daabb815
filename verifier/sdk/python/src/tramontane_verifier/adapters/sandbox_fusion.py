"""Programs run by SandboxFusion's POST /run_code and judged here from their output.

Wire: bytedance/SandboxFusion, `sandbox/server/sandbox_api.py` (RunCodeRequest, RunCodeResponse:
status Success | Failed | SandboxError, compile_result and run_result with status Finished | Error |
TimeLimitExceeded, return_code, stdout, stderr). A SandboxError is never a reward.
"""
from typing import Any

from tramontane_verifier.adapters import _http, _programs
from tramontane_verifier.spec import Spec, verifier


def _run(url: str, language: str, run_timeout_s: float, memory_limit_mb: int):
    def run(code: str, stdin: str) -> tuple[bool, str, str]:
        reply = _http.post(f"{url}/run_code", {
            "code": code, "language": language, "stdin": stdin, "compile_timeout": run_timeout_s,
            "run_timeout": run_timeout_s, "memory_limit_MB": memory_limit_mb,
        }, timeout_s=3 * run_timeout_s + 5)
        status = _http.field(reply, "status", str, url)
        if status not in ("Success", "Failed"):
            raise _http.Unavailable(f"{url}: {status}: {reply.get('message')}")
        compiled, ran = reply.get("compile_result"), reply.get("run_result")
        if status == "Failed" and compiled and compiled.get("return_code") != 0:
            return False, "", "does not compile: " + str(compiled.get("stderr"))[:300]
        if not isinstance(ran, dict):
            raise _http.Unavailable(f"{url}: {status} without run_result: {reply.get('message')}")
        if ran.get("status") == "Finished" and ran.get("return_code") == 0:
            return True, str(ran.get("stdout") or ""), ""
        return False, "", f"{ran.get('status')}, exit {ran.get('return_code')}: " + str(
            ran.get("stderr") or "")[-300:]

    return run


def make(url: str, language: str = "python", name: str = "sandbox_fusion", version: str = "1.0.0",
         run_timeout_s: float = 10.0, memory_limit_mb: int = 512, fraction: bool = False,
         timeout_s: float = 120.0) -> Spec:
    run = _run(url.rstrip("/"), language, run_timeout_s, memory_limit_mb)

    def judge(completion: str, tests: list[dict[str, str]]) -> Any:
        return _programs.judge(completion, tests, language, fraction, run)

    return verifier(name=name, version=version, timeout_s=timeout_s, needs=("network", "sandbox"))(judge)
