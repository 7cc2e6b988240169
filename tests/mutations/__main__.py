"""``python -m tests.mutations [--files GLOB] [--sample N] [--seed S] [--jobs J]``: which mistakes nobody notices."""

from __future__ import annotations

import argparse
import os
import sys

from .run import Case, sample, survivors


def main() -> None:
    """Make the mistakes that were asked for, and print each that the tests let pass: a gap in them, or no mistake."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutations",
        description="Make mistakes in the modules that decide (tests/pure.py), and see whether their tests notice.",
    )
    parser.add_argument("--files", default="*.py", metavar="GLOB", help="which modules (default: all), as core/link.py")
    parser.add_argument("--sample", type=int, default=100, metavar="N", help="how many mistakes (default: 100)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="what they are drawn by (default: 0)")
    parser.add_argument("--jobs", type=int, default=1, metavar="J", help="how many at a time (default: 1)")
    asked = parser.parse_args()
    os.nice(10)
    cases = sample(asked.files, asked.sample, asked.seed)

    def told(case: Case, is_unnoticed: bool) -> None:
        if is_unnoticed:
            sys.stdout.write(f"{case.diff()}\n\n")
            sys.stdout.flush()

    left = survivors(cases, asked.jobs, told)
    sys.stdout.write(f"{len(cases)} mistakes, {len(left)} of them unnoticed\n")


if __name__ == "__main__":
    main()
