"""How long to wait before the next try."""

from __future__ import annotations

from typing import Protocol


class Dice(Protocol):
    """A source of randomness; ``random.Random`` is one."""

    def random(self) -> float:
        """Return a number in [0, 1)."""


class Backoff:
    """Exponential back-off with full jitter: the n-th wait is drawn from [0, min(cap, initial * 2**(n-1))] seconds.

    Full jitter is what keeps many clients of one dead server apart; see "Exponential Backoff And Jitter", AWS
    Architecture Blog, 2015.
    """

    def __init__(self, initial: float, cap: float) -> None:
        self.tries = 0
        self._initial = initial
        self._cap = cap

    def next(self, rng: Dice) -> float:
        """Return the next wait in seconds."""
        ceiling = min(self._cap, self._initial * 2.0 ** min(self.tries, 60))
        self.tries += 1
        return rng.random() * ceiling

    def reset(self) -> None:
        """Begin again with the shortest wait."""
        self.tries = 0
