"""Command line: init, validate, test, serve, replay, pack, convert, environment."""
import argparse
import asyncio
import importlib.metadata
import json
import logging
import os
import sys
from pathlib import Path

from tramontane_verifier import (contract, convert, dataset_check, package, replay, scaffold, selftest,
                                 styles)
from tramontane_verifier.pool import Pool, StartFailed
from tramontane_verifier.spec import digest, files_of, load

# What the C++ program of the same name takes, and this one does not.
_OTHERS_OPTIONS = {"--config", "--ready-file", "--exit-with-parent"}
_TARGET = "FILE.py, FILE.py:FUNCTION, MODULE:FUNCTION or PACKAGE.zip"


def _version() -> str:
    version = importlib.metadata.version("tramontane-verifier")
    return f"tramontane-verifier {version} (protocol {contract.PROTOCOL_VERSION}), the Python package"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tramontane-verifier")
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(dest="command", required=True)

    def add(name, text, pooled=True):
        command = commands.add_parser(name, help=text)
        command.add_argument("target", help=_TARGET)
        command.add_argument("--name", default="", help="replaces what the verifier calls itself")
        command.add_argument("--version", default="", help="replaces what it says of its version")
        if pooled:
            command.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1))
            command.add_argument("--memory-mb", type=int, default=0,
                                 help="address space of a worker; 0: no limit")
        return command

    init = commands.add_parser("init", help="write a verifier to start from, and its first cases")
    init.add_argument("target", metavar="NAME")
    init.add_argument("--folder", default=".")

    for name, text in (("validate", "check signature, determinism, hostile completions, bad rows"),
                       ("test", "run the author's cases")):
        command = add(name, text)
        command.add_argument("--cases", help='JSONL: {"completion", "answer", …, "expect": {"reward": '
                             '1.0}}; default: NAME_cases.jsonl beside NAME.py')
        command.add_argument("--timeout-s", type=float, help="for one execution; default: the verifier's")
        if name == "validate":
            command.add_argument("--data", nargs="+", default=[], metavar="FILE",
                                 help="JSONL rows: every gold answer must be right, nothing must not")
            command.add_argument("--gold", default="", metavar="TEMPLATE",
                                 help="how a completion says it, e.g. '<answer>$answer</answer>'; it may "
                                 "name any column")
            command.add_argument("--limit", type=int, default=0, help="rows of each file; 0: all")

    serve = add("serve", "serve the function over gRPC")
    serve.add_argument("--bind", default="127.0.0.1:0", help="host:port; port 0 picks a free one")
    serve.add_argument("--metrics-bind", default="127.0.0.1:0",
                       help="host:port of /metrics; port 0 picks a free one, '' switches it off")
    serve.add_argument("--max-workers", type=int, default=16,
                       help="workers there may be while all are blocked (they sleep, or wait for a "
                       "service) and requests wait")
    serve.add_argument("--max-waiting", type=int, default=4096,
                       help="requests that may wait; beyond it: overloaded")
    serve.add_argument("--recycle-after", type=int, default=1000,
                       help="calls after which a worker process is replaced")
    serve.add_argument("--max-request-mb", type=float, default=32, help="larger requests are bad input")

    again = add("replay", "score a run's stored rollouts again, and show what differs")
    again.add_argument("run", help="run directory")
    again.add_argument("--verifier", default="", help="only rollouts judged by this one")
    again.add_argument("--kind", choices=("train", "eval"), default="train")
    again.add_argument("--limit", type=int, default=0, help="samples; 0: all")
    again.add_argument("--json", action="store_true")

    pack = add("pack", "write the verifier as one file, with its digest", pooled=False)
    pack.add_argument("--out", default=".", help="folder")

    world = commands.add_parser("environment", help="serve an environment for multi-turn rollouts")
    world.add_argument("target", metavar="FILE.py[:CLASS]")
    world.add_argument("--bind", default="127.0.0.1:0", help="host:port; port 0 picks a free one")

    conv = commands.add_parser("convert", help="Parquet to JSONL")
    conv.add_argument("source")
    conv.add_argument("target")
    return parser


def _load(args):
    return load(args.target, args.name, args.version)


def _pool(args, spec, max_waiting=256, recycle_after=1000, most_workers=0) -> Pool:
    pool = Pool(args.target, args.workers, max_waiting, spec.timeout_s, recycle_after, args.memory_mb,
                args.name, args.version, most_workers)
    pool.start()
    return pool


