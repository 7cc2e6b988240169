"""The wire between two machines: it carries packets from one's interface to the other's, under the test's control.

In its midst stands a firewall that lets segments pass only of connections whose beginning it has seen, and resets
others, as the usual ones do; ``forget`` makes it lose its memory.
"""

from __future__ import annotations

import asyncio
import heapq
import os
import random
from itertools import count
from typing import Literal

from .namespace import set_carrier
from .packets import Flow, reset_for, segment_of
from .way import PERFECT, Conditions, Way

Side = Literal["manager", "host"]
SIDES: tuple[Side, Side] = ("manager", "host")

_LARGEST = 65536
_AT_ONCE = 64
"""Packets that are taken from one end before the other gets its turn."""


def other(side: Side) -> Side:
    """Return the side at the other end."""
    return SIDES[1 - SIDES.index(side)]


class Wire:
    """Joins two interfaces. It owns the files that it is given, and closes them; dice are thrown from ``seed``."""

    def __init__(self, seed: int) -> None:
        self.carried = 0
        self.dropped = 0
        self.resets = 0
        self._rng = random.Random(seed)
        self._loop = asyncio.get_running_loop()
        self._ends: dict[Side, int] = {}
        self._towards: dict[Side, Way] = {side: Way() for side in SIDES}
        self._known: set[Flow] = set()
        self._pulled: set[Side] = set()
        self._under_way: list[tuple[float, int, Side, bytes]] = []
        self._numbers = count()
        self._timer: asyncio.TimerHandle | None = None

    def plug(self, side: Side, fd: int) -> None:
        """Let ``fd`` be the interface of ``side`` from now on."""
        self.unplug(side)
        self._ends[side] = fd
        self._loop.add_reader(fd, self._readable, side, fd)

    def unplug(self, side: Side) -> None:
        """Close the interface of ``side``, if there is one: what is sent there vanishes."""
        fd = self._ends.pop(side, None)
        self._pulled.discard(side)
        if fd is not None:
            self._loop.remove_reader(fd)
            os.close(fd)

    def set(self, towards_manager: Conditions = PERFECT, towards_host: Conditions = PERFECT) -> None:
        """Change the conditions of both directions; without arguments, back to a perfect wire."""
        self._towards["manager"].conditions = towards_manager
        self._towards["host"].conditions = towards_host

    def set_carrier(self, side: Side, on: bool) -> None:
        """Pull the cable out of the interface of ``side``, which notices, or plug it in again."""
        set_carrier(self._ends[side], on)
        (self._pulled.discard if on else self._pulled.add)(side)

    def forget(self) -> None:
        """Let the firewall forget all connections."""
        self._known.clear()

    def close(self) -> None:
        """Carry nothing any more."""
        for side in SIDES:
            self.unplug(side)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _readable(self, side: Side, fd: int) -> None:
        for _ in range(_AT_ONCE):
            try:
                packet = os.read(fd, _LARGEST)
            except OSError:  # BlockingIOError: that was all; else the interface is down, or gone
                return
            self._take(side, packet)

    def _take(self, side: Side, packet: bytes) -> None:
        """Take a packet that ``side`` sent."""
        segment = segment_of(packet)
        if segment is None:
            return  # IPv6 looks for neighbours, and there are none
        way, now = self._towards[other(side)], self._loop.time()
        arrivals = way.carry(len(packet), now, self._rng)
        if not arrivals:
            self.dropped += 1
            return
        if segment.begins:
            self._known.add(segment.flow)
        elif segment.flow not in self._known:
            refusal = reset_for(segment)
            if refusal is not None and self._towards[side].carry(len(refusal), now, self._rng):
                self.resets += 1
                self._deliver(side, refusal)
            return
        for at in arrivals:
            if at <= now and not self._under_way:
                self._deliver(other(side), packet)
            else:
                heapq.heappush(self._under_way, (at, next(self._numbers), other(side), packet))
        self._arm()

    def _deliver(self, side: Side, packet: bytes) -> None:
        fd = self._ends.get(side)
        if fd is None or side in self._pulled:  # the kernel would still take it in
            self.dropped += 1
            return
        try:
            os.write(fd, packet)
            self.carried += 1
        except OSError:  # the interface is down
            self.dropped += 1

    def _arm(self) -> None:
        if self._timer is not None:
            if self._under_way and self._under_way[0][0] >= self._timer.when():
                return
            self._timer.cancel()
            self._timer = None
        if self._under_way:
            self._timer = self._loop.call_at(self._under_way[0][0], self._arrive)

    def _arrive(self) -> None:
        self._timer = None
        now = self._loop.time() + 0.0005  # the resolution of timers
        while self._under_way and self._under_way[0][0] <= now:
            _, _, side, packet = heapq.heappop(self._under_way)
            self._deliver(side, packet)
        self._arm()
