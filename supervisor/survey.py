"""How the links of a mesh are: all workers are asked, and whoever does not answer in time is silent.

Nothing is asked, sent or kept unless somebody wants to know. There is one round at a time: who asks while it goes on,
or a moment after it, shares its result. An answer counts in the round whose number it bears, and for the incarnation
that gave it; a worker that owes an answer to an earlier round is not asked again.

A few are asked at a time. A hundred workers that wake up together for a millisecond of work each would leave the
supervisor without a core for a tenth of a second.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

from ..shared.control.lifeline import LinkReport, LinksWanted
from .snapshot import NodeLinks

PATIENCE = 0.25
"""Seconds that the worker that is asked last is given to answer."""

SHARED = 0.1
"""Seconds for which the result of a round serves others as well."""


_AT_ONCE = 4
_PACE = 0.005  # seconds after which another one is asked, whether those before it have answered or not


class Respondent(Protocol):
    """Who is asked: a slot."""

    @property
    def name(self) -> str: ...

    @property
    def is_node(self) -> bool: ...

    @property
    def incarnation(self) -> int: ...

    def want_links(self, question: LinksWanted, reported: Callable[[LinkReport], None]) -> bool: ...

    def links(self, report: LinkReport | None) -> NodeLinks: ...


class Survey:
    """Asks ``slots``, which are those there are at that moment. For the loop's thread."""

    def __init__(self, slots: Iterable[Respondent]) -> None:
        self._slots = slots
        self._question = LinksWanted(0)
        self._result: asyncio.Future[tuple[NodeLinks, ...]] | None = None
        self._asked: dict[str, Respondent] = {}
        self._waiting: deque[str] = deque()  # who is still to be asked
        self._open: set[str] = set()  # who is still to answer
        self._found: dict[str, NodeLinks] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def links(self, *, each: bool = True) -> tuple[NodeLinks, ...]:
        """Return how the links of all workers are, in the order of the slots; without ``each`` of them, their totals.

        It takes as long as the slowest worker, and at most ``PATIENCE`` seconds and 5 ms for each worker.
        """
        while each and self._result is not None and not self._question.each:
            result = self._result
            await asyncio.shield(result)
            if self._result is result:
                self._forget()  # it does not say enough
        if self._result is None:
            self._result = asyncio.get_running_loop().create_future()
            self._begin(LinksWanted(self._question.number + 1, each))
        return await asyncio.shield(self._result)

    def close(self) -> None:
        """End the round that goes on, with what is known by now, and forget the one before."""
        if self._result is not None and not self._result.done():
            self._conclude()
        self._forget()

    def _begin(self, question: LinksWanted) -> None:
        self._question = question
        self._asked = {slot.name: slot for slot in self._slots if slot.is_node}
        self._waiting.extend(self._asked)
        for _ in range(_AT_ONCE):
            self._ask_next()
        self._go_on()

    def _ask_next(self) -> None:
        while self._waiting:
            name = self._waiting.popleft()
            if self._asked[name].want_links(self._question, partial(self._heard, name)):
                self._open.add(name)
                return

    def _heard(self, name: str, report: LinkReport) -> None:
        if report.number != self._question.number or name not in self._open:
            return  # the answer to an earlier round
        self._open.remove(name)
        # Here and not at the end: so the work for a large mesh is spread over as many turns of the loop as it comes in.
        self._found[name] = self._asked[name].links(report)
        is_paced = bool(self._waiting)
        self._ask_next()
        if not self._open or (is_paced and not self._waiting):
            self._go_on()

    def _go_on(self) -> None:
        """Wait for the next step, whatever it is."""
        if self._timer is not None:
            self._timer.cancel()
        later = asyncio.get_running_loop().call_later
        if self._waiting:
            self._timer = later(_PACE, self._tick)
        elif self._open:
            self._timer = later(PATIENCE, self._conclude)
        else:
            self._conclude()

    def _tick(self) -> None:
        self._ask_next()
        self._go_on()

    def _conclude(self) -> None:
        self._waiting.clear()
        self._open.clear()
        nodes = tuple(self._result_of(slot) for slot in self._asked.values())
        self._asked, self._found = {}, {}
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(SHARED, self._forget)
        if self._result is not None:
            self._result.set_result(nodes)

    def _result_of(self, slot: Respondent) -> NodeLinks:
        found = self._found.get(slot.name)
        if found is not None and found.incarnation == slot.incarnation:
            return found
        return slot.links(None)

    def _forget(self) -> None:
        self._result = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
