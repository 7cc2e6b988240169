"""What the common runner measures of recovery."""

from __future__ import annotations

from collections.abc import Iterator

from ..table import Row
from . import floor, ours, peers

N = 16
LOADS = (0, 2, 4, 8, 16)
"""Busy processes beside a mesh in which a loop hangs."""


def rows(quick: bool) -> Iterator[Row]:
    """Kill and stop workers, and have them hang; as many kills as a 99th percentile needs."""
    ways = ("spare", "zygote")
    yield from floor.rows(N, 4 if quick else 20)
    yield from ours.kills(N, 12 if quick else 100, ways)
    yield from ours.kills(N, 2 if quick else 5, ["spawn"])
    yield from ours.stops(N, 4 if quick else 20, ways)
    yield from ours.hangs(N, 3 if quick else 8, ["zygote"], (0, 8) if quick else LOADS)


def others(quick: bool) -> Iterator[Row]:
    """Kill and stop the workers of other supervisors, and these themselves."""
    for name in peers.CONTENDERS:
        yield from peers.measure(name, N, 5 if quick else 12, brief=quick)
