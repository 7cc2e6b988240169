"""``python -m tests.control_storm [--slots N] [--seed S]``: exit with 1 if anything is wrong."""

from __future__ import annotations

import argparse
import sys

from .run import CLIENTS, Options, Outcome, run

LIMIT = 0.005
"""How long supervision may be held up, in seconds."""


def main() -> int:
    """Run the storm, print its figures, and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.control_storm",
        description=f"{CLIENTS} clients at once, clients killed, garbage: the control socket of a mesh of commands.",
    )
    parser.add_argument("--slots", type=int, default=100, help="of the mesh (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="what is drawn (default: 0)")
    asked = parser.parse_args()
    outcome = run(Options(slots=asked.slots, seed=asked.seed))
    sys.stdout.write(table(outcome))
    return 1 if outcome.faults or max(outcome.turns.values(), default=1.0) > LIMIT else 0


def table(outcome: Outcome) -> str:
    """Return the figures, one a line, and then what is wrong."""
    rows = [("slots, seed", f"{outcome.options.slots}, {outcome.options.seed}")]
    rows += [(f"answers: {kind}", str(number)) for kind, number in sorted(outcome.answers.items())]
    rows += [
        (f"longest turn of the supervisor: {part}", f"{turn * 1000:.1f} ms of CPU, in {outcome.seconds[part]:.1f} s")
        for part, turn in outcome.turns.items()
    ]
    rows.append(("its descriptors, at most", str(outcome.most_descriptors)))
    lines = [f"{name:<46}{value}" for name, value in rows]
    lines += [f"wrong: {fault}" for fault in outcome.faults] or ["All were answered or refused; nothing was left."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
