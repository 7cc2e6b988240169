"""One zygote and its spares: kept going, kept full, and used by workers of one directory and environment only.

              ┌──────── start ───────┐                 ┌── it dies, or cannot be started ──┐
    ABSENT ───┘   (or after a rest)  └──▶ IMPORTING ───┼───────────────────────────────────┴──▶ RESTING
                                              │        └── threads are left ──▶ UNFIT
                                              └── prepared ──▶ READY ── it dies ──▶ RESTING

Requests wait while the zygote imports, each for as long as its ``patience`` lasts, and none any more after one has
waited in vain; then, and in all other states but READY, they fall back to what makes a process without a zygote.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from pathlib import Path
from typing import Protocol

from ..shared.config.model import Backoff
from ..shared.control.zygote import Prepare, Prepared
from . import spawn
from .backoff import restart_delay
from .nest import Nest
from .zygote import CheckDone, ForkDone, Zygote

FILL_DELAY = 0.05
"""Seconds from the use of a spare to the fork of the next: whoever took its place is busy meanwhile."""

YOUNG = 5.0
"""Seconds that a zygote or a spare must have lived for its death not to count as one of a row."""

_BACKOFF = Backoff(initial=0.1, max=30.0, factor=2.0, jitter=0.0, reset_after=YOUNG)


class State(Enum):
    """What the zygote of a cradle is up to."""

    ABSENT = auto()
    IMPORTING = auto()
    READY = auto()
    RESTING = auto()
    UNFIT = auto()
    CLOSED = auto()


class Waiting(Protocol):
    """A request as a cradle sees it."""

    def arrive(self, process: spawn.Process) -> None:
        """Take the process."""

    def fall_back(self) -> None:
        """Do without."""

    @property
    def is_over(self) -> bool:
        """Whether nobody waits for it any more."""


class ZygoteLike(Protocol):
    """What a cradle needs of a zygote; see ``Zygote``."""

    pid: int

    @property
    def is_forking(self) -> bool: ...
    @property
    def tail(self) -> str: ...
    def fork(self, done: ForkDone, *, is_spare: bool = False) -> None: ...
    def check(self, done: CheckDone) -> None: ...
    def kill(self, reason: str) -> None: ...


class ZygoteStart(Protocol):
    """Starts a zygote; see ``start_zygote``."""

    def __call__(
        self,
        loop: asyncio.AbstractEventLoop,
        plan: Plan,
        *,
        prepared: Callable[[Prepared], None],
        ended: Callable[[str], None],
    ) -> ZygoteLike: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """What a zygote is: where it runs, with which environment, and what it imports."""

    title: str
    cwd: Path
    environment: Mapping[str, str]
    modules: tuple[str, ...]
    patience: float = 10.0
    """Seconds that the imports may take where somebody waits for all of them."""


def start_zygote(
    loop: asyncio.AbstractEventLoop,
    plan: Plan,
    *,
    prepared: Callable[[Prepared], None],
    ended: Callable[[str], None],
) -> ZygoteLike:
    """Start a zygote process.

    Raises:
        SpawnError: If there is none now.
    """
    process = spawn.spawn_zygote(plan.cwd, plan.environment)
    prepare = Prepare(plan.title, str(plan.cwd), plan.modules)
    return Zygote(loop, process, prepare, prepared=prepared, ended=ended)


class Cradle:
    """See the module. ``tell`` hears what happens: a name of an event, and its facts.

    ``enlist`` is given each new spare, to tell it what it does while it waits.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        plan: Plan,
        spares: int,
        tell: Callable[..., None],
        start: ZygoteStart = start_zygote,
        enlist: Callable[[spawn.Process], None] = lambda process: None,
    ) -> None:
        self.plan = plan
        self.state = State.ABSENT
        self.skipped: Mapping[str, str] = {}  # the modules that it could not import, each with the error
        self.trouble = ""  # why it has no zygote, if it should
        self._loop = loop
        self._spare_count = spares
        self._tell = tell
        self._start = start
        self._enlist = enlist
        self._zygote: ZygoteLike | None = None
        self._has_imported = asyncio.Event()  # or failed to
        self._has_no_zygote = asyncio.Event()
        self._has_no_zygote.set()
        self._started_at = 0.0
        self._is_slow = False  # somebody has waited for its imports in vain
        self._failures = 0
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: dict[Waiting, asyncio.TimerHandle] = {}
        self._nest = Nest(loop, self._spare_died)
        self._spares_ordered = 0
        self._spare_failures = 0
        self._fill_timer: asyncio.TimerHandle | None = None

    @property
    def pids(self) -> set[int]:
        """The processes that belong to it, spares included."""
        own = {self._zygote.pid} if self._zygote is not None else set()
        return own | self._nest.pids

    @property
    def is_forking(self) -> bool:
        """Whether there may be a child of ours that we have not been told of."""
        return self._zygote is not None and self._zygote.is_forking

    @property
    def spares(self) -> int:
        """How many spares wait."""
        return len(self._nest)

    def begin(self) -> None:
        """Start the zygote, if there is none yet."""
        if self.state is State.ABSENT:
            self._begin()

    def take_spare(self) -> spawn.Process | None:
        """Return a spare, which is the caller's from now on; None if there is none. Another one will follow."""
        process = self._nest.take()
        if process is not None:
            self._fill_later(FILL_DELAY)
        return process

    def order(self, request: Waiting, patience: float) -> None:
        """Answer ``request``; while the modules are still being imported, wait for that up to ``patience`` seconds."""
        self.begin()
        if self.state is State.IMPORTING and not self._is_slow:
            self._waiting[request] = self._loop.call_later(patience, self._lose_patience, request)
        elif self.state is State.READY:
            self._fork(request)
        else:
            request.fall_back()

    def check(self, done: CheckDone) -> None:
        """Have ``done`` called with the files that changed since they were imported; None if nobody knows."""
        if self._zygote is None or self.state is not State.READY:
            done(None)
        else:
            self._zygote.check(done)

    def drop_spares(self) -> None:
        """End the spares and keep none from now on."""
        self._spare_count = 0
        self._nest.clear()

    def renew_spares(self) -> None:
        """Replace all spares by new ones: what they were told does not hold any more."""
        self._nest.clear()
        self._fill_later(0.0)

    def keep_spares(self, count: int) -> None:
        """Keep so many spares from now on, and end those beyond."""
        self._spare_count = count
        while self.spares > count and (surplus := self._nest.take()) is not None:
            self._nest.end(surplus)
        self._fill_later(0.0)

    async def wait_imported(self) -> bool:
        """Wait until its zygote has imported or failed to; return whether it forks now."""
        await self._has_imported.wait()
        return self.state is State.READY

    async def close(self) -> None:
        """End everything, and wait until all of it is reaped."""
        self.state = State.CLOSED
        for timer in (self._timer, self._fill_timer):
            if timer is not None:
                timer.cancel()
        self._fall_back()
        self._has_imported.set()
        if self._zygote is not None:
            self._zygote.kill("it is no longer needed")
        await self._has_no_zygote.wait()
        await self._nest.close()

    # The zygote.

    def _begin(self) -> None:
        self._timer = None
        self._has_imported.clear()
        self.state = State.IMPORTING
        self._is_slow = False
        self._started_at = self._loop.time()
        try:
            self._zygote = self._start(self._loop, self.plan, prepared=self._is_prepared, ended=self._has_ended)
        except spawn.SpawnError as error:
            self.trouble = str(error)
            self._tell("zygote-died", pid=None, reason=self.trouble, tail="", delay=self._rest())
        else:
            self._has_no_zygote.clear()

    def _is_prepared(self, said: Prepared) -> None:
        assert self._zygote is not None
        if self.state is not State.IMPORTING:
            return
        self.skipped = said.skipped
        if said.threads:
            self.state = State.UNFIT
            reason = _threads(said)
            self._tell("zygote-unfit", pid=self._zygote.pid, reason=reason)
            self._zygote.kill(reason)
            self._fall_back()
            self._has_imported.set()
            return
        self.state = State.READY
        duration = self._loop.time() - self._started_at
        self._tell("zygote-started", pid=self._zygote.pid, duration=duration, skipped=said.skipped)
        waiting, self._waiting = self._waiting, {}
        for request, timer in waiting.items():
            timer.cancel()
            self._fork(request)
        self._has_imported.set()
        self._fill_later(FILL_DELAY if waiting else 0.0)

    def _has_ended(self, reason: str) -> None:
        zygote, self._zygote = self._zygote, None
        if self.state in (State.READY, State.IMPORTING) and zygote is not None:
            if self.state is State.READY and self._loop.time() - self._started_at >= YOUNG:
                self._failures = 0
            self.trouble = reason
            self._tell("zygote-died", pid=zygote.pid, reason=reason, tail=zygote.tail, delay=self._rest())
        self._has_no_zygote.set()

    def _rest(self) -> float:
        """Begin again after a while, and return in how many seconds; until then nothing waits for it."""
        self.state = State.RESTING
        self._failures += 1
        delay = restart_delay(_BACKOFF, self._failures, 0.0)
        self._timer = self._loop.call_later(delay, self._begin)
        self._fall_back()
        self._has_imported.set()
        return delay

    # Requests.

    def _fork(self, request: Waiting) -> None:
        if self._zygote is None or request.is_over:
            request.fall_back()
        else:
            self._zygote.fork(partial(self._has_forked, request))

    def _has_forked(self, request: Waiting, result: spawn.Process | spawn.SpawnError) -> None:
        if isinstance(result, spawn.Process):
            request.arrive(result)
        else:
            request.fall_back()

    def _lose_patience(self, request: Waiting) -> None:
        self._is_slow = True
        del self._waiting[request]
        request.fall_back()

    def _fall_back(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for request, timer in waiting.items():
            timer.cancel()
            request.fall_back()

    # Spares.

    def _fill_later(self, delay: float) -> None:
        if self._fill_timer is None and self.state is not State.CLOSED:
            self._fill_timer = self._loop.call_later(delay, self._fill)

    def _fill(self) -> None:
        self._fill_timer = None
        if self.state is not State.READY or self._zygote is None:
            return  # filled again when it is
        for _ in range(self._spare_count - self.spares - self._spares_ordered):
            self._spares_ordered += 1
            self._zygote.fork(self._has_forked_spare, is_spare=True)

    def _has_forked_spare(self, result: spawn.Process | spawn.SpawnError) -> None:
        self._spares_ordered -= 1
        if isinstance(result, spawn.SpawnError):
            self._spare_died(0.0)
            return
        self._enlist(result)
        self._nest.add(result)
        if self.state is State.CLOSED or self.spares > self._spare_count:
            self._nest.clear()

    def _spare_died(self, age: float) -> None:
        """Replace a spare that has died; later and later when they die young."""
        self._spare_failures = self._spare_failures + 1 if age < YOUNG else 1
        self._fill_later(restart_delay(_BACKOFF, self._spare_failures, 0.0))


def modules_of(classes: Iterable[str], preload: Iterable[str]) -> tuple[str, ...]:
    """Return what a zygote for these ``module:Class`` paths imports, each module once."""
    return tuple(dict.fromkeys([*preload, *(path.partition(":")[0] for path in classes)]))


def _threads(said: Prepared) -> str:
    count = "1 thread is" if said.threads == 1 else f"{said.threads} threads are"
    blamed = f" (begun by {', '.join(said.blamed)})" if said.blamed else ""
    return f"{count} left after the imports{blamed}, and a process with threads cannot be forked"
