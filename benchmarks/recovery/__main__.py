"""``python -m benchmarks.recovery [--rounds N] [--turns T] [--only NAME]... [--json FILE]``: the table of recovery.

Every contender has the same number of workers (16), idle, one of which is hurt at a time, the others being left in
peace until all is well again; the contenders take turns. Times are CLOCK_MONOTONIC, taken right before the signal and
in the first line of the replacement. Ratios are to the first row of a discipline. meshvisor restarts a Python worker
whose imports are done and that is linked to 15 others; the others restart a process that knows nobody.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from ..table import Row, as_json, merge, render
from . import floor, ours, peers

N = 16
LARGE = 100

Scenario = Callable[[int], Iterator[Row]]

SCENARIOS: dict[str, Scenario] = {
    "floor": lambda rounds: floor.rows(N, max(3, rounds // 2)),
    "kill": lambda rounds: ours.kills(N, rounds),
    "kill-100": lambda rounds: ours.kills(LARGE, max(3, rounds // 4)),
    "stop": lambda rounds: ours.stops(N, rounds),
    "hang": lambda rounds: ours.hangs(N, max(3, rounds // 2)),
    "life-16": lambda rounds: ours.lives(N, max(3, rounds // 10)),
    "life-30": lambda rounds: ours.lives(30, max(3, rounds // 10)),
    "life-100": lambda rounds: ours.lives(LARGE, 3),
    **{name: partial(lambda name, rounds: peers.measure(name, N, rounds), name) for name in peers.CONTENDERS},
}


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.recovery",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=60, help="kills per row; slow contenders get fewer (default: 60)")
    parser.add_argument("--turns", type=int, default=2, help="in how many turns through all contenders (default: 2)")
    parser.add_argument("--only", choices=SCENARIOS, action="append", help="run these alone; may be repeated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples there, too")
    asked = parser.parse_args()
    rows: list[Row] = []
    began = time.monotonic()
    for turn in range(asked.turns):
        for name in asked.only or SCENARIOS:
            print(f"{time.monotonic() - began:6.0f} s  turn {turn + 1}: {name}", file=sys.stderr, flush=True)
            rows = merge([*rows, *SCENARIOS[name](max(1, asked.rounds // asked.turns))])
    load = os.getloadavg()[0]
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores, load {load:.1f}, {asked.rounds} rounds\n")
    print(render(rows), end="")
    if asked.json:
        asked.json.write_text(json.dumps(as_json(rows), indent=1) + "\n")


if __name__ == "__main__":
    main()
