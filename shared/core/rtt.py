"""How long an answer takes, smoothed, and how long to wait for one (RFC 6298, section 2)."""

from __future__ import annotations

import math

_INITIAL_RTO = 1.0  # RFC 6298, (2.1)


class RttEstimator:
    """Round-trip time of one path from samples of it, all in seconds.

    ``min_rto`` is below the 1 s of the RFC, as in Linux: our probes cost nothing that a network would have to be
    protected from. Not here, because they need to know the timer and the message: doubling ``rto`` after it expired
    (5.5), and Karn's rule never to sample an answer that could belong to either of two questions (3); a nonce in each
    ping tells them apart.

    Args:
        granularity: The resolution of the clock (the RFC's G).
        min_rto: The least ``rto``.
        max_rto: The greatest ``rto``.

    Raises:
        ValueError: If an argument is not finite and above 0, or ``min_rto`` is greater than ``max_rto``.
    """

    def __init__(self, granularity: float = 0.001, min_rto: float = 0.2, max_rto: float = 60.0) -> None:
        for name, value in (("granularity", granularity), ("min_rto", min_rto), ("max_rto", max_rto)):
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be a finite number of seconds above 0, not {value}")
        if min_rto > max_rto:
            raise ValueError(f"min_rto ({min_rto}) must not be greater than max_rto ({max_rto})")
        self._granularity = granularity
        self._min_rto = min_rto
        self._max_rto = max_rto
        self._estimate: tuple[float, float] | None = None

    @property
    def srtt(self) -> float | None:
        """The smoothed round-trip time; None before the first sample."""
        return None if self._estimate is None else self._estimate[0]

    @property
    def rttvar(self) -> float | None:
        """The smoothed deviation from ``srtt``; None before the first sample."""
        return None if self._estimate is None else self._estimate[1]

    @property
    def rto(self) -> float:
        """How long to wait for an answer before it counts as late; 1 s (within the limits) before the first sample."""
        rto = _INITIAL_RTO
        if self._estimate is not None:
            srtt, rttvar = self._estimate
            rto = srtt + max(self._granularity, 4.0 * rttvar)
        return min(self._max_rto, max(self._min_rto, rto))

    def sample(self, rtt: float) -> None:
        """Take in that one answer came after ``rtt`` seconds (0 is possible: clocks are coarse).

        Raises:
            ValueError: If ``rtt`` is negative or not finite; the estimate is unchanged then.
        """
        if not 0 <= rtt < math.inf:
            raise ValueError(f"a round-trip time must be a finite number of seconds, 0 or more, not {rtt}")
        if self._estimate is None:
            self._estimate = (rtt, rtt / 2.0)
            return
        srtt, rttvar = self._estimate
        # The deviation first: it is measured against the srtt from before this sample (2.3).
        rttvar = 0.75 * rttvar + 0.25 * abs(srtt - rtt)
        self._estimate = (0.875 * srtt + 0.125 * rtt, rttvar)
