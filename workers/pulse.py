"""A worker's signs of life, stamped on the liveness board by the event loop itself.

A thread that stamps says that a thread is alive. The loop of a worker stamps with what it does anyway: before it waits
it says so, and when it goes on it says when. So an idle worker costs nothing and is known to be well, and a callback
that does not return shows as a turn that began long ago. It takes a selector of our own, which asyncio permits; where
a loop has no selector (uvloop) a timer stamps each ``beat`` instead.

Beside that there is a beat now and then (``BEAT_INTERVAL``), with figures for whoever asks. It tells an idle loop from
one that is frozen while it waits: that cannot give it. The selector gives it, too, since a timer would make a turn of
the loop: a wait that is longer than the next beat is off is made in slices, which the loop does not see.

For how long its thread has executed is told more often, but only where a turn begins and it was told ``ACCOUNTED``
before, or earlier: whoever wonders why a turn does not end can then tell what was done in it from what was before.
"""

from __future__ import annotations

import asyncio
import math
import os
import selectors
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from ..shared.memory.board import BEAT_INTERVAL, BoardWriter

_LAGS = 10
_SECOND = 1_000_000_000
_INTERVAL = round(BEAT_INTERVAL * _SECOND)

ACCOUNTED = 0.01
"""Seconds: a turn begins with an account of the thread if the latest one is older; each takes 4 us."""
_ACCOUNTED = round(ACCOUNTED * _SECOND)

_Ready = list[tuple[selectors.SelectorKey, int]]


class PulsedSelector(selectors.EpollSelector):
    """Stamps each turn of the loop that waits on it, and has beats given, from ``attach`` until ``detach``."""

    def attach(
        self, writer: BoardWriter, beat: Callable[[float, bool], bool], account: Callable[[], None] = lambda: None
    ) -> None:
        """Stamp the slot of ``writer`` from now on, and call ``beat`` each ``BEAT_INTERVAL``.

        ``beat`` is given by how many seconds it is late, and whether the loop has made no turn since the last one. Once
        it returns False nothing is stamped any more. ``account`` is called where a turn begins ``ACCOUNTED`` seconds
        after it was called last, or after a beat, or later.
        """
        words, at, bias, waiting = writer.words, writer.stamp_at, writer.bias, writer.waiting
        wait, now = super().select, time.monotonic_ns
        due = now() + _INTERVAL
        known_until = now() + _ACCOUNTED

        def give_beat(moment: int, is_idle: bool) -> bool:
            nonlocal due, known_until
            is_ours = beat((moment - due) / _SECOND, is_idle)
            if is_ours:
                due = moment + _INTERVAL
                known_until = moment + _ACCOUNTED
            return is_ours

        def begin_turn(moment: int) -> bool:
            nonlocal known_until
            if moment >= due:
                return give_beat(moment, False)
            account()
            known_until = moment + _ACCOUNTED
            return True

        def wait_beating(timeout: float | None) -> _Ready:
            moment, is_idle = now(), False
            end = math.inf if timeout is None else moment + timeout * _SECOND
            while due < end:
                if ready := wait((due - moment) / _SECOND):
                    return ready
                moment = now()
                if moment >= due:
                    if not give_beat(moment, is_idle):
                        break
                    is_idle = True
            return wait(None if timeout is None else (end - moment) / _SECOND)

        # On the instance, without a test for whether there is a board: this runs in every turn of every worker.
        def select(timeout: float | None = None) -> _Ready:
            words[at] = waiting
            ready = wait(0) if timeout == 0 else wait_beating(timeout)
            turn = now()
            if turn < known_until or begin_turn(turn):
                words[at] = turn + bias
            return ready

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
        """Is asked how many messages came and went, at each beat before which the loop has made a turn."""
        self.writer = writer
        self._loop = loop
        self._beat = beat
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
            self._loop.pulsed.attach(self.writer, self._give_beat, self._tell_account)
            self.writer.sign()
            self._give_beat(0.0, False)
        else:
            self._sign()
            self._due = self._loop.time()
            self._on_timer()

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

    def _on_timer(self) -> None:
        now = self._loop.time()
        if self._give_beat(max(0.0, now - self._due), False):
            self._due = now + BEAT_INTERVAL
            self._timer = self._loop.call_at(self._due, self._on_timer)

    def _give_beat(self, late: float, is_idle: bool) -> bool:
        self._lags.append(late)
        if not self.writer.beat(max(self._lags), self.links_up):
            self.stop()
            return False
        if not is_idle:
            self._counted = self.count_messages()
        self.writer.account(*self._counted, *_scheduled(self._account))
        return True

    def _tell_account(self) -> None:
        self.writer.schedule(*_scheduled(self._account))


def _scheduled(descriptor: int) -> tuple[int, int]:
    """Return for how many nanoseconds the thread has computed and has queued for a core; zeros if not told."""
    if descriptor < 0:
        return 0, 0
    try:
        executed, waited, _ = os.pread(descriptor, 100, 0).split()
        return int(executed), int(waited)
    except (OSError, ValueError):
        return 0, 0
