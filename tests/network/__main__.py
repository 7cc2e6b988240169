"""``python -m tests.network --seconds N [--seed S]``: exit with 1 if anything is wrong, with 77 where it cannot be."""

from __future__ import annotations

import argparse
import asyncio
import sys

from .namespace import missing
from .report import table
from .run import run

_INTERRUPTED = 130
_SKIPPED = 77


def main() -> int:
    """Run once and print the table; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.network",
        description="Link two machines, each in a network namespace of its own, over a wire that fails in every way.",
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (default: a minute)")
    parser.add_argument("--seed", type=int, default=0, help="what faults are drawn from (default: 0)")
    arguments = parser.parse_args()
    if reason := missing():
        sys.stderr.write(f"not tried: {reason}\n")
        return _SKIPPED
    try:
        outcome = asyncio.run(run(arguments.seconds, arguments.seed))
    except KeyboardInterrupt:
        return _INTERRUPTED
    sys.stdout.write(table(outcome))
    return 1 if outcome.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
