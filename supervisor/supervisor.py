"""The supervisor of one mesh: starts the slots in order, keeps them going, and stops them in reverse order."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Self

from ..shared.config.model import MeshConfig, WorkerConfig
from ..shared.errors import SupervisorError
from . import strategy
from .changes import Changes, compare
from .child import Ending, State
from .directory import RuntimeDirectory, base_directory
from .event import Event
from .fleet import Fleet
from .herald import Herald
from .hub import EventStream, Hub
from .leftovers import Mark, kill_orphans, kill_strays
from .limit import Judgement, Limit
from .reaper import check_kernel, reap_strangers
from .slot import MeshRun, Slot
from .snapshot import MeshState, MeshStatus

MAX_REPLICAS = 1000


class Supervisor:
    """Runs one mesh, once.

        async with Supervisor(config) as supervisor:      # every slot is ready now
            async for event in supervisor.events():
                print(describe(event))

    As a library it takes no signals and changes nothing of the program around it. All of it belongs to the thread of
    the event loop in which it was started, and that thread must live as long as the mesh: it is the one that forks,
    and the kernel kills the children when it ends.
    """

    directory: RuntimeDirectory

    def __init__(self, config: MeshConfig) -> None:
        if not sys.platform.startswith("linux"):
            raise SupervisorError(f"meshvisor supervises on Linux only; this is {sys.platform}")
        self.config = config
        self._hub = Hub()
        self._limit = Limit(config.supervisor)
        self._fleet = Fleet((), self._make_slot)
        self._run: MeshRun | None = None
        self._restarting: set[str] = set()  # slots that a strategy restarts together: none starts before all have ended
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started_at = 0.0
        self._begun = False
        self._was_ready = False
        self._outcome: strategy.Verdict | None = None
        self._mark: Mark | None = None
        self._winding_up: asyncio.Task[None] | None = None
        self._finished: asyncio.Future[int] | None = None
        self._something_changed = asyncio.Event()

    # As a library.

    async def __aenter__(self) -> Self:
        """Start everything and wait until every slot is ready, or has ended well.

        Raises:
            SupervisorError: If a slot is not ready within its ``start_timeout``, tries included; the mesh is then
                stopped.
        """
        await self.start_all()
        try:
            await self._until_ready(list(self._fleet))
        except BaseException:
            await self._stop_and_wait()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stop_and_wait()

    async def start(self, name: str) -> None:
        """Start a slot, or all of a worker, and wait until it is ready or has ended well. What is up stays up.

        Raises:
            SupervisorError: If there is no such slot or worker, or if one is not ready within its ``start_timeout``,
                tries included.
        """
        slots = self._named(name)
        for slot in slots:
            slot.start()
        self._advance()
        await self._until_ready(slots)

    async def stop(self, name: str) -> None:
        """Stop a slot, or all of a worker, and wait until it is down; it stays down until it is started.

        Raises:
            SupervisorError: If there is no such slot or worker.
        """
        slots = self._named(name)
        for slot in slots:
            slot.hold()
        self._advance()
        await self._until(lambda: all(slot.child.is_over for slot in slots))

    async def restart(self, name: str, *, at_once: bool = False) -> None:
        """Restart a slot, or those of a worker one after the other (or ``at_once``), and wait until all are ready.

        Raises:
            SupervisorError: As ``start``. What comes after the one that failed is then left as it is.
        """
        slots = self._named(name)
        for group in [slots] if at_once else [[slot] for slot in slots]:
            for slot in group:
                slot.restart()
            self._advance()
            await self._until_ready(group)

    async def scale(self, name: str, replicas: int) -> None:
        """Have ``replicas`` slots for a worker: new ones are started, those with the highest numbers stopped.

        It lasts until a reload that changes ``replicas``, or the end of the mesh.

        Raises:
            SupervisorError: If there is no such worker, or as ``start``.
            ValueError: If ``replicas`` is not a number from 0 to 1000.
        """
        if not isinstance(replicas, int) or isinstance(replicas, bool) or not 0 <= replicas <= MAX_REPLICAS:
            raise ValueError(f"replicas must be a number from 0 to {MAX_REPLICAS}, not {replicas!r}")
        self._check_running()
        self._fleet.named(name)
        worker = next((worker for worker in self.config.workers if worker.name == name), None)
        if worker is None:
            raise SupervisorError(f"{name} is a slot; it is its worker that is scaled")
        await self._resize(replace(worker, replicas=replicas))

    async def reload(self, config: MeshConfig) -> Changes:
        """Go over to ``config``: what is changed in policy counts from now on, other changes replace processes.

        Workers that are not there any more are stopped, new ones are started; those whose processes are replaced are
        restarted one slot after the other. Returns what there was to do.

        Raises:
            SupervisorError: If something is changed that cannot be under a running mesh (nothing is done then), or as
                ``start``.
        """
        self._check_running()
        changes = compare(self.config, config)
        if changes.refused:
            raise SupervisorError("; ".join(changes.refused))
        await self._go_over(config, changes)
        return changes

    # Asked by whoever runs it.

    async def start_all(self) -> None:
        """Begin to start the slots; return without waiting until they are ready.

        Raises:
            SupervisorError: If another supervisor runs this mesh (naming its pid and file), if the runtime directory
                cannot be used, if processes cannot be watched here, or if this object was started before.
        """
        if self._loop is not None:
            raise SupervisorError("a Supervisor runs its mesh once; make another one")
        self._loop = loop = asyncio.get_running_loop()
        check_kernel()
        name = self.config.mesh.name
        self.directory = RuntimeDirectory(base_directory(self.config.supervisor.runtime_dir), name, self.config.file)
        self._started_at = loop.time()
        try:
            self._mark = Mark.of_this_process(name)
            if killed := await kill_orphans(name):
                self._publish("leftovers-killed", pids=killed)
            self._run = self._make_run(loop, self._mark)
            for worker in self.config.workers:
                self._fleet.add(worker)
        except BaseException:
            self.directory.close()
            raise
        self._finished = loop.create_future()
        self._begun = True
        self._publish("mesh-started", pid=os.getpid(), slots=len(self._fleet))
        self._advance()

    def request_stop(self, reason: str = "as requested") -> None:
        """Stop everything in reverse order, each slot within its ``stop_timeout``; again: no effect."""
        self._end(strategy.Verdict(0, reason))
        self._advance()

    def request_kill(self) -> None:
        """Kill everything at once; the exit status is then 1, unless it was to be another failure."""
        if self._winding_up is not None:
            return
        status = self._outcome.status if self._outcome else 0
        self._outcome = strategy.Verdict(status or 1, "at once, as requested")
        self._publish("mesh-stopping", reason=self._outcome.reason)
        for slot in self._fleet:
            slot.kill()
        self._advance()

    async def wait(self) -> int:
        """Wait until the mesh is over and return the exit status of ``run``.

        0: stopped on request, or everything (everything significant) has ended well; 1: something ended badly and is
        not restarted, or ``request_kill``; 3: the restart limit was exceeded.

        Raises:
            SupervisorError: If it was never started.
        """
        if self._finished is None:
            raise SupervisorError("this supervisor has not been started")
        return await asyncio.shield(self._finished)

    def reap_strangers(self) -> None:
        """Reap dead children that are not ours: for a program that is process 1, at each SIGCHLD."""
        reap_strangers({slot.pid for slot in self._fleet if slot.pid is not None})

    def status(self) -> MeshStatus:
        """Return the facts of this moment."""
        workers = tuple(slot.status() for slot in self._fleet)
        return MeshStatus(self.config.mesh.name, os.getpid(), self._state(), round(self._uptime(), 3), workers)

    def events(self) -> EventStream:
        """Return what happens from now on, for ``async for``; it ends with the mesh."""
        return self._hub.stream()

    def subscribe(self, callback: Callable[[Event], None]) -> Callable[[], None]:
        """Have ``callback`` called at each event, in the loop; it must not block. Returns what ends that."""
        return self._hub.events.add(callback)

    def subscribe_output(self, callback: Callable[[str, str, str], None]) -> Callable[[], None]:
        """Have ``callback`` called with slot, kind (``stdout``, ``stderr``, ``progress``) and line."""
        return self._hub.output.add(callback)

    # Deciding.

    def _make_run(self, loop: asyncio.AbstractEventLoop, mark: Mark) -> MeshRun:
        return MeshRun(
            config=self.config,
            loop=loop,
            directory=self.directory,
            herald=Herald(loop),
            hub=self._hub,
            mark=mark,
            secret=secrets.token_bytes(32),
            is_stopping=lambda: self._outcome is not None,
            ended=self._ended,
            changed=self._advance,
        )

    def _make_slot(self, worker: WorkerConfig, name: str, replica: int) -> Slot:
        assert self._run is not None
        return Slot(self._run, worker, name, replica, random.SystemRandom().random)

    def _ended(self, slot: Slot, ending: Ending) -> Ending:
        """Count an end against the restart limit, and take down with it whoever the strategy says."""
        now = asyncio.get_running_loop().time()
        verdict = self._limit.judge(slot, ending, self._fleet, now)
        if verdict is Judgement.PARK:
            return replace(ending, delay=slot.child.park(now))
        if verdict is Judgement.GIVE_UP:
            slot.child.give_up(now)
            return replace(ending, delay=None)
        if ending.is_incident and self._outcome is None:
            siblings = strategy.concerned(self.config.supervisor.strategy, slot.name, self._fleet.order)
            if siblings:
                self._restarting.update((slot.name, *siblings))
        return ending

    def _advance(self) -> None:
        """Do what the states of the slots allow now: the next starts, or the next level of a stop."""
        if not self._begun:
            return
        if self._outcome is None:
            self._detect_the_end()
        if self._outcome is None:
            self._take_down_siblings()
            self._release_slots()
            self._detect_readiness()
        elif self._is_all_stopped() and self._winding_up is None:
            wind_up = self._wind_up(self._outcome.status)
            self._winding_up = asyncio.get_running_loop().create_task(wind_up, name="meshvisor-wind-up")
        self._something_changed.set()

    def _detect_the_end(self) -> None:
        limit = self.config.supervisor
        if self._limit.is_exceeded:
            self._publish("limit-exceeded", max_restarts=limit.max_restarts, window=limit.max_restarts_window)
            self._end(strategy.Verdict(3, "the restart limit is exceeded"))
        elif verdict := strategy.verdict([(slot.config, slot.child) for slot in self._fleet]):
            self._end(verdict)

    def _take_down_siblings(self) -> None:
        """Stop what restarts together, the highest level first, until no process of it is left."""
        for level in reversed(self._fleet.levels):
            members = [slot for slot in level if slot.name in self._restarting]
            for slot in members:
                if strategy.is_taken_down(slot.child):
                    slot.take_down(comes_back=strategy.comes_back(slot.child))
            if any(slot.child.is_alive for slot in members):
                return
        self._restarting.clear()

    def _release_slots(self) -> None:
        for slot in self._fleet:
            is_free = slot.child.state is State.WAITING and slot.name not in self._restarting
            if is_free and strategy.may_start(slot.config, self._fleet.children):
                slot.release()

    def _detect_readiness(self) -> None:
        if not self._was_ready and all(slot.child.ever_ready or slot.child.is_over for slot in self._fleet):
            self._was_ready = True
            self._publish("mesh-ready", duration=self._uptime())

    def _end(self, outcome: strategy.Verdict) -> None:
        if self._outcome is not None:
            return
        self._outcome = outcome
        self._publish("mesh-stopping", reason=outcome.reason)
        for slot in self._fleet:
            if slot.pid is None and not slot.child.is_over:
                slot.stop()

    def _is_all_stopped(self) -> bool:
        """Ask the highest level that still has processes to stop; say whether none has."""
        for level in reversed(self._fleet.levels):
            for slot in level:
                if not slot.child.is_over:
                    slot.stop()
            if not all(slot.child.is_over for slot in level):
                return False
        return True

    async def _wind_up(self, status: int) -> None:
        """Leave nothing behind: no process, no file, nobody who waits."""
        try:
            for slot in self._fleet:
                slot.close()
            if self._mark is not None:
                await kill_strays(self._mark)
        finally:
            self.directory.close()
            self._publish("mesh-stopped", status=status)
            self._hub.end()
            if self._finished is not None:
                self._finished.set_result(status)
            self._something_changed.set()

    # Changing a running mesh.

    async def _resize(self, worker: WorkerConfig) -> None:
        self._remember(worker)
        new = self._fleet.grow(worker)
        surplus = self._fleet.surplus(worker)
        self._fleet.configure(worker)
        self._advance()
        await self._remove(surplus)
        await self._until_ready(new)

    async def _remove(self, slots: Sequence[Slot]) -> None:
        for slot in slots:
            slot.hold()
        self._advance()
        await self._until(lambda: all(slot.child.is_over for slot in slots))
        for slot in slots:
            slot.remove()
            self._fleet.forget(slot)
        self._advance()

    async def _go_over(self, config: MeshConfig, changes: Changes) -> None:
        assert self._run is not None
        self.config = self._run.config = config
        self._limit.configure(config.supervisor)
        workers = {worker.name: worker for worker in config.workers}
        added = [slot for name in changes.added for slot in self._fleet.add(workers[name])]
        for name in changes.replaced + tuple(changes.adjusted) + tuple(changes.rescaled):
            self._fleet.configure(workers[name])
        for name in changes.removed:
            await self._remove(self._fleet.slots_of(name))
            self._fleet.forget_worker(name)
        self._fleet.sort(workers)
        for name in changes.rescaled:
            await self._resize(workers[name])
        self._advance()
        for name in changes.replaced:
            if not all(slot.child.is_held for slot in self._fleet.slots_of(name)):
                await self.restart(name)
        await self._until_ready(added)

    def _remember(self, worker: WorkerConfig) -> None:
        workers = tuple(worker if known.name == worker.name else known for known in self.config.workers)
        self.config = replace(self.config, workers=workers)
        if self._run is not None:
            self._run.config = self.config

    def _named(self, name: str) -> list[Slot]:
        self._check_running()
        return self._fleet.named(name)

    def _check_running(self) -> None:
        if not self._begun:
            raise SupervisorError("this supervisor has not been started")
        if self._outcome is not None:
            raise SupervisorError(f"the mesh is stopping: {self._outcome.reason}")

    # Waiting.

    async def _until_ready(self, slots: Sequence[Slot]) -> None:
        """Wait until each slot is ready or has ended well; give each its start_timeout since it could first start."""
        while True:
            self._something_changed.clear()
            self._raise_if_lost(slots)
            pending = [slot for slot in slots if slot.child.state is not State.READY and not slot.child.is_over]
            if not pending:
                return
            deadlines = [slot.ready_by for slot in pending if slot.ready_by is not None]
            with suppress(TimeoutError):
                async with asyncio.timeout_at(min(deadlines, default=None)):
                    await self._something_changed.wait()

    def _raise_if_lost(self, slots: Sequence[Slot]) -> None:
        now = asyncio.get_running_loop().time()
        for slot in slots:
            child = slot.child
            if child.state is State.READY:
                continue
            late = slot.ready_by is not None and now >= slot.ready_by and not child.is_over
            if late or child.state in (State.FAILED, State.PARKED) or child.is_held:
                why = slot.trouble or ("it was stopped" if child.is_held else "")
                raise SupervisorError(f"{slot.name} did not become ready" + (f": {why}" if why else ""))
        if self._outcome is not None and self._outcome.status != 0:
            raise SupervisorError(f"the mesh did not become ready: {self._outcome.reason}")

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._something_changed.clear()
            await self._something_changed.wait()

    async def _stop_and_wait(self) -> None:
        self.request_stop()
        try:
            await self.wait()
        except asyncio.CancelledError:
            self.request_kill()
            await self.wait()
            raise

    def _state(self) -> MeshState:
        if self._outcome is not None:
            return MeshState.STOPPING
        return MeshState.RUNNING if self._was_ready else MeshState.STARTING

    def _uptime(self) -> float:
        return self._loop.time() - self._started_at if self._loop is not None else 0.0

    def _publish(self, event: str, **details: object) -> None:
        self._hub.publish(event, "", 0, **details)
