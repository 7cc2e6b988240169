"""Functions that block, run in threads, so that the loop goes on and is seen to go on.

There is no thread before the first call, and there are never more than ``THREADS``: who comes when all are at work
waits on the loop, in order, and can be cancelled there. What runs in a thread cannot be stopped: if its caller gives
up, it keeps its thread until it has returned, and the end of the process does not wait for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

THREADS = 8
"""Functions that run at the same time.

If all of them compute, the loop gets the interpreter back within 5 ms for each: well before it would be missed.
"""

P = ParamSpec("P")
T = TypeVar("T")


class Blocking:
    """The threads of one worker."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Semaphore(THREADS)
        self._threads: ThreadPoolExecutor | None = None
        self._is_closed = False

    async def run(self, function: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """Run ``function`` in a thread, in a copy of the current context; return or raise what it does.

        Raises:
            RuntimeError: If the worker is at its end.
            TypeError: If ``function`` is none, or ``async def``.
        """
        if not callable(function) or inspect.iscoroutinefunction(function):
            what = "`async def`: await it" if callable(function) else "none: pass it, and its arguments after it"
            raise TypeError(f"run_blocking takes a plain function, and {function!r} is {what}")
        await self._room.acquire()
        try:
            if self._is_closed:
                raise RuntimeError("this worker is at its end: nothing is run in threads any more")
            if self._threads is None:
                from concurrent.futures import ThreadPoolExecutor  # Most workers never need it.

                self._threads = ThreadPoolExecutor(THREADS, "blocking")
            work = partial(_without_stop_iteration, function, *args, **named)
            done = self._threads.submit(contextvars.copy_context().run, work)
        except BaseException:
            self._room.release()
            raise
        done.add_done_callback(self._ended)
        return await asyncio.wrap_future(done, loop=self._loop)

    def close(self) -> None:
        """Begin nothing any more; what runs is left to itself."""
        self._is_closed = True
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _ended(self, _: Future[T]) -> None:
        with contextlib.suppress(RuntimeError):  # The loop is no more, and nobody waits on it.
            self._loop.call_soon_threadsafe(self._room.release)


def _without_stop_iteration(function: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
    try:
        return function(*args, **named)
    except StopIteration as stop:
        # No Future takes one: whoever waits for it would wait for ever.
        raise RuntimeError(f"{getattr(function, '__qualname__', function)} raised StopIteration") from stop
