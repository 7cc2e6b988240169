"""Sending messages to names."""

from __future__ import annotations

import asyncio

from ..shared.errors import LinkClosed, PeerLeft, PeerLost, QueueFull, SendTimeout
from .departure import answer
from .finder import Finder, check_timeout
from .inbox import Link
from .loopback import Loopback
from .routing import Key
from .standstill import Standstill

Body = bytes | bytearray | memoryview


class Sender:
    """Sends. ``hooks`` is the task that runs the worker's hooks: while that one waits, nothing is received."""

    def __init__(self, finder: Finder, standstill: Standstill) -> None:
        self._finder = finder
        self._standstill = standstill
        self.hooks: asyncio.Task[bool] | None = None

    async def send(self, target: str, body: Body, key: Key | None, timeout: float | None) -> int:
        """See ``Worker.send``."""
        if timeout is not None:
            check_timeout(timeout)
            try:
                async with asyncio.timeout(timeout):
                    return await self.send(target, body, key, None)
            except TimeoutError:
                raise SendTimeout(target, timeout) from None
        while True:
            link = self._finder.find(target, key) or await self._finder.reach(target, key)
            try:
                number = await self._send_on(link, body)
                if self._finder.is_held(link):
                    answer(link)
                return number
            except (PeerLost, PeerLeft):
                # The message was not accepted into that session, so it may go to the next one.
                await self._finder.gone(link)

    async def broadcast(self, body: Body) -> int:
        """See ``Worker.broadcast``. Nobody waits for a slow peer but the slow peer: the others come first.

        One that is about to leave is passed by, as it has no part in what is new.
        """
        reached = 0
        behind: list[Link] = []
        for link in self._finder.mesh.links():
            if not self._finder.offers(link):
                continue
            try:
                link.send_nowait(body)
                reached += 1
            except QueueFull:
                behind.append(link)
            except (PeerLost, PeerLeft, LinkClosed):
                continue
        for link in behind:
            try:
                await self._send_on(link, body)
                reached += 1
            except (PeerLost, PeerLeft, LinkClosed):
                continue
        return reached

    async def _send_on(self, link: Link, body: Body) -> int:
        if self.hooks is None or asyncio.current_task() is not self.hooks:
            return await link.send(body)
        try:
            return link.send_nowait(body)
        except QueueFull:
            if isinstance(link, Loopback):
                raise  # Only this very hook, by returning, could make room.
        self._standstill.begin(link)
        try:
            return await link.send(body)
        finally:
            self._standstill.end()
