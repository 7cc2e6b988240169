"""A spare: a process that is linked with every node beforehand, and waits to be told whose place it takes.

Its mesh runs while it waits. What is left to do when it is named is what only that worker can do: load its class, be
its node, begin with ``on_start``; the links are there. A candidate does the first part of that before the place is
free: it is named, has its class and its instance of it, and is a spare to all others until it is told to begin.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..shared.control.lifeline import (
    Assignment,
    Begin,
    LinkReport,
    LinksWanted,
    Listening,
    Reserve,
    RosterNews,
    Stop,
    ToWorker,
)
from ..shared.mesh.mesh import Mesh, MeshHandler
from .lifeline import Lifeline
from .presence import open_board
from .wiring import adapters_for, blacklist_of, options_of


class Spare:
    """See the module; made on the loop that its mesh then belongs to."""

    def __init__(self, lifeline: Lifeline, reserve: Reserve) -> None:
        self.is_stopped = False
        """Whether the supervisor has told it to stop since it was named."""
        self._lifeline = lifeline
        self._reserve = reserve
        self.board = open_board(lifeline.descriptors)
        self._blacklist = blacklist_of(lifeline, reserve.name)
        self.mesh = Mesh(options_of(reserve), None, adapters=adapters_for(reserve.listen), blacklist=self._blacklist)
        self._assignment: asyncio.Future[Assignment] = asyncio.get_running_loop().create_future()
        self._begun = asyncio.Event()

    async def wait(self, on_end: Callable[[str], None]) -> Assignment:
        """Keep linked with everybody until there is an assignment, and return it; ``on_end``: see ``Lifeline.attach``.

        Raises:
            OSError: If it cannot listen.
        """
        self.mesh.apply(self._reserve.roster)
        self._lifeline.attach(self._heard, on_end)
        self._lifeline.report(Listening(await self.mesh.start()))
        return await self._assignment

    async def wait_to_begin(self) -> None:
        """Wait until the place is free that it was named for."""
        await self._begun.wait()

    def begin(self) -> None:
        """The place is free."""
        self._begun.set()

    def become(self, assignment: Assignment, handler: MeshHandler) -> None:
        """Take the place: the links are those of ``handler`` from now on, which is told of all that are up."""
        if self._blacklist is not None:
            self._blacklist.source = assignment.name
        self.mesh.become(assignment.name, assignment.incarnation, handler)

    def _heard(self, message: ToWorker) -> None:
        if isinstance(message, RosterNews):
            self.mesh.apply(message.records)
        elif isinstance(message, Assignment):
            self._assignment.set_result(message)
        elif isinstance(message, LinksWanted):
            self._lifeline.report(LinkReport(message.number, *self.mesh.report(each=message.each)))
        elif isinstance(message, Begin):
            self.begin()
        elif isinstance(message, Stop):
            self.is_stopped = True
