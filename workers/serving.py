"""The called side of calls: runs ``@rpc`` methods, many at a time, and answers.

What is read in one turn of the loop is begun in the next, so that a call which is given up in the same breath never
is. What is too much for one turn waits, in a line for each caller, and the lines take turns; that of a caller which
leaves ``MAX_BEHIND`` bytes of replies untaken waits until it takes some. A plain method runs there and then, one that
is ``async def`` in a task of its own: at most ``MAX_RUNNING`` of these at once. What comes in before ``open`` waits for
it. A call whose caller gave up, or is gone, is cancelled; one whose time is up is not begun.
What was not begun before ``close`` was done with the rest is refused, and may be made again elsewhere.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import sys
import traceback
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, cast

from ..shared.errors import LinkClosed, PeerLeft, PeerLost
from .buffers import BYTES, UNSENDABLE, LargeBuffer, is_large, set_apart
from .calls import MAX_IN_FLIGHT, Errand, errand
from .finder import CALLER
from .inbox import Link
from .lane import FAILED, REFUSED, RESULT, Request, encode, encode_apart
from .rpc import RpcMethod, suggestion

MAX_RUNNING = 1024
"""Methods that run at the same time."""

MAX_BEHIND = 64 * 1024 * 1024
"""Bytes of replies that may wait for their caller to take them; while more do, no further call of it is begun."""

_STARTS_PER_TURN = 128
_TURN = 0.002  # Seconds of plain methods, after which others get the loop.
_FAIR = 2 * MAX_IN_FLIGHT  # A caller's own limit, and as many again that it gave up and we have not ended yet.
_MAX_TRACEBACK = 64 * 1024

# A task that can begins at once, and runs up to where it first waits: most methods never do.
_EAGER: dict[str, Any] = {"eager_start": True} if sys.version_info >= (3, 12) else {}

log = logging.getLogger("meshvisor.worker")

Parts = Sequence[bytes | bytearray]
_Waiting = tuple[Link, Request, Parts, float]  # float: the deadline


class Serving:
    """Runs methods for others. ``on_exit`` is told of a SystemExit that leaves one of them."""

    def __init__(self, on_exit: Callable[[SystemExit], None]) -> None:
        self._worker: object = None
        self._methods: Mapping[str, RpcMethod] = {}
        self._on_exit = on_exit
        self._loop = asyncio.get_running_loop()
        self._now = self._loop.time
        self._fresh: list[_Waiting] = []  # what was read in this turn
        self._read_at = 0.0
        self._given_up: set[tuple[Link, int]] = set()  # and, of that, what was given up in it
        # By caller and number: the running task, or None while the call waits in its caller's line.
        self._calls: dict[Link, dict[int, asyncio.Task[None] | None]] = {}
        self._lines: dict[Link, deque[_Waiting]] = {}
        self._turns: deque[Link] = deque()  # the callers that have a line, and take what they asked for
        self._running = 0
        self._is_open = False
        self._credit = 0  # how many calls may still be begun in this turn of the loop
        self._turn_ends = -math.inf  # when it has been long enough
        self._is_scheduled = False  # the next turn
        self._idle: asyncio.Future[None] | None = None  # those who wait until nothing waits or runs any more
        self._is_over = False

    def serves(self, link: Link) -> bool:
        """Return whether a call that came over ``link`` is under way."""
        return link in self._calls

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to run."""
        return not (self._calls or self._fresh)

    async def rest(self) -> None:
        """Wait until there is nothing to run."""
        while not self.is_idle:
            if self._idle is None or self._idle.done():
                self._idle = self._loop.create_future()
            await asyncio.shield(self._idle)

    def open(self, worker: object, methods: Mapping[str, RpcMethod]) -> None:
        """Begin to run the ``methods`` of ``worker``, as called for until now and from now on."""
        self._worker = worker
        self._methods = methods
        self._is_open = True
        self._schedule()

    def receive(self, link: Link, request: Request, parts: Parts = ()) -> None:
        """Take in a call. ``parts`` are its large buffers."""
        if self._is_over:
            _refuse(link, request.number)
            return
        if not self._fresh:
            self._read_at = self._now()
            self._schedule()
        deadline = math.inf if request.seconds is None else self._read_at + request.seconds
        self._fresh.append((link, request, parts, deadline))

    def cancel(self, link: Link, number: int) -> None:
        """The caller does not wait for call ``number`` any more."""
        calls = self._calls.get(link)
        if calls is None or number not in calls:
            if self._fresh:
                self._given_up.add((link, number))
            return
        task = calls[number]
        if task is None:
            self._forget(link, number)
            return
        if inspect.getcoroutinestate(cast("Coroutine[Any, Any, None]", task.get_coro())) == inspect.CORO_CREATED:
            self._finished(link, number)  # It is cancelled before its first step, and never gets to say so itself.
        task.cancel()

    def link_lost(self, link: Link) -> None:
        """The caller is gone."""
        self._lines.pop(link, None)
        self._fresh = [waiting for waiting in self._fresh if waiting[0] is not link]
        self._note_rest()
        for number in list(self._calls.get(link, ())):
            self.cancel(link, number)

    async def close(self, timeout: float) -> None:
        """Let what has been asked for finish, for up to ``timeout`` seconds; cancel the rest and begin nothing more."""
        if self._is_open and timeout > 0:
            try:
                async with asyncio.timeout(timeout):
                    await self.rest()
            except TimeoutError:
                log.warning("%d calls are still running at the end; they are cancelled", self._running)
        self._is_over = True
        for link, request, *_ in self._not_begun():
            _refuse(link, request.number)
        tasks = self.abandon()
        if tasks:
            await asyncio.wait(tasks, timeout=0.1)

    def _not_begun(self) -> list[_Waiting]:
        fresh = [waiting for waiting in self._fresh if (waiting[0], waiting[1].number) not in self._given_up]
        lines = [waiting for line in self._lines.values() for waiting in line]
        return fresh + [waiting for waiting in lines if waiting[1].number in self._calls.get(waiting[0], ())]

    def abandon(self) -> list[asyncio.Task[None]]:
        """Start nothing any more and cancel what runs; return it."""
        self._is_open = False
        self._fresh.clear()
        self._lines.clear()
        self._turns.clear()
        tasks = [task for calls in self._calls.values() for task in calls.values() if task is not None]
        for task in tasks:
            task.cancel()
        return tasks

    # Whose turn it is.

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Begin as many calls as one turn of the loop may see: fresh ones if nobody waits, else from the lines."""
        self._is_scheduled = False
        now = self._now()
        self._credit = _STARTS_PER_TURN if self._is_open else 0
        self._turn_ends = now + _TURN
        fresh, self._fresh = self._fresh, []
        for waiting in fresh:
            link, request, parts, deadline = waiting
            calls = self._calls.get(link)
            if self._given_up and (link, request.number) in self._given_up:
                continue
            if calls is not None and (request.number in calls or len(calls) >= _FAIR):
                _fail(link, request, "RuntimeError", f"{link.node_id} has too many calls under way here")
            elif self._turns or link in self._lines or not self._may_begin(now) or link.calls_behind > MAX_BEHIND:
                self._line_up(waiting)
            elif now < deadline:
                self._begin(link, request, parts, deadline)
                now = self._now()
        self._given_up.clear()
        self._serve_lines()
        if self._turns and self._is_open and self._running < MAX_RUNNING:
            self._schedule()  # else the next call that comes or ends will see to it
        self._note_rest()

    def _may_begin(self, now: float) -> bool:
        return self._credit > 0 and now < self._turn_ends and self._running < MAX_RUNNING

    def _serve_lines(self) -> None:
        while self._turns and self._may_begin(now := self._now()):
            link = self._turns.popleft()
            line = self._lines.get(link)
            if line is None:
                continue  # The caller is gone.
            if link.calls_behind > MAX_BEHIND:
                link.when_calls_taken(partial(self._go_on, link))
                continue
            _, request, parts, deadline = line.popleft()
            if line:
                self._turns.append(link)
            else:
                del self._lines[link]
            if request.number in self._calls.get(link, ()):  # else it was given up while it waited
                self._forget(link, request.number)
                if now < deadline:
                    self._begin(link, request, parts, deadline)

    def _go_on(self, link: Link) -> None:
        """The caller takes its replies again."""
        if link in self._lines:
            self._turns.append(link)
            self._schedule()

    def _line_up(self, waiting: _Waiting) -> None:
        link, request, _, _ = waiting
        line = self._lines.get(link)
        if line is None:
            line = self._lines[link] = deque()
            self._turns.append(link)
        elif len(line) >= _FAIR:  # Most of it was given up.
            _fail(link, request, "RuntimeError", f"{link.node_id} has too many calls under way here")
            return
        line.append(waiting)
        self._enter(link, request.number, None)

    # One call.

    def _begin(self, link: Link, request: Request, parts: Parts, deadline: float) -> None:
        method = self._methods.get(request.method)
        if method is None:
            name = type(self._worker).__name__
            hint = suggestion(request.method, self._methods)
            _fail(link, request, "AttributeError", f"{name} has no @rpc method {request.method!r}{hint}")
            return
        try:
            args, named = method.arguments(request.arguments, request.named, parts)
        except TypeError as error:
            _fail(link, request, "TypeError", str(error))
            return
        self._credit -= 1
        if method.is_plain:
            self._call(link, request, method, args, named)
        else:
            self._running += 1
            if _EAGER:  # what it calls in its first step is part of a call already
                self._enter(link, request.number, None)
            coroutine = self._run(Errand(deadline), link, request, method, args, named)
            task = asyncio.Task(coroutine, loop=self._loop, name=method.name, **_EAGER)
            if not task.done():
                self._enter(link, request.number, task)

    def _call(
        self, link: Link, request: Request, method: RpcMethod, args: tuple[Any, ...], named: dict[str, Any]
    ) -> None:
        try:
            value = method.function(self._worker, *args, **named)
        except asyncio.CancelledError as error:
            _fail(link, request, "CancelledError", str(error))
        except SystemExit as stop:
            self._on_exit(stop)
        except Exception as error:
            _fail(link, request, _kind(error), str(error), _traceback(error))
        else:
            _answer(link, request, method, value)

    async def _run(
        self,
        its_errand: Errand,
        link: Link,
        request: Request,
        method: RpcMethod,
        args: tuple[Any, ...],
        named: dict[str, Any],
    ) -> None:
        errand.set(its_errand)
        CALLER.set(link)
        try:
            value = await method.function(self._worker, *args, **named)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or not task.cancelling():  # Not by us: the method has cancelled itself.
                _fail(link, request, "CancelledError", str(error))
        except SystemExit as stop:
            self._on_exit(stop)
        except Exception as error:
            _fail(link, request, _kind(error), str(error), _traceback(error))
        else:
            _answer(link, request, method, value)
        finally:
            its_errand.deadline = math.inf
            self._finished(link, request.number)

    def _enter(self, link: Link, number: int, task: asyncio.Task[None] | None) -> None:
        calls = self._calls.get(link)
        if calls is None:
            calls = self._calls[link] = {}
        calls[number] = task

    def _finished(self, link: Link, number: int) -> None:
        self._running -= 1
        self._forget(link, number)
        if self._turns:
            self._schedule()

    def _forget(self, link: Link, number: int) -> None:
        calls = self._calls.get(link)
        if calls is not None:
            calls.pop(number, None)
            if not calls:
                del self._calls[link]
        self._note_rest()

    def _note_rest(self) -> None:
        if self._idle is not None and self.is_idle and not self._idle.done():
            self._idle.set_result(None)


def _answer(link: Link, request: Request, method: RpcMethod, value: Any) -> None:
    try:
        if type(value) is not method.returns and method.returns is not None:
            value = method.checked(value)
        if type(value) in BYTES and is_large(value):
            raise LargeBuffer
        frame = encode((RESULT, request.number, value))
    except LargeBuffer:
        _answer_apart(link, request, value)
        return
    except UNSENDABLE as error:
        _fail(link, request, "TypeError", f"the result of {request.method} cannot be sent: {error}")
        return
    try:
        link.post(frame)
    except (PeerLost, PeerLeft, LinkClosed):
        pass  # Nobody is left to tell.
    except ValueError as error:
        _fail(link, request, "ValueError", f"the result of {request.method} cannot be sent: {error}")


def _answer_apart(link: Link, request: Request, value: Any) -> None:
    try:
        link.post_together(encode_apart((RESULT, request.number, set_apart(value))))
    except (PeerLost, PeerLeft, LinkClosed):
        pass
    except UNSENDABLE as error:
        kind = "ValueError" if isinstance(error, ValueError) else "TypeError"
        _fail(link, request, kind, f"the result of {request.method} cannot be sent: {error}")


def _fail(link: Link, request: Request, kind: str, message: str, text: str = "") -> None:
    try:
        # Text may hold what UTF-8 does not (a surrogate from a file's name); the reply must not fail on it.
        items = (item.encode("utf-8", "backslashreplace").decode() for item in (kind, message, text))
        link.post(encode((FAILED, request.number, *(item[:_MAX_TRACEBACK] for item in items))))
    except (PeerLost, PeerLeft, LinkClosed):
        pass


def _refuse(link: Link, number: int) -> None:
    with suppress(PeerLost, PeerLeft, LinkClosed):
        link.post(encode((REFUSED, number)))


def _kind(error: Exception) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _traceback(error: Exception) -> str:
    """Return the traceback as text, from the method's own frame on."""
    own = error.__traceback__.tb_next if error.__traceback__ is not None else None
    return "".join(traceback.format_exception(type(error), error, own))
