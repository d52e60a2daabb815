"""Command line: serve, test, convert."""
import argparse
import asyncio
import logging
import os
import sys

from tramontane_verifier import convert, selftest
from tramontane_verifier.pool import Pool, StartFailed
from tramontane_verifier.spec import digest, load


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tramontane-verifier")
    commands = parser.add_subparsers(dest="command", required=True)

    def common(command):
        command.add_argument("file", help="Python file with one @verifier function")
        command.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1))
        command.add_argument("--memory-mb", type=int, default=0,
                             help="address space of a worker; 0: no limit")

    serve = commands.add_parser("serve", help="serve the function over gRPC")
    common(serve)
    serve.add_argument("--bind", default="127.0.0.1:0", help="host:port; port 0 picks a free one")
    serve.add_argument("--max-waiting", type=int, default=4096,
                       help="requests that may wait; beyond it: overloaded")
    serve.add_argument("--recycle-after", type=int, default=1000,
                       help="calls after which a worker process is replaced")

    test = commands.add_parser("test", help="run the author's cases and an adversarial set")
    common(test)
    test.add_argument("--cases", help='JSONL: {"completion", "answer", …, "expect": {"reward": 1.0}}')
    test.add_argument("--timeout-s", type=float, help="for one execution; default: the verifier's")

    conv = commands.add_parser("convert", help="Parquet to JSONL")
    conv.add_argument("source")
    conv.add_argument("target")
    return parser


def _serve(args) -> int:
    from tramontane_verifier import service

    spec = load(args.file)
    pool = Pool(args.file, args.workers, args.max_waiting, spec.timeout_s, args.recycle_after,
                args.memory_mb)
    pool.start()
    try:
        asyncio.run(service.serve(spec, digest(args.file, spec), pool, args.bind))
    finally:
        pool.stop()
    return 0


def _test(args) -> int:
    spec = load(args.file)
    pool = Pool(args.file, args.workers, 16, spec.timeout_s, memory_mb=args.memory_mb)
    pool.start()
    try:
        findings = selftest.run(pool, args.cases, args.timeout_s or spec.timeout_s)
    finally:
        pool.stop()
    for finding in findings:
        print(f"{'ok  ' if finding.passed else 'FAIL'} {finding.case}: {finding.detail}")
    failed = sum(not finding.passed for finding in findings)
    print(f"{spec.name} {spec.version}: {len(findings) - failed} passed, {failed} failed")
    return 1 if failed else 0


def main(argv: list[str] | None = None) -> int:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr,
                        format="%(asctime)s %(levelname)s %(message)s")
    args = _parser().parse_args(argv)
    try:
        if args.command == "serve":
            return _serve(args)
        if args.command == "test":
            return _test(args)
        rows = convert.parquet_to_jsonl(args.source, args.target)
        print(f"{rows} rows written to {args.target}")
        return 0
    except (OSError, StartFailed, ValueError, TypeError) as e:
        print(f"tramontane-verifier {args.command}: {e}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
