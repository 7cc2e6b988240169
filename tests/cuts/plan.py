"""Where a run is cut, and how: drawn from its seed before it begins."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a cut does to a connection."""

    RESET = "reset"
    """Both ends get a reset, and what was on its way is gone."""
    CLOSE = "close mid-frame"
    """Both ends get the end of a stream that stops within a frame."""
    HALF_OPEN_UP = "half-open, towards the host"
    """What the manager writes vanishes from now on."""
    HALF_OPEN_DOWN = "half-open, towards the manager"
    """What the host writes vanishes from now on."""
    HALF_OPEN_BOTH = "half-open, both ways"
    """Whatever either writes vanishes from now on, and neither is told."""


@dataclass(frozen=True, slots=True)
class Cut:
    """One cut, due when ``at`` bytes have been carried in all.

    It falls into the piece that is being carried then: ``share`` of the piece, from 0 to 1, still arrives. A cut that
    is ``whole`` concerns the control channel and the data channel, another only the one that carried the piece; a
    connection that goes half-open does so as a whole, like a path on which packets are lost.
    """

    at: int
    kind: Kind
    share: float
    whole: bool


_BEGIN, _END = 0.01, 0.9


def draw(seed: int, cuts: int, total: int) -> list[Cut]:
    """Return ``cuts`` cuts in the order of their places, all well before the last of ``total`` bytes.

    Each third of them, resets, closes and half-open connections, is as large as the others up to one.
    """
    rng = random.Random(seed)
    half_open = (Kind.HALF_OPEN_UP, Kind.HALF_OPEN_DOWN, Kind.HALF_OPEN_BOTH)
    kinds = [(Kind.RESET, Kind.CLOSE, half_open[number // 3 % 3])[number % 3] for number in range(cuts)]
    rng.shuffle(kinds)
    places = sorted(rng.randrange(int(total * _BEGIN), int(total * _END)) for _ in range(cuts))
    return [
        Cut(at, kind, rng.random(), kind in half_open or rng.random() < 0.5)
        for at, kind in zip(places, kinds, strict=True)
    ]
