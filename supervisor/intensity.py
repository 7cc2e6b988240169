"""The restart limit: how many incidents within how long are too many."""

from __future__ import annotations

from collections import deque


class RestartIntensity:
    """A sliding window over incidents, as in OTP's ``supervisor`` (``add_restart``), but with a clock of floats.

    More than ``max_restarts`` incidents within ``window`` seconds exceed the limit. The edge belongs to the window:
    an incident that is exactly ``window`` old still counts, as in OTP.

    Raises:
        ValueError: If ``max_restarts`` is negative or ``window`` is not a finite number above 0.
    """

    def __init__(self, max_restarts: int, window: float) -> None:
        if max_restarts < 0:
            raise ValueError(f"max_restarts must be 0 or more, not {max_restarts}")
        if not 0 < window < float("inf"):
            raise ValueError(f"window must be a finite number of seconds above 0, not {window}")
        self.max_restarts = max_restarts
        self.window = window
        # One more than the limit is all that a verdict needs, so the memory is bounded however fast the incidents are.
        self._incidents: deque[float] = deque(maxlen=max_restarts + 1)

    def record(self, now: float) -> bool:
        """Count an incident at ``now`` (monotonic seconds) and return whether the limit is exceeded."""
        self._incidents.append(now)
        while now - self._incidents[0] > self.window:
            self._incidents.popleft()
        return len(self._incidents) > self.max_restarts
