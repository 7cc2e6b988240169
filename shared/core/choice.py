"""Which of a peer's endpoints may be dialled now, in which order, and when the next one may."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .dialplan import DialPlan
from .endpoint import Endpoint
from .penalties import PenaltyTable
from .retry import EndpointDialTracker


class EndpointChoice:
    """The endpoints of one peer, those of the lowest priority number first, in the order given within one.

    A barred endpoint is left out, unless so many are that little would be left: when more than half of them and at
    least two are barred, all are tried, those that come free first in front (Envoy's panic threshold). An endpoint
    that asked for a pause, or whose penalty is fatal, is never dialled before that is over, and one whose dials failed
    ``max_per_minute`` times within a minute waits for the minute to end.
    """

    def __init__(self, endpoints: Iterable[Endpoint], penalties: PenaltyTable, *, max_per_minute: int) -> None:
        self.endpoints = tuple(sorted(endpoints, key=lambda endpoint: endpoint.priority))
        self._penalties = penalties
        self._trackers = {endpoint.key: EndpointDialTracker(max_per_minute) for endpoint in self.endpoints}

    def tracker(self, endpoint: Endpoint) -> EndpointDialTracker:
        """Return the account of dials of ``endpoint``."""
        return self._trackers[endpoint.key]

    def barred_for(self, endpoint: Endpoint, now: float) -> float:
        """Return for how many seconds ``endpoint`` is still barred (0.0: not at all)."""
        return self._penalties.remaining(endpoint.key, now)

    def candidates(self, now: float, *, above: int | None = None) -> list[Endpoint]:
        """Return what may be dialled now; with ``above``, only what is preferred to that priority."""
        order: Sequence[Endpoint] = self.endpoints
        held = self._penalties.remaining
        if self._is_panic(now):
            order = sorted(order, key=lambda endpoint: self._penalties.remaining(endpoint.key, now))
            held = self._penalties.firm
        return [
            endpoint
            for endpoint in order
            if not held(endpoint.key, now)
            and self._is_within_rate(endpoint, now)
            and (above is None or endpoint.priority < above)
        ]

    def wait(self, now: float) -> float:
        """Return how many seconds from ``now`` the first endpoint may be dialled; 0.0: at once."""
        if self.candidates(now):
            return 0.0
        held = self._penalties.firm if self._is_panic(now) else self._penalties.remaining
        return min(max(held(endpoint.key, now), self._trackers[endpoint.key].delay(now)) for endpoint in self.endpoints)

    def barred(self, now: float) -> int:
        """Return how many endpoints are barred."""
        return sum(self._penalties.remaining(endpoint.key, now) > 0 for endpoint in self.endpoints)

    def _is_panic(self, now: float) -> bool:
        barred = self.barred(now)
        return barred >= 2 and 2 * barred > len(self.endpoints)

    def _is_within_rate(self, endpoint: Endpoint, now: float) -> bool:
        return self._trackers[endpoint.key].may_dial(now)


def plan(candidates: Sequence[Endpoint], *, delay: float, group_delay: float, max_concurrent: int) -> DialPlan:
    """Return the plan for ``candidates``: an endpoint of the next priority waits ``group_delay`` seconds longer."""
    extra = [
        group_delay if number and endpoint.priority > candidates[number - 1].priority else 0.0
        for number, endpoint in enumerate(candidates)
    ]
    return DialPlan(len(candidates), delay=delay, max_concurrent=max_concurrent, extra=extra)
