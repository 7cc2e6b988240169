"""Tells every worker what changes in the roster: once per turn of the loop, however much has changed in it.

Whoever hears of it has work to do. When a spare has been named it goes first: news then wait until it listens under its
name, for a moment at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Protocol

from ..shared.core.roster import NodeRecord, Roster

HUSH = 0.002
"""Seconds: what a spare takes, and some more."""


class Hearer(Protocol):
    """A node, as far as it is told: a worker, by its ``Lifeline``, or a ``Member``."""

    def tell(self, records: Iterable[NodeRecord], /) -> None:
        """Hear what changed."""


class Herald:
    """Keeps the roster, and knows who hears of it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._roster = Roster()
        self._hearers: set[Hearer] = set()
        self._news: dict[str, NodeRecord] = {}
        self._hush: asyncio.TimerHandle | None = None

    @property
    def records(self) -> tuple[NodeRecord, ...]:
        """The whole roster as of now."""
        return tuple(self._roster)

    def enroll(self, hearer: Hearer) -> None:
        """Tell a node, which has got ``records``, of every change from now on."""
        self._hearers.add(hearer)

    def dismiss(self, hearer: Hearer) -> None:
        """Forget a node that is gone."""
        self._hearers.discard(hearer)

    def announce(self, record: NodeRecord) -> None:
        """Take a record over; who is enrolled hears of it at the end of this turn of the loop."""
        if not self._roster.apply([record]):
            return
        if not self._news and self._hush is None:
            self._loop.call_soon(self._tell)
        self._news[record.name] = record

    def hush(self) -> None:
        """Keep back what changes from now on until ``speak``, for ``HUSH`` seconds at most."""
        if self._hush is None:
            self._hush = self._loop.call_later(HUSH, self.speak)

    def speak(self) -> None:
        """Tell at the end of this turn what was kept back."""
        if self._hush is not None:
            self._hush.cancel()
            self._hush = None
            self._loop.call_soon(self._tell)

    def _tell(self) -> None:
        news, self._news = tuple(self._news.values()), {}
        for hearer in self._hearers if news else ():
            hearer.tell(news)
