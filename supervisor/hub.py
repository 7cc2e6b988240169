"""Passing events on to whoever listens, without waiting for anybody."""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Generic, ParamSpec

from .event import Event

P = ParamSpec("P")
_STREAM_LIMIT = 1024
_log = logging.getLogger("meshvisor.supervisor")


class Listeners(Generic[P]):
    """Callbacks; one that raises is reported to the log and does not keep the others from hearing."""

    def __init__(self) -> None:
        self._callbacks: dict[object, Callable[P, None]] = {}

    def add(self, callback: Callable[P, None]) -> Callable[[], None]:
        """Add ``callback`` and return what removes it again."""
        key = object()
        self._callbacks[key] = callback

        def remove() -> None:
            self._callbacks.pop(key, None)

        return remove

    def notify(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Call everybody."""
        for callback in tuple(self._callbacks.values()):
            try:
                callback(*args, **kwargs)
            except Exception:
                _log.exception("a listener failed")


class EventStream:
    """The events from now on, for ``async for``; it ends with the mesh.

    A reader that is more than ``_STREAM_LIMIT`` events behind loses the oldest, and is told so by an event
    ``dropped`` with their ``count``. A stream that nobody refers to any more is forgotten.
    """

    def __init__(self, *, ended: bool) -> None:
        self._events: deque[Event] = deque()
        self._dropped = 0
        self._ended = ended
        self._waiter: asyncio.Future[None] | None = None

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> Event:
        while not self._events:
            if self._ended:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self._dropped:
            count, self._dropped = self._dropped, 0
            return Event(time.time(), "dropped", details={"count": count})
        return self._events.popleft()

    def put(self, event: Event) -> bool:
        """Add ``event``; return whether the oldest had to go, for want of room."""
        is_full = len(self._events) >= _STREAM_LIMIT
        if is_full:
            self._events.popleft()
            self._dropped += 1
        self._events.append(event)
        self._wake()
        return is_full

    def end(self) -> None:
        """Nothing more comes."""
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Hub:
    """Where everything that happens in a mesh is said, and everything that its children print.

    Once it is open, callbacks hear of an event at the end of the loop's turn: they write to terminals, files and
    sockets, and whatever happened calls for something that is done first, in this turn.
    """

    def __init__(self) -> None:
        self.events: Listeners[[Event]] = Listeners()
        self.output: Listeners[[str, str, str]] = Listeners()
        self.dropped = 0
        """How many events readers have lost because they were too slow."""
        self._streams: weakref.WeakSet[EventStream] = weakref.WeakSet()
        self._ended = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._untold: list[Event] = []

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Tell callbacks at the end of the turns of ``loop`` from now on, until ``end``."""
        self._loop = loop

    def publish(self, event: str, slot: str = "", incarnation: int = 0, **details: object) -> Event:
        """Say that something happened, now, and return how it is said."""
        happened = Event(time.time(), event, slot, incarnation, details)
        self._untold.append(happened)
        for stream in tuple(self._streams):
            self.dropped += stream.put(happened)
        if self._loop is None:
            self._tell()
        elif len(self._untold) == 1:
            self._loop.call_soon(self._tell)
        return happened

    def stream(self) -> EventStream:
        """Return the events from now on."""
        stream = EventStream(ended=self._ended)
        self._streams.add(stream)
        return stream

    def end(self) -> None:
        """Nothing more happens."""
        self._tell()
        self._loop = None
        self._ended = True
        for stream in tuple(self._streams):
            stream.end()

    def _tell(self) -> None:
        untold, self._untold = self._untold, []
        for event in untold:
            self.events.notify(event)
