"""Programs run by Piston's POST /api/v2/execute and judged here from their output.

Wire: engineer-man/piston, docs/api-v2.md (language, version, files, stdin, run_timeout in ms,
run_memory_limit in bytes → run {stdout, stderr, code, signal}, compile {…}). A program killed by a
signal has failed; a service that answers anything else has, and is no reward.
"""
from typing import Any

from tramontane_verifier.adapters import _http, _programs
from tramontane_verifier.spec import Spec, verifier


def _run(url: str, language: str, version: str, run_timeout_s: float, memory_limit_mb: int):
    def run(code: str, stdin: str) -> tuple[bool, str, str]:
        reply = _http.post(f"{url}/api/v2/execute", {
            "language": language, "version": version, "files": [{"content": code}], "stdin": stdin,
            "run_timeout": int(run_timeout_s * 1000), "compile_timeout": int(run_timeout_s * 1000),
            "run_memory_limit": memory_limit_mb << 20,
        }, timeout_s=3 * run_timeout_s + 5)
        compiled = reply.get("compile") if isinstance(reply, dict) else None
        if compiled and compiled.get("code") != 0:
            return False, "", "does not compile: " + str(compiled.get("stderr"))[:300]
        ran = _http.field(reply, "run", dict, url)
        if "code" not in ran or "stdout" not in ran:
            raise _http.Unavailable(f"{url}: a run without code and stdout")
        if ran["code"] == 0 and not ran.get("signal"):
            return True, str(ran["stdout"]), ""
        return False, "", f"exit {ran['code']}, signal {ran.get('signal')}: " + str(
            ran.get("stderr") or "")[-300:]

    return run


def make(url: str, language: str = "python", language_version: str = "*", name: str = "piston",
         version: str = "1.0.0", run_timeout_s: float = 3.0, memory_limit_mb: int = 512,
         fraction: bool = False, timeout_s: float = 60.0) -> Spec:
    run = _run(url.rstrip("/"), language, language_version, run_timeout_s, memory_limit_mb)

    def judge(completion: str, tests: list[dict[str, str]]) -> Any:
        return _programs.judge(completion, tests, language, fraction, run)

    return verifier(name=name, version=version, timeout_s=timeout_s, needs=("network", "sandbox"))(judge)
