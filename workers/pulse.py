"""A worker's signs of life, stamped on the liveness board by the event loop itself.

A thread that stamps says that a thread is alive. The loop of a worker stamps with what it does anyway: before it waits
it says so, and when it goes on it says when. So an idle worker costs nothing and is known to be well, and a callback
that does not return shows as a turn that began long ago. It takes a selector of our own, which asyncio permits; where
a loop has no selector (uvloop) a timer stamps each ``beat`` instead.

Beside that there is one beat every two seconds, with figures for whoever asks. It tells an idle loop from one that is
frozen while it waits: that cannot give it.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from ..shared.memory.board import BEAT_INTERVAL, BoardWriter

_LAGS = 10
_COUNT_EACH = 2  # beats: all links are asked for it


class PulsedSelector(selectors.EpollSelector):
    """Stamps each turn of the loop that waits on it, from ``attach`` until ``detach``."""

    def attach(self, writer: BoardWriter) -> None:
        """Stamp the slot of ``writer`` from now on."""
        words, at, bias, waiting = writer.words, writer.stamp_at, writer.bias, writer.waiting
        wait, now = super().select, time.monotonic_ns

        def select(timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            words[at] = waiting
            ready = wait(timeout)
            words[at] = now() + bias
            return ready

        # On the instance, without a test for whether there is a board: this runs in every turn of every worker.
        self.select = select  # type: ignore[method-assign]

    def detach(self) -> None:
        """Stamp no more."""
        self.__dict__.pop("select", None)


class PulsedLoop(asyncio.SelectorEventLoop):
    """An event loop whose turns can be stamped: a loop factory for ``asyncio.Runner``."""

    def __init__(self) -> None:
        self.pulsed = PulsedSelector()
        super().__init__(self.pulsed)


class Pulse:
    """Keeps the slot of ``writer`` up to date from ``start`` to ``stop``; both in the thread of ``loop``.

    ``beat`` (seconds) is how often a loop that is no ``PulsedLoop`` is stamped. It ends by itself when a later
    incarnation has taken the slot over.
    """

    def __init__(
        self,
        writer: BoardWriter,
        loop: asyncio.AbstractEventLoop,
        *,
        beat: float = 0.025,
    ) -> None:
        self.links_up = 0
        """How many links are up: told by the next beat."""
        self.count_messages: Callable[[], tuple[int, int]] = lambda: (0, 0)
        """Is asked how many messages came and went, at each second beat."""
        self.writer = writer
        self._loop = loop
        self._beat = beat
        self._beats = 0
        self._counted = (0, 0)
        self._lags: deque[float] = deque(maxlen=_LAGS)
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._stamper: asyncio.TimerHandle | None = None
        self._account = -1

    def start(self) -> None:
        """Begin to stamp."""
        with suppress(OSError):
            self._account = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        if isinstance(self._loop, PulsedLoop):
            self._loop.pulsed.attach(self.writer)
            self.writer.sign()
        else:
            self._sign()
        self._due = self._loop.time()
        self._give_beat()

    def stop(self) -> None:
        """Stamp no more; the slot stays as it is. Again: no effect."""
        for timer in (self._timer, self._stamper):
            if timer is not None:
                timer.cancel()
        self._timer = self._stamper = None
        if isinstance(self._loop, PulsedLoop):
            self._loop.pulsed.detach()
        if self._account >= 0:
            os.close(self._account)
            self._account = -1

    def _sign(self) -> None:
        self.writer.sign()
        self._stamper = self._loop.call_later(self._beat, self._sign)

    def _give_beat(self) -> None:
        now = self._loop.time()
        self._lags.append(max(0.0, now - self._due))
        if not self.writer.beat(max(self._lags), self.links_up):
            self.stop()
            return
        if self._beats % _COUNT_EACH == 0:
            self._counted = self.count_messages()
        self.writer.account(*self._counted, *_scheduled(self._account))
        self._beats += 1
        self._due = now + BEAT_INTERVAL
        self._timer = self._loop.call_at(self._due, self._give_beat)


def _scheduled(descriptor: int) -> tuple[int, int]:
    """Return for how many nanoseconds the thread has computed and has queued for a core; zeros if not told."""
    if descriptor < 0:
        return 0, 0
    try:
        executed, waited, _ = os.pread(descriptor, 100, 0).split()
        return int(executed), int(waited)
    except (OSError, ValueError):
        return 0, 0
