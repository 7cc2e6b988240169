"""The caller's side of calls: what is under way, on which link, and until when.

A call costs a frame, a Future and an entry in its link's table; a reply one look-up there. Deadlines share one timer.
A link carries at most ``MAX_IN_FLIGHT`` calls of ours; further ones wait their turn within their own timeouts.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from ..shared.errors import CallTimeout, LinkClosed, PeerLeft, PeerLost, RemoteError
from .finder import Finder, Lives
from .inbox import Link
from .lane import CANCEL, REQUEST, Failed, Refused, Result, encode
from .routing import Key

MAX_IN_FLIGHT = 1024
"""Calls that one link carries at a time, in one direction."""

Lost = PeerLost | PeerLeft | LinkClosed
# How a call ended. Outcomes travel as results, never as exceptions of a Future: one whose caller was cancelled in the
# same turn would be reported as "never retrieved". None: its time is up.
_Outcome = Result | Failed | Refused | Lost | None


class _Table:
    """The calls under way on one link."""

    def __init__(self) -> None:
        self.calls: dict[int, tuple[asyncio.Future[_Outcome], float]] = {}
        self.waiters: deque[asyncio.Future[None]] = deque()
        self.lost: Lost | None = None
        self.is_held = False

    async def wait_for_room(self) -> None:
        """Wait in line until less than ``MAX_IN_FLIGHT`` calls are under way, or the link is held, or over."""
        was_woken = False
        while self.lost is None and not self.is_held and len(self.calls) >= MAX_IN_FLIGHT:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            if was_woken:
                self.waiters.appendleft(waiter)  # Somebody was quicker: that costs no place in line.
            else:
                self.waiters.append(waiter)
            was_woken = True
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self.wake()  # Woken and cancelled at once: the room is for the next in line.
                raise

    def wake_all(self) -> None:
        """Let all that wait look what has become of the link."""
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)

    def wake(self) -> None:
        """Let the next one that waits have room."""
        while self.waiters:
            waiter = self.waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return


class Caller:
    """Makes calls. ``receive`` and ``link_lost`` are told by the node."""

    def __init__(self, finder: Finder) -> None:
        self._finder = finder
        self._loop = asyncio.get_running_loop()
        self._numbers = itertools.count(1)
        self._tables: dict[Link, _Table] = {}
        self._alarm: asyncio.TimerHandle | None = None

    async def call(
        self,
        target: str,
        method: str,
        args: tuple[Any, ...],
        named: dict[str, Any],
        *,
        key: Key | None,
        timeout: float | None,
        retry: bool,
    ) -> Any:
        """Call ``method`` of the node or group ``target`` and return its result in plain types; see ``Worker.call``."""
        deadline = math.inf if timeout is None else self._loop.time() + _checked(timeout)
        encoded = _encode_arguments(target, method, args, named)
        lives: Lives = frozenset()
        while True:
            try:
                link, table = await self._place(target, key, lives, deadline)
            except TimeoutError:
                raise CallTimeout(target, method, timeout or 0.0) from None
            outcome = await self._exchange(link, table, method, encoded, deadline)
            if isinstance(outcome, Result):
                return outcome.value
            if outcome is None:
                raise CallTimeout(target, method, timeout or 0.0)
            if isinstance(outcome, Failed):
                raise RemoteError(target, method, outcome.kind, outcome.message, outcome.traceback)
            if not isinstance(outcome, Refused) and (not retry or isinstance(outcome, LinkClosed)):
                raise outcome
            lives |= {(link.node_id, link.incarnation)}

    # Told by the node.

    def receive(self, link: Link, frame: Result | Failed | Refused) -> None:
        """Take a reply in; one that nobody waits for any more is dropped."""
        table = self._tables.get(link)
        entry = table.calls.get(frame.number) if table is not None else None
        if entry is not None and not entry[0].done():
            entry[0].set_result(frame)

    def hold(self, link: Link) -> None:
        """Have those who wait for room on ``link``, which is not found any more, look for another one."""
        table = self._tables.get(link)
        if table is not None:
            table.is_held = True
            table.wake_all()

    def link_lost(self, link: Link, make: Callable[[], Lost]) -> None:
        """End all calls on ``link``, each with an error of its own: a raised exception has one owner."""
        table = self._tables.pop(link, None)
        if table is None:
            return
        table.lost = make()
        for future, _ in table.calls.values():
            if not future.done():
                future.set_result(make())
        table.wake_all()

    def close(self, make: Callable[[], Lost]) -> None:
        """End all calls."""
        for link in list(self._tables):
            self.link_lost(link, make)
        if self._alarm is not None:
            self._alarm.cancel()

    async def _place(self, target: str, key: Key | None, lives: Lives, deadline: float) -> tuple[Link, _Table]:
        """Return a link to ``target`` that has room for a call.

        Raises:
            TimeoutError: If there is none until ``deadline``.
        """
        link = self._finder.find(target, key, lives)
        if link is not None:
            table = self._table(link)
            if len(table.calls) < MAX_IN_FLIGHT and not table.waiters:
                return link, table
        async with asyncio.timeout_at(None if deadline == math.inf else deadline):
            while True:
                if link is None:
                    link = await self._finder.reach(target, key, lives)
                table = self._table(link)
                await table.wait_for_room()
                if table.lost is None and self._finder.offers(link):
                    return link, table
                link = None  # Nothing was sent on it, so the call may go anywhere.

    def _table(self, link: Link) -> _Table:
        table = self._tables.get(link)
        if table is None:
            table = self._tables[link] = _Table()
        return table

    async def _exchange(
        self, link: Link, table: _Table, method: str, encoded: tuple[msgspec.Raw, msgspec.Raw], deadline: float
    ) -> _Outcome:
        """Send one request and wait for what becomes of it."""
        number = next(self._numbers)
        seconds = None if deadline == math.inf else max(0.0, deadline - self._loop.time())
        future: asyncio.Future[_Outcome] = self._loop.create_future()
        # Entered before it is posted: a call to oneself is there in the same breath.
        table.calls[number] = (future, deadline)
        is_answered = False
        try:
            try:
                link.post(encode((REQUEST, number, method, *encoded, seconds)))
            except (PeerLost, PeerLeft, LinkClosed) as lost:
                is_answered = True
                return lost
            self._arm(deadline)
            outcome = await future
            is_answered = outcome is not None
            return outcome
        finally:
            table.calls.pop(number, None)
            table.wake()
            if not is_answered:
                _post_cancel(link, number)

    def _arm(self, deadline: float) -> None:
        """See to it that the alarm rings no later than at ``deadline``."""
        if deadline == math.inf:
            return
        if self._alarm is not None:
            if self._alarm.when() <= deadline:
                return
            self._alarm.cancel()
        self._alarm = self._loop.call_at(deadline, self._ring)

    def _ring(self) -> None:
        """End the calls whose time is up. It rings once per timeout at the most, not once per call."""
        self._alarm = None
        now = self._loop.time()
        following = math.inf
        for table in self._tables.values():
            for future, deadline in table.calls.values():
                if deadline > now:
                    following = min(following, deadline)
                elif not future.done():
                    future.set_result(None)
        self._arm(following)


def _post_cancel(link: Link, number: int) -> None:
    with contextlib.suppress(PeerLost, PeerLeft, LinkClosed):  # A link's end is the same message.
        link.post(encode((CANCEL, number)))


def _checked(timeout: float) -> float:
    if not timeout >= 0:
        raise ValueError(f"timeout must be a number of seconds, 0 or more, or None, not {timeout!r}")
    return timeout


def _encode_arguments(
    target: str, method: str, args: tuple[Any, ...], named: dict[str, Any]
) -> tuple[msgspec.Raw, msgspec.Raw]:
    """Return ``args`` and ``named``, encoded: once, however often the call is sent.

    Raises:
        TypeError: If they hold something that cannot be sent.
    """
    try:
        return msgspec.Raw(encode(args)), msgspec.Raw(encode(named))
    except (TypeError, ValueError, OverflowError, NotImplementedError, RecursionError) as error:
        raise TypeError(f"the arguments of {target}.{method} cannot be sent: {error}") from None
