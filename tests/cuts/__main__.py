"""``python -m tests.cuts --messages N --cuts C --transport unix|tcp [--seed S]``: exit with 1 if anything is wrong."""

from __future__ import annotations

import argparse
import asyncio
import sys

from .report import table
from .run import Options, run

_INTERRUPTED = 130


def _natural(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError
    return number


def main() -> int:
    """Run once and print the table; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.cuts",
        description="Send numbered messages both ways between two processes while their connection is cut at random.",
    )
    parser.add_argument(
        "--messages", type=_natural, default=1_000_000, help="how many go each way (default: a million)"
    )
    parser.add_argument("--cuts", type=_natural, default=200, help="how often the connection is cut (default: 200)")
    parser.add_argument("--transport", choices=("unix", "tcp"), default="unix", help="default: unix")
    parser.add_argument("--seed", type=int, default=0, help="what kinds and places of cuts are drawn from (default: 0)")
    arguments = parser.parse_args()
    if not arguments.messages:
        parser.error("--messages must be at least 1")
    try:
        outcome = asyncio.run(run(Options(**vars(arguments))))
    except KeyboardInterrupt:
        return _INTERRUPTED
    sys.stdout.write(table(outcome))
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    sys.exit(main())
