"""``python -m tests.kills --kills N [--strategy S|all] [--seed S]``: exit with 1 if anything is wrong."""

from __future__ import annotations

import argparse
import sys

from .run import STRATEGIES, Kind, Options, Outcome, run

_INTERRUPTED = 130


def main() -> int:
    """Run the strategies that were asked for and print what came of each; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.kills",
        description="Kill random processes of a mesh of 16 workers on three levels, run by `supervise run`.",
    )
    parser.add_argument("--kills", type=int, default=500, help="how many at least (default: 500)")
    parser.add_argument("--strategy", choices=(*STRATEGIES, "all"), default="one_for_one", help="default: one_for_one")
    parser.add_argument("--seed", type=int, default=0, help="what the victims are drawn from (default: 0)")
    asked = parser.parse_args()
    is_wrong = False
    try:
        for strategy in STRATEGIES if asked.strategy == "all" else [asked.strategy]:
            outcome = run(Options(asked.kills, strategy, asked.seed))
            sys.stdout.write(table(outcome) + "\n")
            sys.stdout.flush()
            is_wrong |= bool(outcome.faults or outcome.refused)
    except KeyboardInterrupt:
        return _INTERRUPTED
    return 1 if is_wrong else 0


def table(outcome: Outcome) -> str:
    """Return the figures of ``outcome``, one a line, and then what is wrong."""
    options = outcome.options
    rows = [("strategy, seed", f"{options.strategy}, {options.seed}")]
    if outcome.refused:
        return "".join(f"{name:<46}{value}\n" for name, value in rows) + "not in this version\n"
    rows.append(("lives ended by SIGKILL", f"{outcome.kills} of {options.kills}, and {outcome.stop_kills} in the stop"))
    rows += [(f"  {kind}", f"{outcome.steps[kind]} times") for kind in Kind]
    rows += [("restarts", str(outcome.restarts)), ("time of the storm", f"{outcome.seconds:.1f} s")]
    lines = [f"{name:<46}{value}" for name, value in rows]
    lines += [f"wrong: {fault}" for fault in outcome.faults] or ["No slot was doubled or forgotten; nothing was left."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
