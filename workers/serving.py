"""The called side of calls: runs ``@rpc`` methods, many at a time, and answers.

At most ``MAX_RUNNING`` run at once; further ones wait, bounded by what every caller may have under way. What comes in
before ``open`` waits for it. A call whose caller gave up, or is gone, is cancelled; what was not begun before ``close``
was done with the rest is refused, and may be made again elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
import math
import sys
import traceback
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any

from ..shared.errors import LinkClosed, PeerLeft, PeerLost
from .calls import MAX_IN_FLIGHT
from .finder import CALLER
from .inbox import Link
from .lane import FAILED, REFUSED, RESULT, Request, encode
from .rpc import RpcMethod, suggestion

MAX_RUNNING = 1024
"""Methods that run at the same time."""

_STARTS_PER_TURN = 128
_FAIR = 2 * MAX_IN_FLIGHT  # A caller's own limit, and as many again that it gave up and we have not ended yet.
_MAX_TRACEBACK = 64 * 1024

log = logging.getLogger("meshvisor.worker")

_Call = tuple[Link, Request, float]


class Serving:
    """Runs methods for others. ``on_exit`` is told of a SystemExit that leaves one of them."""

    def __init__(self, on_exit: Callable[[SystemExit], None]) -> None:
        self._worker: object = None
        self._methods: Mapping[str, RpcMethod] = {}
        self._on_exit = on_exit
        self._loop = asyncio.get_running_loop()
        # By link and number: the running task, or None while the call waits to be started.
        self._calls: dict[Link, dict[int, asyncio.Task[None] | None]] = {}
        self._waiting: deque[_Call] = deque()
        self._running = 0
        self._is_open = False
        self._is_over = False
        self._is_scheduled = False
        self._idle = asyncio.Event()
        self._idle.set()

    def serves(self, link: Link) -> bool:
        """Return whether a call that came over ``link`` is under way."""
        return link in self._calls

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to run."""
        return self._idle.is_set()

    async def rest(self) -> None:
        """Wait until there is nothing to run."""
        await self._idle.wait()

    def open(self, worker: object, methods: Mapping[str, RpcMethod]) -> None:
        """Begin to run the ``methods`` of ``worker``, as called for until now and from now on."""
        self._worker = worker
        self._methods = methods
        self._is_open = True
        self._schedule()

    def receive(self, link: Link, request: Request) -> None:
        """Put a call in line. It is started from the loop, never from within whatever received it."""
        if self._is_over:
            _refuse(link, request.number)
            return
        calls = self._calls.setdefault(link, {})
        if request.number in calls or len(calls) >= _FAIR:
            _fail(link, request, "RuntimeError", f"{link.node_id} has too many calls under way here")
            return
        calls[request.number] = None
        self._idle.clear()
        deadline = math.inf if request.seconds is None else self._loop.time() + request.seconds
        self._waiting.append((link, request, deadline))
        self._schedule()

    def cancel(self, link: Link, number: int) -> None:
        """The caller does not wait for call ``number`` any more."""
        calls = self._calls.get(link)
        if calls is None or number not in calls:
            return
        task = calls[number]
        if task is None:
            self._forget(link, number)
        else:
            task.cancel()

    def link_lost(self, link: Link) -> None:
        """The caller is gone."""
        for number in list(self._calls.get(link, ())):
            self.cancel(link, number)

    async def close(self, timeout: float) -> None:
        """Let what has been asked for finish, for up to ``timeout`` seconds; cancel the rest and begin nothing more."""
        if self._is_open and timeout > 0:
            try:
                async with asyncio.timeout(timeout):
                    await self._idle.wait()
            except TimeoutError:
                log.warning("%d calls are still running at the end; they are cancelled", self._running)
        self._is_over = True
        for link, request, _ in self._waiting:
            if request.number in self._calls.get(link, ()):
                _refuse(link, request.number)
        tasks = self.abandon()
        if tasks:
            await asyncio.wait(tasks, timeout=0.1)

    def abandon(self) -> list[asyncio.Task[None]]:
        """Start nothing any more and cancel what runs; return it."""
        self._is_open = False
        self._waiting.clear()
        tasks = [task for calls in self._calls.values() for task in calls.values() if task is not None]
        for task in tasks:
            task.cancel()
        return tasks

    def _schedule(self) -> None:
        if self._is_open and self._waiting and not self._is_scheduled and self._running < MAX_RUNNING:
            self._is_scheduled = True
            self._loop.call_soon(self._start_some)

    def _start_some(self) -> None:
        self._is_scheduled = False
        for _ in range(min(_STARTS_PER_TURN, MAX_RUNNING - self._running)):
            if not self._waiting:
                return
            self._start(*self._waiting.popleft())
        self._schedule()

    def _start(self, link: Link, request: Request, deadline: float) -> None:
        calls = self._calls.get(link)
        if calls is None or request.number not in calls:
            return  # Given up while it waited.
        if deadline < self._loop.time():
            self._forget(link, request.number)
            return
        method = self._methods.get(request.method)
        if method is None:
            name = type(self._worker).__name__
            hint = suggestion(request.method, self._methods)
            self._reject(link, request, "AttributeError", f"{name} has no @rpc method {request.method!r}{hint}")
            return
        try:
            args, named = method.arguments(request.arguments, request.named)
        except TypeError as error:
            self._reject(link, request, "TypeError", str(error))
            return
        self._running += 1
        task = _spawn(self._loop, self._run(link, request, method, args, named))
        if task.done():
            self._finished(link, request.number)
        else:
            calls[request.number] = task
            # Not in a `finally` of the task: one that is cancelled before its first step never gets there.
            task.add_done_callback(lambda _: self._finished(link, request.number))

    def _finished(self, link: Link, number: int) -> None:
        self._running -= 1
        self._forget(link, number)
        self._schedule()

    def _reject(self, link: Link, request: Request, kind: str, message: str) -> None:
        self._forget(link, request.number)
        _fail(link, request, kind, message)

    async def _run(
        self, link: Link, request: Request, method: RpcMethod, args: tuple[Any, ...], named: dict[str, Any]
    ) -> None:
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
            _answer(link, request, value)

    def _forget(self, link: Link, number: int) -> None:
        calls = self._calls.get(link)
        if calls is not None:
            calls.pop(number, None)
            if not calls:
                del self._calls[link]
        if not self._calls:
            self._idle.set()


if sys.version_info >= (3, 12):

    def _spawn(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run ``coroutine`` as a task, at once up to where it first waits: most methods never do."""
        return asyncio.Task(coroutine, loop=loop, eager_start=True)

else:

    def _spawn(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run ``coroutine`` as a task."""
        return loop.create_task(coroutine)


def _answer(link: Link, request: Request, value: Any) -> None:
    try:
        frame = encode((RESULT, request.number, value))
    except (TypeError, ValueError, OverflowError, NotImplementedError, RecursionError) as error:
        _fail(link, request, "TypeError", f"the result of {request.method} cannot be sent: {error}")
        return
    try:
        link.post(frame)
    except (PeerLost, PeerLeft, LinkClosed):
        pass  # Nobody is left to tell.
    except ValueError as error:
        _fail(link, request, "ValueError", f"the result of {request.method} cannot be sent: {error}")


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
