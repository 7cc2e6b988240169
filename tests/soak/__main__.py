"""``python -m tests.soak --minutes N [--seed S]``: exit with 1 if a mesh under random faults breaks a promise."""

from __future__ import annotations

import argparse
import sys

from .report import table
from .run import Options, run

_INTERRUPTED = 130


def main() -> int:
    """Run once and print the report; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak",
        description="A mesh of 16 workers under all faults there are, and what must hold all the time.",
    )
    parser.add_argument("--minutes", type=float, default=1.0, help="how long (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="what all is drawn from (default: 0)")
    parser.add_argument("--keep", action="store_true", help="keep the folder of logs even if nothing is wrong")
    asked = parser.parse_args()
    outcome = run(Options(asked.minutes * 60, asked.seed, asked.keep))
    sys.stdout.write(table(outcome))
    if outcome.is_interrupted:
        return _INTERRUPTED
    return 1 if outcome.faults.count else 0


if __name__ == "__main__":
    sys.exit(main())
