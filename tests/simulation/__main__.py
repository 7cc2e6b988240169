"""``python -m tests.simulation --seeds N [--first S]``: run many seeds; exit with 1 if any breaks an invariant."""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.run import run


def main() -> int:
    """Run the seeds and print the outcome of each; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description="Simulate whole meshes.")
    parser.add_argument("--seeds", type=int, default=100, help="how many seeds to run (default: 100)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default: 0)")
    parser.add_argument("--spares", type=int, default=0, help="spares that take the places of the dead (default: 0)")
    parser.add_argument("--quiet", action="store_true", help="print only the seeds that fail, and the sum")
    arguments = parser.parse_args()
    began = time.monotonic()
    failed = []
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        outcome = run(seed, arguments.spares)
        if outcome.violations:
            failed.append(seed)
        if outcome.violations or not arguments.quiet:
            sys.stdout.write(f"{outcome}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{arguments.seeds} seeds in {time.monotonic() - began:.0f} s, {len(failed)} failed {failed}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
