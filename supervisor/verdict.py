"""Why an event loop makes no turn: what a few looks at a late worker prove. Pure: looks in, a verdict out.

A loop that is late by its stamp may be blocked, may compute, may wait for a core that others have, or may be stopped:
four cases of which one calls for patience, one for none, and one is nobody's fault. The kernel knows which. It counts
for each thread how long it has executed and how long it has queued for a core, and a look compares these with the
look before:

    executed or queued for more than half of the time     not blocked: what is quiet begins anew
    runnable, without executing, at most of the looks     the same: queueing is booked only once it is over
    none of it for ``hang_timeout``                       hung, blocked (in a lock, a sleep, I/O)
    but other threads did so, or were runnable            not blocked: a thread in C code has the GIL
    a turn of ``busy_timeout``, less what was queued      hung, running
    state T                                               stopped, if it was by SIGSTOP
    state t, or T by another signal                       somebody debugs it, or pressed Ctrl-Z: no verdict

A look proves silence for half of the time-out, and for four beats at most (``Limits.credit``): what lies further back
may have been a pause of the whole machine, or of the observer. Where the kernel does not count (no schedstat), the
coarse ticks of CPU time are all there is, queueing goes unseen, and every deadline is doubled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

_LATE = 4  # beats
_LEAST_CREDIT, _MOST_CREDIT = 2, 4  # beats
_WITHOUT_SCHEDSTAT = 2.0
_SIGSTOP = 19


class Verdict(StrEnum):
    """What is known of a worker that is late; the last three are final."""

    FINE = "fine"  # not late enough to speak of
    LATE = "late"
    STARVED = "starved"  # late because the machine is overloaded: nobody's fault
    STOPPED = "stopped"
    BLOCKED = "hung-blocked"
    RUNNING = "hung-running"

    @property
    def is_final(self) -> bool:
        """Whether the worker is to be replaced."""
        return self in (Verdict.STOPPED, Verdict.BLOCKED, Verdict.RUNNING)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a worker may take, in seconds; a timeout of None is off, and without ``hang_timeout`` so is stopping."""

    beat: float
    hang_timeout: float | None
    busy_timeout: float | None

    @property
    def shortest(self) -> float:
        """The shorter one of the two time-outs."""
        hang, busy = self.hang_timeout, self.busy_timeout
        return min(math.inf if hang is None else hang, math.inf if busy is None else busy)

    @property
    def credit(self) -> float:
        """How much silence one look proves, in seconds: whoever looks first at a turn that is older loses time."""
        return self.beat * min(_MOST_CREDIT, max(_LEAST_CREDIT, self.shortest / 2 / self.beat))


@dataclass(frozen=True, slots=True)
class Scheduled:
    """How long the loop's thread had executed, and had queued for a core, when it last told (seconds)."""

    executed: float
    waited: float


@dataclass(frozen=True, slots=True)
class Others:
    """What the other threads of a process have executed and queued, together, and whether one is runnable."""

    executed: float = 0.0
    waited: float = 0.0
    is_runnable: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """What the kernel says of a worker at ``now`` (monotonic seconds); all else is in seconds since it started.

    ``state`` is the loop's thread's letter in /proc; ``executed`` and ``waited`` are that thread's (None: no
    schedstat), ``ticks`` is its CPU time in coarse ticks, ``cpu`` that of the whole process. ``others`` are the other
    threads. ``stop_signal`` is what stopped the process (0: not known).
    """

    now: float
    state: str
    executed: float | None
    waited: float
    ticks: float
    cpu: float
    stop_signal: int = 0
    others: Others = Others()

    @property
    def computed(self) -> float:
        """The thread's CPU time, as exactly as it is known."""
        return self.ticks if self.executed is None else self.executed

    @property
    def active(self) -> float:
        """How long the threads that live now have executed and queued, all together."""
        return self.computed + self.waited + self.others.executed + self.others.waited

    @property
    def is_frozen(self) -> bool:
        """Whether it was stopped by the signal that nobody can catch; not by a person's Ctrl-Z, nor by a debugger."""
        return self.state == "T" and self.stop_signal in (0, _SIGSTOP)

    @property
    def is_held(self) -> bool:
        """Whether somebody holds it who will let it go on."""
        return self.state == "t" or (self.state == "T" and not self.is_frozen)


