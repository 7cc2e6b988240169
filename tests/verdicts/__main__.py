"""``python -m tests.verdicts --minutes M [--hang-timeout S]``: exit with 1 if anybody is misjudged."""

from __future__ import annotations

import argparse
import statistics
import sys

from .judge import EXPECTED
from .run import Options, Outcome, run

_INTERRUPTED = 130


def main() -> int:
    """Run once and print the table; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.verdicts",
        description="Watch eight busy workers for false verdicts, then make one hang, stop and spin for right ones.",
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="how long to watch (default: 10)")
    parser.add_argument("--hang-timeout", type=float, default=0.1, help="seconds (default: 0.1)")
    parser.add_argument("--busy-timeout", type=float, default=1.0, help="seconds (default: 1)")
    parser.add_argument("--trials", type=int, default=100, help="how many, of all kinds together (default: 100)")
    asked = parser.parse_args()
    try:
        outcome = run(Options(**vars(asked)))
    except KeyboardInterrupt:
        return _INTERRUPTED
    sys.stdout.write(table(outcome))
    return 0 if outcome.is_good else 1


def table(outcome: Outcome) -> str:
    """Return the figures of ``outcome``, one a line, and then what is wrong."""
    if outcome.refused:
        keys = sorted({key.rpartition(".")[2] for key in outcome.refused})
        return f"not in this version: {', '.join(keys)}\n"
    lines = [f"{'false verdicts on the busy':<28}{len(outcome.false)} in {outcome.watched / 60:.1f} min and the trials"]
    for trial, tally in outcome.tallies.items():
        right = f"{tally.right(trial)} of {len(tally.verdicts)} {EXPECTED[trial]}"
        median = f", after {statistics.median(tally.times):.0f} ms (median)" if tally.times else ""
        others = sorted({verdict.value for verdict in tally.verdicts} - {EXPECTED[trial].value})
        lines.append(f"{trial:<28}{right}{median}" + (f"; also: {', '.join(others)}" if others else ""))
    lines.append(f"{'right verdicts':<28}{outcome.right} of {outcome.trials}")
    lines += [f"false: {text}" for text in outcome.false] + [f"wrong: {text}" for text in outcome.faults]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
