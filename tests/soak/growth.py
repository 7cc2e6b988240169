"""Whether something grows: figures taken when all was calm, once a round, in; verdicts out. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

_FEWEST = 6
_MIB = 1024 * 1024
_SHARE = 0.1
_COUNT, _COUNT_SHARE = 2, 0.05
"""What may be under way at any moment: a health check, a client, a spare that is being made."""


@dataclass(frozen=True, slots=True)
class Trend:
    """The medians of the first and the last third of a figure, after warm-up, and by how much it may have grown."""

    name: str
    samples: int
    first: float
    last: float
    allowed: float

    @property
    def is_growing(self) -> bool:
        """Whether the figure has grown beyond what is allowed."""
        return self.last - self.first > self.allowed


@dataclass(frozen=True, slots=True)
class Sample:
    """All figures at one moment; those in bytes are in ``sizes``, those of things that can be counted in ``counts``."""

    sizes: Mapping[str, float]
    counts: Mapping[str, float]


def trends(samples: list[Sample]) -> list[Trend]:
    """Return what has become of each figure that every sample has; nothing if there are too few to tell.

    The first fifth is warm-up: caches fill, logs reach the size at which they are rotated.
    """
    if len(samples) < _FEWEST:
        return []
    warm = samples[max(1, len(samples) // 5) :]
    third = max(1, len(warm) // 3)
    found = []
    for name in sorted(set.intersection(*(set(sample.sizes) for sample in warm))):
        values = [sample.sizes[name] for sample in warm]
        first, last = statistics.median(values[:third]), statistics.median(values[-third:])
        found.append(Trend(name, len(values), first, last, max(_SHARE * first, 2 * _MIB)))
    for name in sorted(set.intersection(*(set(sample.counts) for sample in warm))):
        values = [sample.counts[name] for sample in warm]
        first, last = statistics.median(values[:third]), statistics.median(values[-third:])
        found.append(Trend(name, len(values), first, last, max(_COUNT_SHARE * first, _COUNT)))
    return found
