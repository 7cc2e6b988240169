"""Suspicion as a number: the φ accrual failure detector (Hayashibara et al., 2004).

φ(t) = -log10(P(the next heartbeat comes later than t)), with the intervals between heartbeats taken as normally
distributed. φ = 1: of ten intervals of a living peer, one is as long as this silence; φ = 8: one of a hundred million.

The tail is the exact one of the normal distribution. The well-known detectors of the JVM use a logistic approximation
of it, which agrees near the mean and not where the decision is made: at 6 standard deviations it gives 10.8 for 9.0, at
10 it gives 37.6 for 23.1. With the exact tail a threshold is the probability that it says.

The rules of the history are Akka's: population variance; a floor for the standard deviation; the acceptable pause added
to the mean; two made-up intervals at the first heartbeat; an interval that ends a suspicion is not learned.

Left out: the decision what to do about a suspicion (probe, then fail), and the veto of an observer that itself stood
still (``health``).
"""

from __future__ import annotations

import math
from collections import deque

_LN_10 = math.log(10.0)
_SQRT_2 = math.sqrt(2.0)
_SQRT_2_PI = math.sqrt(2.0 * math.pi)

# From here on (in standard deviations) the asymptotic series of the tail is as exact as a float; erfc underflows at 38.
_FAR = 30.0

# Intervals are kept as whole multiples of 2**-50 s, finer than any clock.
_FRACTION_BITS = 50


def _tail(y: float) -> float:
    """Return -log10(1 - F(y)), F the standard normal distribution: strictly increasing from 0.0 to inf, never -0.0.

    The relative error is below 1e-12 for -10 <= y <= 40. Below y = -38 the result is less than the smallest float.
    """
    if y < 0.0:
        # 1 - F(y) is nearly 1: its distance from 1 keeps all digits, itself it would keep none.
        return -math.log1p(-0.5 * math.erfc(-y / _SQRT_2)) / _LN_10
    if y <= _FAR:
        return -math.log10(0.5 * math.erfc(y / _SQRT_2))
    # Abramowitz and Stegun 26.2.12; y * y may become inf, where y ** 2 would raise.
    r = 1.0 / (y * y)
    series = math.log1p(-r * (1 - 3 * r * (1 - 5 * r * (1 - 7 * r * (1 - 9 * r)))))
    return (0.5 * y * y + math.log(y * _SQRT_2_PI) - series) / _LN_10


class _Window:
    """The last ``size`` intervals with their mean and population standard deviation, O(1) per interval.

    The sums are integers and therefore exact: sums of floats would drift with every interval that leaves, and a
    variance made from them could become negative. Of integers it cannot (Cauchy-Schwarz).
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: deque[int] = deque()
        self._sum = 0
        self._squares = 0

    def add(self, value: int) -> None:
        """Append an interval of ``value * 2**-50`` seconds; the oldest one leaves a full window."""
        if len(self._values) >= self._size:
            oldest = self._values.popleft()
            self._sum -= oldest
            self._squares -= oldest * oldest
        self._values.append(value)
        self._sum += value
        self._squares += value * value

    def mean_and_std(self) -> tuple[float, float]:
        """Return both in seconds."""
        count = len(self._values)
        one = count << _FRACTION_BITS
        return self._sum / one, math.isqrt(count * self._squares - self._sum * self._sum) / one


def _fixed(seconds: float) -> int:
    numerator, denominator = seconds.as_integer_ratio()
    return (numerator << _FRACTION_BITS) // denominator


class PhiAccrualDetector:
    """Judge one peer by the times at which its heartbeats arrived.

    All times are monotonic seconds of one clock and go into each call. The peer is available as long as
    φ < ``threshold``; before its first heartbeat nothing is known and φ is 0.

    Args:
        threshold: The φ from which on the peer is suspected.
        window: How many intervals are remembered.
        min_std: The least standard deviation assumed, in seconds: a very regular peer may still be late once.
        acceptable_pause: Seconds of silence that are granted on top of the mean.
        first_interval: The interval, in seconds, to expect at first.

    Raises:
        ValueError: If ``acceptable_pause`` is negative, another argument is not above 0, or one is not finite.
    """

    def __init__(
        self,
        threshold: float = 8.0,
        window: int = 1000,
        min_std: float = 0.1,
        acceptable_pause: float = 0.0,
        first_interval: float = 1.0,
    ) -> None:
        above_zero = {"threshold": threshold, "window": window, "min_std": min_std, "first_interval": first_interval}
        for name, value in above_zero.items():
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be a finite number above 0, not {value}")
        if not 0 <= acceptable_pause < math.inf:
            raise ValueError(f"acceptable_pause must be a finite number, 0 or more, not {acceptable_pause}")
        self.threshold = threshold
        self.acceptable_pause = acceptable_pause
        self.min_std = min_std
        self._first_interval = first_interval
        self._window = _Window(window)
        self._last: float | None = None
        self._mean: float | None = None
        self._std: float | None = None

    @staticmethod
    def phi_of(elapsed: float, mean: float, std: float) -> float:
        """Return φ after ``elapsed`` seconds of silence, for intervals of ``mean`` and ``std`` seconds.

        Strictly increasing in ``elapsed`` as far as a float can tell; ``inf`` far beyond the mean. With ``std`` 0
        the limit: 0 before the mean, inf after it.

        Raises:
            ValueError: If ``std`` is negative or an argument is NaN.
        """
        late = elapsed - mean
        if not std >= 0.0 or math.isnan(late):
            raise ValueError(f"no suspicion can be computed from elapsed {elapsed}, mean {mean} and std {std}")
        if late == 0.0:
            return _tail(0.0)
        return _tail(late / std if std else math.copysign(math.inf, late))

    @property
    def mean(self) -> float | None:
        """The mean of the intervals in the window, in seconds; None before the first heartbeat."""
        return self._mean

    @property
    def std(self) -> float | None:
        """The population standard deviation of these intervals, in seconds, as it is without ``min_std``."""
        return self._std

    def heartbeat(self, now: float) -> None:
        """Record a heartbeat that arrived at ``now``.

        The interval that ends a suspicion is not learned: one long outage would teach the detector to tolerate the
        next. The paper does not ask for this; Akka's detector does the same.

        Raises:
            ValueError: If ``now`` is not finite, or earlier than the previous heartbeat.
        """
        if not math.isfinite(now) or (self._last is not None and now < self._last):
            raise ValueError(f"a heartbeat at {now} cannot follow the one at {self._last}: use one monotonic clock")
        if self._last is None:
            first = _fixed(self._first_interval)
            # Mean first_interval, standard deviation a quarter of it, until the peer shows its own rhythm.
            self._window.add(3 * first // 4)
            self._window.add(5 * first // 4)
        elif self.is_available(now):
            self._window.add(_fixed(now - self._last))
        self._last = now
        self._mean, self._std = self._window.mean_and_std()

    def phi(self, now: float) -> float:
        """Return the suspicion at ``now``: 0.0 or more, inf at most; 0.0 before the first heartbeat."""
        if self._last is None or self._mean is None or self._std is None:
            return 0.0
        return self.phi_of(now - self._last, self._mean + self.acceptable_pause, max(self._std, self.min_std))

    def is_available(self, now: float) -> bool:
        """Return whether φ is below the threshold at ``now``."""
        return self.phi(now) < self.threshold
