"""How long a slot waits before its next start."""

from __future__ import annotations

from ..shared.config.model import Backoff


def restart_delay(backoff: Backoff, restart: int, draw: float) -> float:
    """Return the seconds to wait before the ``restart``-th restart in a row (from 1).

    The first one is immediate; the n-th waits ``d - jitter*d*draw`` with ``d = min(max, initial * factor**(n-2))``,
    where ``draw`` comes from a uniform distribution over [0, 1).
    """
    if restart <= 1:
        return 0.0
    try:
        longest = min(backoff.max, backoff.initial * backoff.factor ** (restart - 2))
    except OverflowError:
        longest = backoff.max
    return longest - backoff.jitter * longest * draw
