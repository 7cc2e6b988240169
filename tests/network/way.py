"""One direction of a wire: when, how often and whether a packet arrives, decided from its size, the time and dice."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a direction does to packets.

    ``loss`` and ``duplication`` are probabilities; ``delay`` and ``jitter`` seconds (each packet takes between
    ``delay`` and ``delay + jitter``, so that they overtake each other); ``bandwidth`` bytes a second, None: any, with
    a queue of ``queue`` bytes in front, from which newcomers drop off when it is full.
    """

    loss: float = 0.0
    duplication: float = 0.0
    delay: float = 0.0
    jitter: float = 0.0
    bandwidth: float | None = None
    queue: int = 64 * 1024


PERFECT = Conditions()
BLACK_HOLE = Conditions(loss=1.0)


class Way:
    """One direction, with its conditions, which may be changed at any time."""

    def __init__(self) -> None:
        self.conditions = PERFECT
        self._free_at = 0.0  # when the last packet of the queue is on its way

    def carry(self, size: int, now: float, rng: random.Random) -> list[float]:
        """Return when a packet of ``size`` bytes that is sent at ``now`` arrives: never, once, or twice."""
        conditions = self.conditions
        if conditions.loss and rng.random() < conditions.loss:
            return []
        start = now
        if conditions.bandwidth is not None:
            start = max(now, self._free_at)
            if (start - now) * conditions.bandwidth + size > conditions.queue:
                return []
            self._free_at = start = start + size / conditions.bandwidth
        copies = 1 + (conditions.duplication > 0 and rng.random() < conditions.duplication)
        return [start + conditions.delay + conditions.jitter * rng.random() for _ in range(copies)]
