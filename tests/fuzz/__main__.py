"""``python -m tests.fuzz TARGET [--minutes M | --runs N] [--jobs J]``: see the package."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

from tests.fuzz.campaign import Effort, fuzz
from tests.fuzz.catalogue import TARGETS


def main() -> int:
    """Fuzz one target, all of them, or run inputs that are given; return 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz a decoder, guided by coverage.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="what to fuzz (see --list), one after the other")
    parser.add_argument("--list", action="store_true", help="say what targets there are")
    parser.add_argument("--minutes", type=float, default=1.0, help="CPU minutes for each target (default: 1)")
    parser.add_argument("--runs", type=int, default=0, help="inputs for each job, instead of minutes")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time, which share the minutes (default: 1)")
    parser.add_argument("--corpus", type=Path, default=Path("/tmp/meshvisor-corpus"), help="where inputs are kept")
    parser.add_argument("--replay", type=Path, nargs="+", default=[], metavar="FILE", help="run these inputs only")
    arguments = parser.parse_args()
    if arguments.list:
        for target in TARGETS.values():
            sys.stdout.write(f"{target.name:20} {target.text}\n")
        return 0
    if unknown := [name for name in arguments.targets if name not in TARGETS]:
        parser.error(f"no target {unknown[0]!r}; --list says what there is")
    if arguments.replay:
        for file in arguments.replay:
            TARGETS[arguments.targets[0]].run(file.read_bytes())
        return 0
    if importlib.util.find_spec("atheris") is None:
        parser.error("atheris is not installed (the extra `fuzz`); the tests in tests/fuzz run all targets without it")
    seconds = 0.0 if arguments.runs else 60 * arguments.minutes
    effort = Effort(seconds, arguments.runs, arguments.jobs)
    has_found = False
    for name in arguments.targets or TARGETS:
        outcome = fuzz(TARGETS[name], arguments.corpus / name, effort)
        sys.stdout.write(f"{outcome}\n")
        sys.stdout.flush()
        has_found |= bool(outcome.findings)
    return 1 if has_found else 0


if __name__ == "__main__":
    sys.exit(main())
