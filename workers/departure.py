"""How a node leaves whose place another process takes: nothing that others have asked of it is lost.

It says so to everybody it is linked with. They hold what is new, and answer with the number of their last message; all
their calls have come before that answer, since both travel on the calls lane. When everybody has answered, all messages
up to those numbers are handled, and no call is under way, there is nothing left to do here that anybody knows of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress

from ..shared.errors import LinkClosed, PeerLeft, PeerLost
from .inbox import Inbox, Link
from .lane import HELD, PARTING, encode
from .serving import Serving

_PARTING = encode((PARTING,))


class Departure:
    """One node's departure. The node tells it what happens to its links from ``begin`` on."""

    def __init__(self, inbox: Inbox, serving: Serving) -> None:
        self._inbox = inbox
        self._serving = serving
        self._last: dict[Link, int | None] = {}  # the number of each peer's last message; None: it has not answered
        self._changed = asyncio.Event()

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to do."""
        return self._has_all_come and self._inbox.is_at_rest and self._serving.is_idle

    @property
    def silent(self) -> list[str]:
        """The nodes that have not answered yet."""
        return [link.node_id for link, last in self._last.items() if last is None]

    def begin(self, links: Iterable[Link]) -> None:
        """Say it to everybody."""
        for link in links:
            self.linked(link)

    async def wait(self) -> None:
        """Wait until nothing is left to do."""
        while not self.is_complete:
            while not self._has_all_come:
                self._changed.clear()
                await self._changed.wait()
            await self._serving.rest()
            await self._inbox.rest()

    def linked(self, link: Link) -> None:
        """Say it to somebody who may not know."""
        with suppress(PeerLost, PeerLeft, LinkClosed):
            link.post(_PARTING)
            self._last[link] = None

    def held(self, link: Link, last: int) -> None:
        """A peer has answered, or has sent more after that as part of a call that is under way here."""
        if link in self._last:
            self._last[link] = last
            self._changed.set()

    def lost(self, link: Link) -> None:
        """A peer is gone."""
        self._last.pop(link, None)
        self._changed.set()

    def arrived(self) -> None:
        """Messages have come."""
        self._changed.set()

    @property
    def _has_all_come(self) -> bool:
        return all(last is not None and link.message_counts()[0] >= last for link, last in self._last.items())


def answer(link: Link) -> None:
    """Promise the node at the other end of ``link``, which leaves, that nothing comes after what was sent up to now."""
    with suppress(PeerLost, PeerLeft, LinkClosed):
        link.post(encode((HELD, link.message_counts()[1])))
