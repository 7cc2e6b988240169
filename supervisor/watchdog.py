"""Watches the liveness board, and finds out about workers that are late.

One timer serves a whole mesh as long as anybody is watched, and it comes as seldom as it may, since waking up is what
costs: the stamps tell when a turn began, so nobody need look before a turn that has just begun, or may begin right
after this scan, is so old that a first look at it must be taken (``Limits.credit``). What a scan does as a rule is to
copy the stamps of all slots and compare them with what they are when every loop waits: two operations, whatever the
number of workers. Only a worker that is late is looked at more closely, each ``beat``, as long as it is.

The watchdog stands still itself at times (the machine is overloaded, or was suspended). What it takes for silence then
is its own (``ObserverPause``): for a while it tells nothing, and that time counts against nobody.
"""

from __future__ import annotations

import asyncio
import math
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass

from ..shared.core.health import ObserverPause
from ..shared.memory.board import BEAT_INTERVAL, LivenessBoard, Stage, waiting
from . import procfs
from .verdict import Limits, Look, Scheduled, Suspicion, Verdict

_PACE = 4  # beats: the most between two scans
_PAUSE = 2  # beats that the watchdog may be late
_GRACE = 4  # beats
_PUNCTUAL = 0.95  # of the credit: timers are late rather than early
_BEATS_LOOKED_AT = 0.25
_OVERDUE = BEAT_INTERVAL + 1.0  # seconds after a beat at which the next one is more than late
_SHORTEST = 0.001
_ROUNDING = 1e-6  # seconds: what is due is due for sure that much later


@dataclass(slots=True)
class _Watched:
    index: int
    pid: int
    started: int | None  # None: not known yet
    incarnation: int
    limits: Limits
    idle: int
    watched_since: float
    reach: float  # seconds: how old a turn may be when it is looked at first
    stamp: int = 0
    suspicion: Suspicion | None = None
    tid: int = 0
    selector: int = -1
    is_suspect: bool = False
    is_judged: bool = False


