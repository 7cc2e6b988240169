"""Several endpoints of one peer, tried side by side as planned; the first that is established wins."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

from ..core.dialplan import DialPlan
from ..core.endpoint import Endpoint
from .dialer import Dialled

Attempt = Callable[[Endpoint], Awaitable[Dialled | None]]
"""Try one endpoint: the connection, None if that failed, or an exception that ends the race."""

_Running = dict[asyncio.Task[Dialled | None], int]


async def race(candidates: Sequence[Endpoint], plan: DialPlan, attempt: Attempt) -> Dialled | None:
    """Return the first connection that is established; all others are ended, and closed, by then (HE4, HE10).

    Raises:
        Exception: Whatever ``attempt`` raises.
    """
    now = asyncio.get_running_loop().time
    running: _Running = {}
    try:
        while not plan.is_exhausted:
            for index in plan.start(now()):
                running[asyncio.create_task(_as_task(attempt, candidates[index]))] = index
            deadline = plan.deadline()
            timeout = None if deadline is None else max(0.0, deadline - now())
            done, _ = await asyncio.wait(running, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            winner = _settle(done, running, plan, now())
            if winner is not None:
                return winner
        return None
    finally:
        await _end(running)


async def _as_task(attempt: Attempt, endpoint: Endpoint) -> Dialled | None:
    return await attempt(endpoint)


def _settle(
    done: Iterable[asyncio.Task[Dialled | None]], running: _Running, plan: DialPlan, now: float
) -> Dialled | None:
    """Take the results of finished attempts in; of two that won in one turn, one is closed.

    A connection outweighs whatever another attempt raised in the same turn.
    """
    winner: Dialled | None = None
    failure: BaseException | None = None
    for task in sorted(done, key=running.__getitem__):
        index = running.pop(task)
        error = task.exception()
        dialled = None if error else task.result()
        failure = failure or error
        if dialled is None:
            plan.failed(index, now)
        elif winner is None:
            winner = dialled
        else:
            dialled.connection.close()
    if winner is None and failure is not None:
        raise failure
    return winner


async def _end(running: Iterable[asyncio.Task[Dialled | None]]) -> None:
    """Cancel attempts, wait for their ends, and close what one of them established in the last moment."""
    tasks = list(running)
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Dialled):
            result.connection.close()
