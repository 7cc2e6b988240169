"""Who in a mesh is frozen or hangs: the watchdog over the liveness board, and the kernel's own word, told to lives.

A life takes a place on the board when it is made, is watched from ready until it is to end, and gives the place back.
Only the place is the supervisor's business here; what the verdict means is the slot's.
"""

from __future__ import annotations

import asyncio
import heapq
from typing import Protocol

from ..shared.config.model import WorkerConfig
from ..shared.memory.board import LivenessBoard
from .reaper import frozen_children
from .verdict import Verdict
from .watchdog import Watchdog

FROZEN = "it was stopped (SIGSTOP)"


class Watched(Protocol):
    """Who is watched, and hears of it."""

    @property
    def pid(self) -> int | None:
        """Its process."""

    def is_late(self, late: bool) -> None:
        """Its loop is behind by four beats or more, or no more so."""

    def is_frozen(self, evidence: str) -> None:
        """It has been stopped; it cannot answer anything."""

    def hangs(self, evidence: str) -> None:
        """Its loop stands still."""


class Lookout:
    """Watches the lives of one mesh, in the loop's thread, until ``close``. ``beat`` is in seconds."""

    def __init__(self, loop: asyncio.AbstractEventLoop, board: LivenessBoard, beat: float) -> None:
        self.beat = beat
        self._loop = loop
        self._board = board
        self._dog = self._new_dog()
        self._free: list[int] = []
        self._used = 0
        self._watched: dict[int, Watched] = {}

    def configure(self, beat: float) -> None:
        """Look each ``beat`` from now on. Whoever is watched is so again when its successor is ready."""
        if beat != self.beat:
            self.close()
            self.beat = beat
            self._dog = self._new_dog()

    def _new_dog(self) -> Watchdog:
        return Watchdog(self._loop, self._board, self.beat, self._judged, self._suspected)

    def take_lag(self) -> float:
        """Return by how many seconds the supervisor's loop was late at worst since this was last asked."""
        return self._dog.take_lag()

    def take_place(self) -> int:
        """Return a place on the board that nobody has, the lowest one; -1 if it is full."""
        if self._free:
            return heapq.heappop(self._free)
        if self._used >= self._board.capacity:
            return -1
        self._used += 1
        return self._used - 1

    def give_back(self, place: int) -> None:
        """Take a place back whose process is dead."""
        self.unwatch(place)
        self._board.vacate(place)
        heapq.heappush(self._free, place)

    def watch(self, place: int, incarnation: int, config: WorkerConfig, who: Watched) -> None:
        """Judge ``who`` by the time-outs of ``config``, from now on; again: by other ones."""
        if who.pid is not None:
            self._watched[place] = who
            self._dog.watch(
                place, who.pid, incarnation, hang_timeout=config.hang_timeout, busy_timeout=config.busy_timeout
            )

    def unwatch(self, place: int) -> None:
        """Judge it no more."""
        if self._watched.pop(place, None) is not None:
            self._dog.unwatch(place)

    def look_for_the_frozen(self) -> None:
        """Take the kernel's notices of stopped children: at each SIGCHLD, and only if all children are ours."""
        if frozen := frozen_children():
            for who in [who for who in self._watched.values() if who.pid in frozen]:
                who.is_frozen(FROZEN)

    def close(self) -> None:
        """Watch nobody any more."""
        self._dog.close()
        self._watched.clear()

    def _suspected(self, place: int, late: bool) -> None:
        if place in self._watched:
            self._watched[place].is_late(late)

    def _judged(self, place: int, verdict: Verdict, evidence: str) -> None:
        who = self._watched.get(place)
        if who is None:
            return
        if verdict is Verdict.STOPPED:
            who.is_frozen(evidence)
        else:
            who.hangs(evidence)
