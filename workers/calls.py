"""The caller's side of calls: what is under way, on which link, and until when.

A call costs a frame, a Future and an entry in its link's table; a reply takes the entry out and wakes who waits.
Deadlines share one timer. A link carries at most ``MAX_IN_FLIGHT`` calls of ours, and no further one while they have
``MAX_BYTES`` together; further ones wait their turn within their own timeouts.

A call that is made while another one is served is part of that one's work, and gets no more time than is left for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from ..shared.core.retry import RetryBudget
from ..shared.core.session import Body
from ..shared.errors import CallTimeout, LinkClosed, PeerLeft, PeerLost, RemoteError
from .buffers import BYTES, UNSENDABLE, LargeBuffer, is_large, set_apart
from .finder import Finder, Lives, check_timeout
from .inbox import Link
from .lane import CANCEL, REQUEST, Failed, Refused, Result, encode, encode_apart
from .routing import Key

MAX_IN_FLIGHT = 1024
"""Calls that one link carries at a time, in one direction."""

MAX_BYTES = 64 * 1024 * 1024
"""Bytes of calls under way on one link from which on it carries no further one."""

Lost = PeerLost | PeerLeft | LinkClosed
# How a call ended. Outcomes travel as results, never as exceptions of a Future: one whose caller was cancelled in the
# same turn would be reported as "never retrieved". None: its time is up.
_Outcome = Result | Failed | Refused | Lost | None

_Asked = tuple[str, str, tuple[Any, ...], dict[str, Any]]
"""Target, method, and its arguments by position and by name."""


class Errand:
    """A call that is served here; what is called on its behalf must be done by ``deadline`` (loop time; inf: never).

    When it is over, the deadline is inf: a task that it left behind has no part in it any more.
    """

    __slots__ = ("deadline",)

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline


errand: ContextVar[Errand | None] = ContextVar("errand", default=None)
"""The call on whose behalf the current task, or the one that started it, works."""


class _Table:
    """The calls under way on one link: who waits, until when, and how many bytes were sent."""

    def __init__(self) -> None:
        self.calls: dict[int, tuple[asyncio.Future[_Outcome], float, int]] = {}
        self.size = 0
        self.waiters: deque[asyncio.Future[None]] = deque()
        self.lost: Lost | None = None
        self.is_held = False

    @property
    def is_full(self) -> bool:
        return len(self.calls) >= MAX_IN_FLIGHT or self.size >= MAX_BYTES

    async def wait_for_room(self) -> None:
        """Wait in line until there is room for a call, or the link is held, or over."""
        was_woken = False
        while self.lost is None and not self.is_held and self.is_full:
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

    def take(self, number: int) -> asyncio.Future[_Outcome] | None:
        """Take a call out, which makes room for the next one; return who waits for it, if it was still under way."""
        entry = self.calls.pop(number, None)
        if entry is None:
            return None
        self.size -= entry[2]
        if self.waiters:
            self.wake()
        return entry[0]

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
        self._now = self._loop.time
        self._numbers = itertools.count(1)
        self._tables: dict[Link, _Table] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = math.inf
        # A call that was under way for a minute can still be made again; on average each may be once.
        self._retries = RetryBudget(ttl=60.0, ratio=1.0)

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
        if not isinstance(method, str):
            raise TypeError(f"the method to call must be given by its name, a str, not as {method!r}")
        timeout, deadline = self._limit(timeout)
        if retry:
            self._retries.deposit(self._now())
        asked = (target, method, args, named)
        lives: Lives = frozenset()
        while True:
            link = self._finder.find(target, key, lives)
            table = None if link is None else self._tables.get(link) or self._open_table(link)
            if link is None or table is None or table.waiters or table.is_full:
                _frame(asked, 0, None)  # What cannot be sent is refused before any waiting.
                try:
                    link, table = await self._place(link, target, key, lives, deadline)
                except TimeoutError:
                    raise CallTimeout(target, method, timeout) from None
            try:
                number, future = self._send(link, table, asked, deadline)
            except (PeerLost, PeerLeft):
                lives |= {(link.node_id, link.incarnation)}
                continue  # Nothing was sent, so the call may go anywhere.
            try:
                outcome = await future
            except BaseException:
                self._give_up(link, table, number)
                raise
            if isinstance(outcome, Result):
                return outcome.value
            if outcome is None:
                raise CallTimeout(target, method, timeout)
            if isinstance(outcome, Failed):
                raise RemoteError(target, method, outcome.kind, outcome.message, outcome.traceback)
            if not isinstance(outcome, Refused) and not (  # refused: it was never begun, and may be made anew
                retry and not isinstance(outcome, LinkClosed) and self._retries.try_withdraw(self._now())
            ):
                raise outcome
            lives |= {(link.node_id, link.incarnation)}

    def _limit(self, timeout: float | None) -> tuple[float, float]:
        """Return how many seconds a call has, and until when (loop time): no more than what it is made for."""
        now = self._now()
        if timeout is None:
            timeout = math.inf
        else:
            check_timeout(timeout)
        made_for = errand.get()
        if made_for is not None and made_for.deadline < now + timeout:
            return max(0.0, made_for.deadline - now), made_for.deadline
        return timeout, now + timeout

    # Told by the node.

    def receive(self, link: Link, frame: Result | Failed | Refused) -> None:
        """Take a reply in; one that nobody waits for any more is dropped."""
        table = self._tables.get(link)
        future = table.take(frame.number) if table is not None else None
        if future is not None and not future.done():
            future.set_result(frame)

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
        for future, _, _ in table.calls.values():
            if not future.done():
                future.set_result(make())
        table.calls.clear()
        table.wake_all()

    def close(self, make: Callable[[], Lost]) -> None:
        """End all calls."""
        for link in list(self._tables):
            self.link_lost(link, make)
        if self._alarm is not None:
            self._alarm.cancel()

    async def _place(
        self, link: Link | None, target: str, key: Key | None, lives: Lives, deadline: float
    ) -> tuple[Link, _Table]:
        """Wait for room on ``link``, or if there is none, or it ends, on any to ``target``.

        Raises:
            TimeoutError: If there is none until ``deadline``.
        """
        async with asyncio.timeout_at(None if deadline == math.inf else deadline):
            while True:
                if link is None:
                    link = await self._finder.reach(target, key, lives)
                table = self._tables.get(link) or self._open_table(link)
                await table.wait_for_room()
                if table.lost is None and self._finder.offers(link):
                    return link, table
                link = None  # Nothing was sent on it, so the call may go anywhere.

    def _open_table(self, link: Link) -> _Table:
        table = self._tables[link] = _Table()
        return table

    def _send(self, link: Link, table: _Table, asked: _Asked, deadline: float) -> tuple[int, asyncio.Future[_Outcome]]:
        """Send a request; return its number, and what its outcome will be in. One whose time is up is not sent.

        Raises:
            PeerLost, PeerLeft, LinkClosed: If it cannot be sent, as the link is over.
            ValueError: If it is longer than a link may carry.
        """
        number = next(self._numbers)
        future: asyncio.Future[_Outcome] = asyncio.Future(loop=self._loop)
        seconds = deadline - self._now()
        if seconds <= 0:
            future.set_result(None)
            return number, future
        frame = _frame(asked, number, seconds if deadline < math.inf else None)
        size = len(frame) if isinstance(frame, bytes) else sum(map(len, frame))
        # Entered before it is posted: a call to oneself is there in the same breath.
        table.calls[number] = (future, deadline, size)
        table.size += size
        try:
            if isinstance(frame, bytes):
                link.post(frame)
            else:
                link.post_together(frame)
        except (PeerLost, PeerLeft, LinkClosed):
            table.take(number)
            raise
        except ValueError as error:
            table.take(number)
            raise ValueError(f"the arguments of {asked[0]}.{asked[1]} cannot be sent: {error}") from None
        if deadline < self._alarm_at:
            self._arm(deadline)
        return number, future

    def _give_up(self, link: Link, table: _Table, number: int) -> None:
        """Nobody waits for call ``number`` any more: let the other side know, if it is still under way."""
        if table.take(number) is not None:
            with contextlib.suppress(PeerLost, PeerLeft, LinkClosed):  # A link's end is the same message.
                link.post(encode((CANCEL, number)))

    def _arm(self, deadline: float) -> None:
        """See to it that the alarm rings at ``deadline``, which is earlier than it would."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._loop.call_at(deadline, self._ring)
        self._alarm_at = deadline

    def _ring(self) -> None:
        """End the calls whose time is up. It rings once per timeout at the most, not once per call."""
        self._alarm = None
        self._alarm_at = following = math.inf
        now = self._now()
        for link, table in self._tables.items():
            late = []
            for number, (future, deadline, _) in table.calls.items():
                if deadline > now:
                    following = min(following, deadline)
                elif not future.done():
                    future.set_result(None)
                    late.append(number)
            for number in late:
                self._give_up(link, table, number)
        if following < math.inf:
            self._arm(following)