def _init(args) -> int:
    file, cases = scaffold.init(args.target, args.folder)
    print(f"{file}  the verifier\n{cases}  what it should say\n\n"
          f"next: tramontane-verifier test {file}")
    return 0


def _serve(args) -> int:
    from tramontane_verifier import service

    spec = _load(args)
    pool = _pool(args, spec, args.max_waiting, args.recycle_after, args.max_workers)
    try:
        asyncio.run(service.serve(spec, digest(args.target, spec), pool, args.bind, args.metrics_bind,
                                  int(args.max_request_mb * (1 << 20))))
    finally:
        pool.stop()
    return 0


def _tell(spec, findings) -> int:
    for finding in findings:
        print(f"{'ok  ' if finding.passed else 'FAIL'} {finding.case}: {finding.detail}")
    failed = sum(not finding.passed for finding in findings)
    print(f"{spec.name} {spec.version}: {len(findings) - failed} passed, {failed} failed")
    return 1 if failed else 0


def _test(args) -> int:
    spec = _load(args)
    cases = args.cases or scaffold.cases_path(args.target)
    pool = _pool(args, spec)
    try:
        examiner = selftest.Examiner(spec, pool, args.timeout_s or spec.timeout_s)
        return _tell(spec, examiner.run_cases(cases))
    finally:
        pool.stop()


def _validate(args) -> int:
    spec = _load(args)
    needed = styles.required_params(spec.function, spec.style, spec.group)
    print(f"{spec.name} {spec.version}, digest {digest(args.target, spec)}\n"
          f"called as {spec.style}, {'whole groups' if spec.group else 'sample by sample'}; "
          f"params that rows must have: {', '.join(needed) or 'none'}")
    cases = Path(args.cases) if args.cases else scaffold.cases_path(args.target)
    example = {}
    if args.data:
        example = next((row.request for row in dataset_check.read_rows(args.data[0], 1)), {})
    elif args.cases or cases.is_file():
        example = next((case for _, case in selftest.read_cases(cases)), {})
        example = {k: v for k, v in example.items() if k not in ("completion", "expect")}
    pool = _pool(args, spec)
    try:
        timeout_s = args.timeout_s or spec.timeout_s
        findings = selftest.Examiner(spec, pool, timeout_s).run_adversarial(example)
        check = dataset_check.DatasetCheck(spec, pool, timeout_s)
        for path in args.data:
            findings += check.run(path, args.gold, args.limit)
        return _tell(spec, findings)
    finally:
        pool.stop()


def _replay(args) -> int:
    spec = _load(args)
    pool = _pool(args, spec)
    try:
        document = replay.replay(spec, pool, args.run, args.verifier, args.kind, args.limit)
    finally:
        pool.stop()
    document |= {"verifier": spec.name, "version": spec.version, "digest": digest(args.target, spec)}
    print(json.dumps(document) if args.json else replay.render(document))
    return 0


def _pack(args) -> int:
    spec = _load(args)
    files = files_of(args.target, spec)
    entry = next(iter(files)) + "".join(args.target.partition(":")[1:])
    description = {"name": spec.name, "version": spec.version, "digest": digest(args.target, spec),
                   "style": spec.style, "group": spec.group, "needs": list(spec.needs)}
    manifest = package.pack(files, entry, description, Path(args.out))
    print(json.dumps({"manifest": str(manifest), **description}))
    return 0


def _environment(args) -> int:
    from tramontane_verifier import environment, environment_service

    asyncio.run(environment_service.serve(environment.load(args.target), args.target, args.bind))
    return 0


def _convert(args) -> int:
    rows = convert.parquet_to_jsonl(args.source, args.target)
    print(f"{rows} rows written to {args.target}")
    return 0


_COMMANDS = {"init": _init, "validate": _validate, "test": _test, "serve": _serve,
             "replay": _replay, "pack": _pack, "convert": _convert,
             "environment": _environment}


def main(argv: list[str] | None = None) -> int:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr,
                        format="%(asctime)s %(levelname)s %(message)s")
    given = sys.argv[1:] if argv is None else argv
    if given[:1] == ["grade"] or _OTHERS_OPTIONS.intersection(given):
        print("tramontane-verifier: this is the Python package's command; the built-in graders are in "
              "the C++ program of the same name, which lies beside `tramontane`", file=sys.stderr)
        return 2
    args = _parser().parse_args(given)
    try:
        return _COMMANDS[args.command](args)
    except (OSError, StartFailed, ValueError, TypeError, ImportError, SyntaxError) as e:
        print(f"tramontane-verifier {args.command}: {type(e).__name__}: {e}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
