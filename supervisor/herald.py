"""Tells every worker what changes in the roster: once per turn of the loop, however much has changed in it."""

from __future__ import annotations

import asyncio

from ..shared.core.roster import NodeRecord, Roster
from .lifeline import Lifeline


class Herald:
    """Keeps the roster and the lifelines of the workers that hear of it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._roster = Roster()
        self._lifelines: set[Lifeline] = set()
        self._news: dict[str, NodeRecord] = {}

    @property
    def records(self) -> tuple[NodeRecord, ...]:
        """The whole roster as of now."""
        return tuple(self._roster)

    def enroll(self, lifeline: Lifeline) -> None:
        """Tell a worker, which has got ``records``, of every change from now on."""
        self._lifelines.add(lifeline)

    def dismiss(self, lifeline: Lifeline) -> None:
        """Forget a worker that is gone."""
        self._lifelines.discard(lifeline)

    def announce(self, record: NodeRecord) -> None:
        """Take a record over; who is enrolled hears of it at the end of this turn of the loop."""
        if not self._roster.apply([record]):
            return
        if not self._news:
            self._loop.call_soon(self._tell)
        self._news[record.name] = record

    def _tell(self) -> None:
        news, self._news = tuple(self._news.values()), {}
        for lifeline in self._lifelines:
            lifeline.tell(news)