class Watchdog:
    """Tells who is late, and who is to be replaced. For the loop's thread.

    Args:
        loop: The supervisor's event loop.
        board: Where the workers stamp.
        beat: How often to look at a worker that is late, in seconds.
        judged: Called with slot, final verdict and evidence (a text for people), once for each time it is watched.
        suspected: Called with slot and whether it is late by four beats or more, at each change.
        look: See ``procfs.look``.
        clock: CLOCK_MONOTONIC in seconds, which is also the clock of the stamps.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        board: LivenessBoard,
        beat: float,
        judged: Callable[[int, Verdict, str], None],
        suspected: Callable[[int, bool], None] = lambda index, is_late: None,
        *,
        look: Callable[[int, int, int, float], Look | None] = procfs.look,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loop = loop
        self._board = board
        self._beat = beat
        self._judged = judged
        self._suspected = suspected
        self._look_at = look
        self._clock = clock
        self._pause = self._new_pause()
        self._lag = 0.0
        self._watched: dict[int, _Watched] = {}
        self._late: set[int] = set()
        self._pace = beat
        self._next_at = 0.0
        self._count = 0
        self._idle = b""  # what the stamps are when all loops wait
        self._beats_due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0  # when it fires; the timers of uvloop need not know

    def watch(
        self,
        index: int,
        pid: int,
        incarnation: int,
        *,
        hang_timeout: float | None,
        busy_timeout: float | None,
        start_time: int | None = None,
    ) -> None:
        """Judge the worker in slot ``index`` from now on: it is ready. None: that time-out is off.

        ``start_time`` is what ``procfs.start_time`` has said of the process, which must not be reaped while it is
        watched. What cannot be read now (there may be no descriptor to read it with) is read when it is needed.

        Raises:
            ValueError: If the board has no such slot.
        """
        if not 0 <= index < self._board.capacity:
            raise ValueError(f"the board has slots 0 to {self._board.capacity - 1}, not {index}")
        self.unwatch(index)
        started = procfs.start_time(pid) if start_time is None else start_time
        limits = Limits(self._beat, hang_timeout, busy_timeout)
        now = self._clock()
        reach = _PUNCTUAL * limits.credit
        self._watched[index] = _Watched(index, pid, started, incarnation, limits, waiting(incarnation), now, reach)
        self._expect()
        if self._timer is None:
            self._pause = self._new_pause()
            self._pause.tick(now)
            self._beats_due = now
            self._tick_after(self._pace)
        elif self._due > self._loop.time() + self._pace:
            self._timer.cancel()
            self._tick_after(self._pace)

    def unwatch(self, index: int) -> None:
        """Judge slot ``index`` no more: it is to stop, or has ended. Nothing is told; one not watched: no effect."""
        if self._watched.pop(index, None) is None:
            return
        self._late.discard(index)
        self._expect()
        if not self._watched:
            self.close()

    def take_lag(self) -> float:
        """Return by how many seconds the loop was late at worst since this was last asked; 0 if nobody is watched."""
        lag, self._lag = self._lag, 0.0
        return lag

    def close(self) -> None:
        """Watch nobody any more."""
        self._watched.clear()
        self._late.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _new_pause(self) -> ObserverPause:
        return ObserverPause(interval=_PACE * self._beat, limit=_PAUSE * self._beat, grace=_GRACE * self._beat)

    def _expect(self) -> None:
        """Work out what the stamps are when all loops wait, and how often to look at them."""
        self._pace = min((watched.reach for watched in self._watched.values()), default=self._beat)
        self._count = max(self._watched, default=-1) + 1
        stamps = [self._watched[index].idle if index in self._watched else 0 for index in range(self._count)]
        self._idle = array("Q", stamps).tobytes()

    def _tick(self) -> None:
        timer, now = self._timer, self._clock()
        if timer is not None:
            self._lag = max(self._lag, self._loop.time() - self._due)
        self._pause.tick(now)
        stamps = self._board.scan(self._count)
        self._next_at = now + self._pace
        try:
            if stamps != self._idle or self._late or now >= self._beats_due:
                self._examine_all(stamps, now)
        finally:  # Whatever those who are told may raise; they may also have ended the watch, and begun another one.
            if self._timer is timer:
                self._tick_after(self._until_next())

    def _tick_after(self, delay: float) -> None:
        self._due = self._loop.time() + delay
        self._timer = self._loop.call_at(self._due, self._tick)

    def _examine_all(self, stamps: bytes, now: float) -> None:
        is_time_for_beats = now >= self._beats_due
        if is_time_for_beats:
            self._beats_due = now + _BEATS_LOOKED_AT
        words = memoryview(stamps).cast("Q")
        for watched in list(self._watched.values()):
            stamp = words[watched.index]
            if watched.suspicion is None and stamp == watched.idle and not is_time_for_beats:
                continue
            # Whoever was told about another slot just now may have taken this one away.
            if not watched.is_judged and self._watched.get(watched.index) is watched:
                self._examine(watched, stamp, now)

    def _examine(self, watched: _Watched, stamp: int, now: float) -> None:
        since = self._late_since(watched, stamp)
        if since is None or now - since <= self._beat:
            self._clear(watched)
            if since is not None:
                self._next_at = min(self._next_at, since + watched.reach)
            return
        if watched.suspicion is None or watched.stamp != stamp:
            watched.stamp = stamp
            watched.suspicion = self._suspect(watched, since)
        if watched.suspicion is None:
            self._clear(watched)
        else:
            self._late.add(watched.index)
            self._look(watched, watched.suspicion, now)

    def _late_since(self, watched: _Watched, stamp: int) -> float | None:
        """Return since when there should have been a turn, or a beat; None if all is well, or not to be believed."""
        if stamp == watched.idle:
            beat_at = self._board.beat_at(watched.index, watched.incarnation)
            since = None if beat_at is None else beat_at + _OVERDUE
        else:
            since = self._board.turn(stamp, watched.incarnation)
        return None if since is None else max(since, watched.watched_since)

    def _suspect(self, watched: _Watched, since: float) -> Suspicion | None:
        """Return a new suspicion; None if the entry is not that of the worker, or says that it is on its way out."""
        entry = self._board.read(watched.index)
        if entry is None or (entry.incarnation, entry.pid) != (watched.incarnation, watched.pid):
            return None
        if entry.stage is Stage.STOPPING:
            return None
        watched.tid, watched.selector = entry.tid, entry.selector
        scheduled = None
        if entry.executed is not None and entry.waited is not None:
            scheduled = Scheduled(entry.executed, entry.waited)
        return Suspicion(since, watched.limits, scheduled)

    def _look(self, watched: _Watched, suspicion: Suspicion, now: float) -> None:
        if watched.started is None:
            watched.started = procfs.start_time(watched.pid)
        look = None
        if watched.started is not None:
            look = self._look_at(watched.pid, watched.tid, watched.started, now)
        if look is None:  # Gone: its pidfd says so. Or nobody can look now, and somebody will with the next beat.
            self._clear(watched)
            self._next_at = min(self._next_at, now + self._beat)
            return
        is_trusted = self._pause.is_trusted(now)
        verdict = suspicion.look(look, is_trusted=is_trusted)
        if not is_trusted:
            return
        if verdict.is_final and self._is_contradicted(watched):
            self._clear(watched)
            return
        if verdict is not Verdict.FINE and not watched.is_suspect:
            watched.is_suspect = True
            self._suspected(watched.index, True)
        if verdict.is_final:
            watched.is_judged = True
            watched.suspicion = None
            self._late.discard(watched.index)
            self._judged(watched.index, verdict, self._evidence(watched, suspicion, look, verdict))

    def _is_contradicted(self, watched: _Watched) -> bool:
        """Whether the worker has made a turn, has begun to stop, or waits on its selector, where no turn is on."""
        stamp, entry = self._board.stamp(watched.index), self._board.read(watched.index)
        if stamp != watched.stamp or (entry is not None and entry.stage is Stage.STOPPING):
            return True
        if stamp == watched.idle or watched.selector < 0:
            return False
        return procfs.waits_on(watched.pid, watched.tid) == watched.selector

    def _evidence(self, watched: _Watched, suspicion: Suspicion, look: Look, verdict: Verdict) -> str:
        age = look.now - suspicion.since
        if verdict is Verdict.STOPPED:
            return f"it is stopped (state T, by SIGSTOP) and made no turn for {age:.2f} s"
        place = procfs.sleeps_in(watched.pid, watched.tid)
        where = f"state {look.state}, in {place}" if place else f"state {look.state}"
        if watched.stamp == watched.idle:
            return f"its event loop waits and is {age:.2f} s late to wake up for its beat ({where}): is it frozen?"
        if verdict is Verdict.BLOCKED:
            return f"its event loop made no turn for {age:.2f} s and used no CPU ({where})"
        return (
            f"its event loop made no turn for {age:.2f} s and computed for {suspicion.computed:.2f} s of it ({where})"
        )

    def _clear(self, watched: _Watched) -> None:
        watched.suspicion = None
        self._late.discard(watched.index)
        if watched.is_suspect:
            watched.is_suspect = False
            self._suspected(watched.index, False)

    def _until_next(self) -> float:
        """Return the seconds until the next scan: at most a beat while anybody is late, less if a verdict is due."""
        now = self._clock()
        wait = min(self._next_at - now, self._pace)
        late = [self._watched[index].suspicion for index in self._late]
        for suspicion in late:
            until_due = math.inf if suspicion is None else suspicion.due + _ROUNDING - now
            wait = min(wait, self._beat, until_due if until_due > 0 else self._beat)
        return max(_SHORTEST, wait)
