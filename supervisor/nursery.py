"""The one place where worker processes come from: a spare, a fork of a zygote, or a program started anew.

A spare is a process that has been forked already and waits; it is there at once. A fork takes milliseconds. What
cannot be forked (no zygote, ``start_method = "spawn"``, a zygote that died over it) is spawned, which always works
and costs the imports. Forked workers become children of this process by adoption: it must be a child subreaper, which
is a property of the whole process; without that (``adopt=False``, as a library) everything is spawned.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..shared.config.model import StartMethod, WorkerConfig
from ..shared.errors import SupervisorError
from . import spawn
from .cradle import Cradle, Plan, State, ZygoteStart, modules_of, start_zygote
from .identity import environment_of
from .leftovers import Mark
from .nest import Nest

CLOSE_TIMEOUT = 5.0
"""Seconds that the deaths of killed processes are waited for."""

_MAX_PATIENCE = 5.0
_PATIENCE = 0.5  # of its start_timeout is what a start may wait for the imports of a zygote

Done = Callable[["spawn.Process | spawn.SpawnError"], None]
Environment = Callable[[], Mapping[str, str]]
Place = tuple[Path, tuple[tuple[str, str], ...]]


@dataclass(frozen=True, slots=True)
class Statistics:
    """What the nursery has done so far, and has at hand."""

    zygotes: int
    spares: int
    forked: int
    spares_used: int
    spawned: int


@dataclass(frozen=True, slots=True)
class _Wishes:
    """What the nursery was told to have."""

    plans: dict[Place, Plan]
    spares: int
    preload: tuple[str, ...]


class Request:
    """One process that was asked for. It is answered once, unless it is cancelled before."""

    def __init__(self, answer: Callable[[Request, spawn.Process], None], fall_back: Callable[[Request], None]) -> None:
        self.is_over = False
        self._answer = answer
        self._fall_back = fall_back

    def cancel(self) -> None:
        """Want it no more: a process that arrives after this is killed. ``done`` is not called."""
        self.is_over = True

    def arrive(self, process: spawn.Process) -> None:
        """Hand the process over."""
        self._answer(self, process)

    def fall_back(self) -> None:
        """Spawn one, since none will be forked."""
        if not self.is_over:
            self._fall_back(self)


class Nursery:
    """See the module. All of it belongs to the thread of ``loop``, which must live as long as the workers.

    ``enlist`` is given each new spare, to tell it what it does while it waits.

    ``on_event`` hears, with ``cwd`` and (None: there was no process) ``pid`` among the facts:

        zygote-started  duration, skipped (the modules that could not be imported, with the error)
        zygote-died     reason, tail (what it printed last), delay (until the next one is started)
        zygote-unfit    reason (its workers are spawned from now on)

    and, without a ``cwd``, ``code-changed`` with ``files`` when workers are forked with changed code from now on.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        mark: Mark,
        *,
        adopt: bool,
        spares: int = 0,
        preload: Iterable[str] = (),
        on_event: Callable[..., None] = lambda name, **facts: None,
        start: ZygoteStart = start_zygote,
        enlist: Callable[[spawn.Process], None] = lambda process: None,
    ) -> None:
        self._loop = loop
        self._mark = mark
        self._adopt = adopt
        self._spares = spares
        self._preload = tuple(preload)
        self._on_event = on_event
        self._start = start
        self._enlist = enlist
        self._plans: dict[Place, Plan] = {}
        self._cradles: dict[Place, Cradle] = {}
        self._replaced: dict[Place, Cradle] = {}
        self._arriving: list[Cradle] = []
        self._former: _Wishes | None = None
        self._unwanted = Nest(loop, lambda age: None)
        self._forked = self._spares_used = self._spawned = 0
        self._is_closed = False

    # Asked by slots.

    def request(self, config: WorkerConfig, title: str, environment: Environment, done: Done) -> Request:
        """Have ``done`` called with a process for ``config``, or with why there is none.

        With a spare, and where it is spawned, that happens before this returns. ``title`` and ``environment``, which
        is made only then, are for a process that is spawned; a forked one has its identity from its assignment.
        """
        request = Request(partial(self._arrived, done), partial(self._spawn, config, title, environment, done))
        cradle = self._cradle(config)
        if cradle is None:
            request.fall_back()
        elif (spare := cradle.take_spare()) is not None:
            self._spares_used += 1
            request.arrive(spare)
        else:
            cradle.order(request, min(_MAX_PATIENCE, config.start_timeout * _PATIENCE))
        return request

    # Asked by the supervisor.

    def warm(self, configs: Iterable[WorkerConfig]) -> None:
        """Start the zygotes for ``configs``, which are all there are from now on.

        A zygote that does not import what they need goes on as it is until ``replace_changed``: what is missing is
        imported by the workers themselves.
        """
        if not self._adopt or self._is_closed:
            return
        self._plans = self._plan(configs)
        for place in self._plans:
            self._cradle_at(place).begin()

    def configure(self, configs: Iterable[WorkerConfig], *, spares: int, preload: Iterable[str]) -> None:
        """Have other workers, spares and preloaded modules: from ``replace_changed`` on, until ``roll_back``."""
        if self._former is None:
            self._former = _Wishes(self._plans, self._spares, self._preload)
        self._spares, self._preload = spares, tuple(preload)
        if self._adopt:
            self._plans = self._plan(configs)

    async def replace_changed(self) -> tuple[str, ...]:
        """Replace the zygotes whose modules have changed, or are not what was asked for; return what has changed.

        Returns when the new ones have imported everything; workers are forked from them from then on. The old ones
        are kept, without spares, until ``settle`` or ``roll_back``.

        Raises:
            SupervisorError: If a new zygote cannot import what the old one could, or what is new. Nothing is replaced.
        """
        files: list[str] = []
        reasons: list[str] = []
        arriving: dict[Place, Cradle] = {}
        for place, plan in list(self._plans.items()):
            old = self._cradles.get(place)
            changed = await self._changed_files(old) if old is not None else []
            files += changed
            if old is None:
                arriving[place] = self._make(plan)
            elif changed or _is_outdated(old, plan):
                arriving[place] = self._make(plan)
                reasons += changed or [f"the modules for {plan.cwd}"]
        await self._import(arriving)
        for place, cradle in arriving.items():
            former, self._cradles[place] = self._cradles.get(place), cradle
            if former is not None:
                await self._put_aside(place, former)
        for place in [place for place in self._cradles if place not in self._plans]:
            await self._put_aside(place, self._cradles.pop(place))
        for cradle in self._cradles.values():
            cradle.keep_spares(self._spares)
        if files:
            self._on_event("code-changed", files=files, runs=True)
        return tuple(reasons)

    def renew_spares(self) -> None:
        """Replace all spares by new ones: what they were told does not hold any more."""
        for cradle in self._cradles.values():
            cradle.renew_spares()

    async def is_stale(self) -> bool:
        """Return whether a file of a module that a zygote has imported has changed, or one could not be imported."""
        return any(cradle.skipped for cradle in self._cradles.values()) or bool(await self.changed_files())

    async def changed_files(self) -> tuple[str, ...]:
        """Return the files that have changed since a zygote has imported them."""
        found = [file for cradle in list(self._cradles.values()) for file in await self._changed_files(cradle)]
        return tuple(dict.fromkeys(found))

    async def changed_files_of(self, config: WorkerConfig) -> tuple[str, ...] | None:
        """Return the files that have changed since the zygote for ``config`` has imported them.

        None: there is none that could tell, because its workers are spawned, or because it lacks a module.
        """
        cradle = self._cradles.get(place_of(config)) if config.start_method is StartMethod.ZYGOTE else None
        if cradle is None or cradle.state is not State.READY or cradle.skipped:
            return None
        return tuple(await self._changed_files(cradle))

    async def settle(self) -> None:
        """End the zygotes that were replaced: there is no way back any more."""
        self._former = None
        replaced, self._replaced = self._replaced, {}
        await asyncio.gather(*(cradle.close() for cradle in replaced.values()))

    async def roll_back(self) -> None:
        """Have workers forked from the zygotes that were replaced, again; end those that took their place."""
        if self._former is not None:
            self._plans, self._spares, self._preload = self._former.plans, self._former.spares, self._former.preload
            self._former = None
        replaced, self._replaced = self._replaced, {}
        ending = [self._cradles[place] for place in replaced if place in self._cradles]
        for place, cradle in replaced.items():
            self._cradles[place] = cradle
        for cradle in self._cradles.values():
            cradle.keep_spares(self._spares)
        await asyncio.gather(*(cradle.close() for cradle in ending))

    async def close(self) -> None:
        """End all zygotes and spares, and wait until they are reaped. What was requested is not made any more.

        What the kernel does not let die within ``CLOSE_TIMEOUT`` is left to it.
        """
        self._is_closed = True
        cradles = self._all_cradles()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await asyncio.gather(*(cradle.close() for cradle in cradles))
                await self._unwanted.close()
        self._cradles.clear()
        self._replaced.clear()

    @property
    def is_forking(self) -> bool:
        """Whether this process may have adopted children of which the nursery has not been told yet."""
        return any(cradle.is_forking for cradle in self._all_cradles())

    @property
    def pids(self) -> set[int]:
        """The processes that are in no slot and are reaped here."""
        return self._unwanted.pids.union(*(cradle.pids for cradle in self._all_cradles()))

    def statistics(self) -> Statistics:
        """Return the facts of this moment."""
        cradles = self._cradles.values()
        return Statistics(
            zygotes=sum(cradle.state is State.READY for cradle in cradles),
            spares=sum(cradle.spares for cradle in cradles),
            forked=self._forked,
            spares_used=self._spares_used,
            spawned=self._spawned,
        )

    # Answers.

    def _arrived(self, done: Done, request: Request, process: spawn.Process) -> None:
        self._forked += 1
        if request.is_over:
            self._unwanted.end(process)
        else:
            request.is_over = True
            done(process)

    def _spawn(self, config: WorkerConfig, title: str, environment: Environment, done: Done, request: Request) -> None:
        request.is_over = True
        if self._is_closed:
            done(spawn.SpawnError("the mesh is being stopped"))
            return
        try:
            process = spawn.spawn_worker(title, config.cwd, environment())
        except spawn.SpawnError as error:
            done(error)
        else:
            self._spawned += 1
            done(process)

    # Cradles.

    def _cradle(self, config: WorkerConfig) -> Cradle | None:
        if not self._adopt or self._is_closed or config.start_method is not StartMethod.ZYGOTE:
            return None
        place = place_of(config)
        if place not in self._plans:
            self._plans.update(self._plan([config]))
        return self._cradle_at(place)

    def _all_cradles(self) -> list[Cradle]:
        return [*self._cradles.values(), *self._replaced.values(), *self._arriving]

    def _cradle_at(self, place: Place) -> Cradle:
        if place not in self._cradles:
            self._cradles[place] = self._make(self._plans[place])
        return self._cradles[place]

    def _make(self, plan: Plan) -> Cradle:
        return Cradle(self._loop, plan, self._spares, partial(self._tell, plan), self._start, self._enlist)

    def _tell(self, plan: Plan, name: str, **facts: object) -> None:
        self._on_event(name, cwd=str(plan.cwd), **facts)

    async def _import(self, arriving: Mapping[Place, Cradle]) -> None:
        """Start new zygotes and wait until all of them are fit to take over, or end all of them."""
        self._arriving += arriving.values()
        try:
            for cradle in arriving.values():
                cradle.begin()
            for place, cradle in arriving.items():
                await self._wait_fit(cradle, self._cradles.get(place))
        except BaseException:
            await asyncio.gather(*(cradle.close() for cradle in arriving.values()))
            raise
        finally:
            self._arriving = [cradle for cradle in self._arriving if cradle not in arriving.values()]

    async def _wait_fit(self, cradle: Cradle, old: Cradle | None) -> None:
        plan = cradle.plan
        try:
            async with asyncio.timeout(plan.patience):
                await cradle.wait_imported()
        except TimeoutError:
            raise SupervisorError(f"the code in {plan.cwd} was not imported within {plan.patience:g} s") from None
        if self._is_closed:
            raise SupervisorError("the mesh is being stopped")
        if cradle.state is State.RESTING and (old is None or old.state is not State.RESTING):
            raise SupervisorError(f"the code in {plan.cwd} cannot be imported: {cradle.trouble}")
        known = old.skipped if old is not None else {}
        if broken := [f"{module}: {error}" for module, error in cradle.skipped.items() if module not in known]:
            raise SupervisorError(f"the code in {plan.cwd} cannot be imported: {'; '.join(broken)}")

    async def _put_aside(self, place: Place, cradle: Cradle) -> None:
        """Keep a cradle as the way back, unless there is one: twice without a decision, the oldest counts."""
        cradle.drop_spares()
        if self._replaced.setdefault(place, cradle) is not cradle:
            await cradle.close()

    async def _changed_files(self, cradle: Cradle) -> list[str]:
        answer: asyncio.Future[tuple[str, ...] | None] = self._loop.create_future()
        cradle.check(answer.set_result)
        return list(await answer or ())

    def _plan(self, configs: Iterable[WorkerConfig]) -> dict[Place, Plan]:
        by_place: dict[Place, list[WorkerConfig]] = {}
        for config in configs:
            if config.class_path is not None and config.start_method is StartMethod.ZYGOTE:
                by_place.setdefault(place_of(config), []).append(config)
        return {
            place: Plan(
                title=f"meshvisor zygote {self._mark.mesh}",
                cwd=group[0].cwd,
                environment=environment_of(group[0], self._mark),
                modules=modules_of([config.class_path or "" for config in group], self._preload),
                patience=max(config.start_timeout for config in group),
            )
            for place, group in by_place.items()
        }


def _is_outdated(cradle: Cradle, plan: Plan) -> bool:
    return plan.modules != cradle.plan.modules or cradle.state is State.UNFIT or bool(cradle.skipped)


def place_of(config: WorkerConfig) -> Place:
    """Return where a worker runs; processes of different places never stand in for each other."""
    return config.cwd, tuple(sorted(config.env.items()))
