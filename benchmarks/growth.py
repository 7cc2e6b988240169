"""How a mesh grows with the number of its workers: ``python -m benchmarks.growth [--quick] [N ...]``.

One mesh for each N, formed by a zygote: how long that took, what a worker weighs, what all of them cost while nothing
happens, how long one that was killed is missing, and how soon all are gone once the supervisor was killed. Then the
same death where a spare waits, the same rest on uvloop, and the same birth of fresh interpreters.
"""

from __future__ import annotations

import argparse
import signal
from collections.abc import Iterator, Sequence

from .disciplines import IDLE, TO_MESH, TO_START
from .idle import measure, weigh
from .recovery.ours import Samples, formation, hurt, kills, life_rows, lives, orphan, running
from .table import Row, merge, render

COUNTS = (10, 30, 60, 100)
_FEW = (10, 100)
LARGE = 100


def grown(count: int, seconds: float, deaths: int, rounds: int) -> Iterator[Row]:
    """Live through the lives of ``rounds`` meshes of ``count`` workers, and be idle for ``seconds`` in each."""
    for _ in range(rounds):
        found: Samples = {"fork": [], "command": [], "pss": [], "gone": []}
        with running(count, "zygote", hang_timeout="100ms") as mesh:
            formation(mesh, count, found)
            idle = weigh(mesh, seconds)
            found["pss"].append(idle.worker_memory)
            starts, links = hurt(mesh, count, deaths, signal.SIGKILL)
            found["gone"].append(orphan(mesh))
        yield Row(IDLE, f"meshvisor, N = {count}, asyncio", [idle.workers], unit="%")
        yield Row(IDLE, f"meshvisor, N = {count}, the supervisor", [idle.supervisor], unit="%")
        yield Row(TO_START, f"meshvisor, N = {count}, zygote", starts)
        yield Row(TO_MESH, f"meshvisor, N = {count}, zygote", links)
        yield from life_rows(count, "zygote", found)


def rows(quick: bool, counts: Sequence[int] = ()) -> Iterator[Row]:
    """Measure all of it; ``quick``: once, and briefly."""
    seconds, deaths = (1.5, 3) if quick else (4.0, 5)
    counts = counts or (_FEW if quick else COUNTS)
    for count in counts:
        yield from grown(count, seconds, deaths, 2 if count >= LARGE and not quick else 1)
        yield from kills(count, 3 if quick else 10, ["spare"])
        if count == max(counts) or not quick:
            yield Row(IDLE, f"meshvisor, N = {count}, uvloop", [measure(count, seconds, "uvloop").workers], unit="%")
    if not quick:
        yield from lives(max(counts), 1, "spawn")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("counts", metavar="N", type=int, nargs="*", default=[])
    asked = parser.parse_args()
    print(render(merge(rows(asked.quick, asked.counts))), end="")


if __name__ == "__main__":
    main()