def _frame(asked: _Asked, number: int, seconds: float | None) -> bytes | list[Body]:
    """Return the bytes of a request, or the several bodies of one that has large buffers in it.

    Raises:
        TypeError: If the arguments hold something that cannot be sent.
    """
    _, method, args, named = asked
    try:
        for value in (*args, *named.values()) if named else args:
            if type(value) in BYTES and is_large(value):
                break
        else:
            items = (REQUEST, number, method, seconds, args)
            return encode((*items, named) if named else items)
    except LargeBuffer:
        pass
    except UNSENDABLE as error:
        raise TypeError(_unsendable(asked, error)) from None
    try:
        apart = tuple(map(set_apart, args)), {name: set_apart(value) for name, value in named.items()}
        return encode_apart((REQUEST, number, method, seconds, *apart))
    except UNSENDABLE as error:
        raise TypeError(_unsendable(asked, error)) from None


def _unsendable(asked: _Asked, error: Exception) -> str:
    """Return why the arguments cannot be sent, and which one of them it is, if it is one alone."""
    target, method, args, named = asked
    for name, value in (*enumerate(args, 1), *named.items()):
        try:
            encode_apart((set_apart(value),))
        except UNSENDABLE as cause:
            which = repr(name) if isinstance(name, str) else str(name)
            return f"argument {which} of {target}.{method} cannot be sent: {cause}"
    return f"the arguments of {target}.{method} cannot be sent: {error}"
