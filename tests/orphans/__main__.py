"""``python -m tests.orphans --times N [--seed S]``: exit with 1 if anything outlives its supervisor."""

from __future__ import annotations

import argparse
import statistics
import sys

from .run import Moment, Outcome, Target, run

_INTERRUPTED = 130


def main() -> int:
    """Run once and print what came of it; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.orphans",
        description="Kill the supervisor of a mesh, its zygote, or both, at random moments, and count who is left.",
    )
    parser.add_argument("--times", type=int, default=100, help="how often (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="what the moments are drawn from (default: 0)")
    asked = parser.parse_args()
    try:
        outcome = run(asked.times, asked.seed)
    except KeyboardInterrupt:
        return _INTERRUPTED
    sys.stdout.write(table(outcome))
    return 1 if outcome.faults else 0


def table(outcome: Outcome) -> str:
    """Return the figures of ``outcome``, one a line, and then what is wrong."""
    rows = [("times, seed", f"{sum(outcome.hits.values())} of {outcome.times}, {outcome.seed}")]
    for moment in Moment:
        counts = ", ".join(f"{outcome.hits[moment, target]} {target}" for target in Target)
        rows.append((f"  {moment}", counts))
    if outcome.gone:
        median, longest = statistics.median(outcome.gone), max(outcome.gone)
        rows.append(("everything gone, median / longest", f"{median * 1000:.0f} / {longest * 1000:.0f} ms"))
    rows.append(("zygotes met", str(outcome.zygotes) if outcome.zygotes else "none: there are none in this version"))
    rows.append(("unguarded grandchildren, left to the next start", str(outcome.grandchildren)))
    lines = [f"{name:<50}{value}" for name, value in rows]
    lines += [f"wrong: {fault}" for fault in outcome.faults] or ["Nothing has outlived its supervisor."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