class Suspicion:
    """One worker that is late since ``since``: when the turn began that does not end, as far as the owner saw it.

    The owner makes one when that is longer ago than a beat, feeds it with a look each beat, and drops it when the
    worker makes another turn. ``scheduled`` is what the worker has said last, at the beginning of
    the turn or a little before: it can prove that nothing was computed from then on.
    """

    def __init__(self, since: float, limits: Limits, scheduled: Scheduled | None = None) -> None:
        self.since = since
        self.limits = limits
        self.computed = 0.0
        """CPU time of the loop's thread since the first look, in seconds."""
        self._scheduled = scheduled
        self._last: Look | None = None
        self._quiet_since = since
        self._quiet_looks = self._runnable_looks = 0
        self._mark: Look | None = None  # the look at which what is quiet began
        self._first: Look | None = None
        self._queued = self._queueing = self._excused = 0.0
        # What others queued excuses a thread that waits for the GIL, but for no longer than it did nothing else.
        self._others_queued = self._passive = 0.0
        self._credit = limits.credit

    @property
    def excused(self) -> float:
        """For how long the worker could not help being late, in seconds: it queued, was held, or nobody looked."""
        by_others = min(self._others_queued, self._passive)
        return self._queued + self._queueing + self._excused + by_others

    @property
    def due(self) -> float:
        """When a look may give the final verdict, if nothing changes until then."""
        hang, busy = self._patience()
        return min(self._quiet_since + hang, self.since + self.excused + busy)

    def look(self, look: Look, *, is_trusted: bool = True) -> Verdict:
        """Take a look in and say what is known now.

        Not trusted is the look of an observer that stood still just before: it proves nothing, and the time until it
        counts for nothing. Its verdict is not to be acted upon.
        """
        credit = self._credit if is_trusted else 0.0
        if self._last is None:
            self._begin(look, credit)
        elif look.now > self._last.now:
            self._compare(self._last, look, credit)
        self._last = look
        return self._judge(look)

    def _begin(self, look: Look, credit: float) -> None:
        self._mark = self._first = look
        self._quiet_since = look.now
        self._excused = max(0.0, look.now - self.since - credit)
        before = self._scheduled
        if before is None or look.executed is None or look.state not in ("S", "D"):
            return
        active = look.executed - before.executed + look.waited - before.waited
        if 0 <= active <= (look.now - self.since) / 2:
            self._quiet_since = max(self.since, look.now - credit)

    def _compare(self, last: Look, look: Look, credit: float) -> None:
        elapsed = look.now - last.now
        computed, queued = max(0.0, look.computed - last.computed), max(0.0, look.waited - last.waited)
        is_computing = computed > elapsed / 2
        unseen = max(0.0, elapsed - credit)
        self.computed += computed
        self._queued += queued
        if queued or is_computing:
            self._queueing = 0.0  # it is booked by now
        elif look.state == "R":
            self._queueing += elapsed - unseen
        else:
            self._passive += elapsed - unseen
            self._others_queued += max(0.0, look.others.waited - last.others.waited)
        self._quiet_looks += 1
        self._runnable_looks += look.others.is_runnable or (look.state == "R" and not is_computing)
        self._excused += elapsed if look.is_held else max(0.0, unseen - computed)
        if look.is_held or computed + queued > elapsed / 2 or self._runnable_looks > self._quiet_looks / 2:
            self._restart(look)
        else:
            self._quiet_since += unseen

    def _restart(self, look: Look) -> None:
        self._quiet_since = look.now
        self._quiet_looks = self._runnable_looks = 0
        self._mark = look

    def _judge(self, look: Look) -> Verdict:
        if look.is_frozen and self.limits.hang_timeout is not None:
            return Verdict.STOPPED
        hang, busy = self._patience(look)
        if not look.is_held and look.now - self._quiet_since >= hang:
            if not _is_active(self._mark or look, look):
                return Verdict.BLOCKED
            self._restart(look)
        age = look.now - self.since
        # With `hang_timeout` off, a loop that does not compute may take as long as it likes.
        if age - self.excused >= busy and (hang < math.inf or self._is_computing(look)):
            return Verdict.RUNNING
        if age <= _LATE * self.limits.beat:
            return Verdict.FINE
        return Verdict.STARVED if self._queued + self._queueing > age / 2 else Verdict.LATE

    def _is_computing(self, look: Look) -> bool:
        first = self._first or look
        span = look.now - first.now - self.excused
        return span > 0 and max(self.computed, look.cpu - first.cpu) > span / 2

    def _patience(self, look: Look | None = None) -> tuple[float, float]:
        look = look or self._last
        factor = _WITHOUT_SCHEDSTAT if look is not None and look.executed is None else 1.0
        hang, busy = self.limits.hang_timeout, self.limits.busy_timeout
        return (math.inf if hang is None else factor * hang), (math.inf if busy is None else factor * busy)


def _is_active(mark: Look, look: Look) -> bool:
    """Return whether the process used, or queued for, more than half of a core between two looks."""
    # Ticks are coarse; what threads tell by themselves goes with those that end.
    return max(look.cpu - mark.cpu, look.active - mark.active) > (look.now - mark.now) / 2
