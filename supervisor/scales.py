"""What the links of a mesh are compared by: how long they take, or how much they carry. Pure: facts in, numbers out."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from enum import StrEnum
from statistics import median

from .links import Pair
from .snapshot import MeshLinks


class Measure(StrEnum):
    """What a person may want to see of links that are up."""

    TRAFFIC = "traffic"
    RTT = "rtt"


class Traffic:
    """How many messages and frames of calls a node has sent to another one, over the link that there is.

    ``title`` is what the numbers are, ``combination`` what that of several links is, ``nothing`` what it means that
    there is none; from each of ``bounds`` on begins the next level.
    """

    title = "messages, calls and replies, sent from row to column"
    combination = "all of them where several links are taken together"
    nothing = "up, nothing sent"
    bounds: tuple[float, ...] = (10, 100, 1000, 10_000, 100_000)

    def value(self, pair: Pair, sender: str) -> float | None:
        """Return the number for one direction."""
        return pair.sent(sender)

    def combine(self, values: Sequence[float]) -> float:
        """Return the number of several links."""
        return sum(values)

    def level(self, value: float) -> int:
        """Return how much it is, from 0."""
        return bisect_right(self.bounds, value)

    def in_short(self, value: float) -> str:
        """Return ``value`` in three characters: ``999``, ``1k``, ``12M``, ``.1G``."""
        if value < 999.5:
            return f"{value:.0f}"
        for unit, bigger in (("k", "M"), ("M", "G"), ("G", "T")):
            value /= 1000
            if value < 99.5:
                return f"{value:.0f}{unit}"
            if value < 950:
                return f".{value / 100:.0f}{bigger}"
        return "##"

    def in_full(self, value: float) -> str:
        """Return ``value`` in eight characters or less."""
        return f"{value:,.0f}" if value < 1_000_000 else self.in_short(value)


class RoundTrip:
    """How long a link takes there and back; ``is_watched``: pings measure it all the time."""

    combination = "the median where several links are taken together"
    nothing = "up, not measured"
    bounds: tuple[float, ...] = (0.0003, 0.001, 0.003, 0.01, 0.03)

    def __init__(self, *, is_watched: bool) -> None:
        self.title = "round trip in ms" + ("" if is_watched else ", as it was when the link was made")

    def value(self, pair: Pair, sender: str) -> float | None:
        """Return seconds, the same in both directions."""
        return pair.rtt

    def combine(self, values: Sequence[float]) -> float:
        """Return the number of several links."""
        return median(values)

    def level(self, value: float) -> int:
        """Return how much it is, from 0."""
        return bisect_right(self.bounds, value)

    def in_short(self, value: float) -> str:
        """Return ``value`` in three characters: ``0.4``, ``120`` (ms), ``12s``."""
        if value < 0.00995:
            return f"{value * 1000:.1f}"
        return f"{value * 1000:.0f}" if value < 0.9995 else f"{min(value, 99.0):.0f}s"

    def in_full(self, value: float) -> str:
        """Return ``value`` in eight characters or less."""
        return f"{value * 1000:.2f}" if value < 0.09995 else f"{value * 1000:.0f}"


Scale = Traffic | RoundTrip


def scale_for(links: MeshLinks, measure: Measure | None = None) -> Scale:
    """Return the scale of ``measure``; without one, of what is news: the round trip where pings measure it."""
    is_watched = any(link.rttvar is not None for node in links.nodes for link in node.links)
    if measure is None:
        measure = Measure.RTT if is_watched else Measure.TRAFFIC
    return RoundTrip(is_watched=is_watched) if measure is Measure.RTT else Traffic()
