"""The ways to one peer: its endpoints, dialled under penalties, limits, a budget and back-off."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable

from ..core.choice import EndpointChoice, plan
from ..core.endpoint import Endpoint
from ..core.handshake import Identity
from ..core.penalties import FailureSeverity
from ..core.retry import Backoff, RetryBudget
from ..errors import ConnectFailed
from ..transport.base import TransportAdapter
from ..transport.registry import adapters_by_name
from .dialer import AttemptFailed, Dialer, Dialled, Proposal, shared_budget
from .options import ConnectionOptions
from .penalties import Blacklist, penalty_table
from .race import race

_PROVED = 1.0
"""Seconds that a connection must have lived for the next ones to be dialled without back-off."""

Answered = Callable[[Endpoint, Identity], Proposal]
"""Told which endpoint answered, and who it is: say what is wanted of it."""

Failed = Callable[[Endpoint, AttemptFailed], None]
"""Told that the attempt of an endpoint failed."""


class Ways:
    """Finds a connection to one peer; see the module.

    ``attempts`` says why each endpoint was not reached, by its key, since ``begin``.

    Raises:
        ValueError: If no adapter serves one of the endpoints.
    """

    def __init__(
        self,
        me: Identity,
        options: ConnectionOptions,
        adapters: Iterable[TransportAdapter] | None,
        budget: RetryBudget | None,
        rng: random.Random,
        blacklist: Blacklist | None = None,
    ) -> None:
        by_name = adapters_by_name(adapters)
        endpoints = [Endpoint.parse(item) if isinstance(item, str) else item for item in options.endpoints]
        missing = {endpoint.transport for endpoint in endpoints} - set(by_name)
        if missing:
            raise ValueError(f"endpoints: no adapter for the transport {', '.join(sorted(missing))}")
        self.attempts: dict[str, str] = {}
        self.dialer = Dialer(
            me,
            options.secret or b"",
            adapters=by_name,
            attempt_timeout=options.attempt_timeout,
            penalties=penalty_table(blacklist, options.endpoint_blacklist_duration),
        )
        self.choice = EndpointChoice(
            endpoints, self.dialer.penalties, max_per_minute=options.max_dials_per_minute_per_endpoint
        )
        self._options = options
        self._budget = budget
        self._rng = rng
        self._soft_backoff = Backoff(options.soft_backoff_initial, options.soft_backoff_cap)
        self._hard_backoff = Backoff(options.hard_backoff_initial, options.hard_backoff_cap)
        self._is_retrying = False  # the latest round led nowhere

    def begin(self, now: float) -> None:
        """Begin anew: forget what failed before, except penalties."""
        self.attempts.clear()
        self._is_retrying = False
        self._soft_backoff.reset()
        self._hard_backoff.reset()
        self._budget = self._budget or shared_budget()
        self._budget.deposit(now)

    def pause_after_loss(self, lived: float) -> float:
        """Return how long to wait before the first round after a connection that lived for ``lived`` seconds.

        The first is dialled at once, also after one that died young; those that keep dying young are backed off from.
        """
        if lived >= _PROVED:
            self._soft_backoff.reset()
            self._hard_backoff.reset()
        is_first = not self._hard_backoff.tries
        pause = self._hard_backoff.next(self._rng)
        return 0.0 if is_first else pause

    def pause_after_round(self) -> float:
        """Return how long to wait after a round that led nowhere."""
        self._is_retrying = True
        declined = self.dialer.last_severity is FailureSeverity.SOFT
        return (self._soft_backoff if declined else self._hard_backoff).next(self._rng)

    def wait(self, now: float) -> float:
        """Return how many seconds from ``now`` to wait for an endpoint that may be dialled; 0.0: there is one."""
        wait = self.choice.wait(now)
        return wait + self._rng.random() * self.dialer.penalties.spread if wait else 0.0

    async def race(self, candidates: list[Endpoint], answered: Answered, failed: Failed) -> Dialled | None:
        """Dial ``candidates`` as planned and return the first that is established.

        Raises:
            HandshakeError: If one refused for good.
        """
        options = self._options
        if not candidates:
            return None
        gate = asyncio.Lock()
        scheme = plan(
            candidates,
            delay=options.happy_eyeballs_delay,
            group_delay=options.happy_eyeballs_group_delay,
            max_concurrent=options.max_concurrent_dials,
        )
        now = asyncio.get_running_loop().time()
        overridden = {endpoint for endpoint in candidates if self.choice.barred_for(endpoint, now)}
        dialled = await race(
            candidates,
            scheme,
            lambda endpoint: self._attempt(endpoint, gate, answered, failed, endpoint in overridden),
        )
        if dialled is not None:
            self._is_retrying = False
        return dialled

    async def _attempt(
        self, endpoint: Endpoint, gate: asyncio.Lock, answered: Answered, failed: Failed, overrides: bool
    ) -> Dialled | None:
        now = asyncio.get_running_loop().time
        tracker = self.choice.tracker(endpoint)
        if not overrides and (barred := self.choice.barred_for(endpoint, now())):
            # Another process has found out since the race began.
            self.attempts.setdefault(endpoint.key, _barred(barred))
            return None
        if self._is_retrying and self._budget is not None and not self._budget.try_withdraw(now()):
            self.attempts.setdefault(endpoint.key, "the retry budget is spent")
            return None
        tracker.record_attempt(now())
        try:
            dialled = await self.dialer.attempt(endpoint, lambda peer: answered(endpoint, peer), gate=gate)
        except AttemptFailed as failure:
            tracker.record_failure(now(), 0.0)
            self.attempts[endpoint.key] = str(failure)
            if failure.fatal is not None:
                raise failure.fatal from None
            failed(endpoint, failure)
            return None
        tracker.record_success()
        return dialled

    def not_reached(self, node: str, within: str) -> ConnectFailed:
        """Return the error that names every attempt, and why there was none."""
        now = asyncio.get_running_loop().time()
        for endpoint in self.choice.endpoints:
            if endpoint.key not in self.attempts and (barred := self.choice.barred_for(endpoint, now)):
                self.attempts[endpoint.key] = _barred(barred)
        return ConnectFailed(node, tuple(self.attempts.items()), within)


def _barred(seconds: float) -> str:
    return f"not tried: it failed before, and is barred for another {seconds:.3g} s"
