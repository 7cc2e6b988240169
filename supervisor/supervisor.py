"""The supervisor of one mesh: starts the slots in order, keeps them going, and stops them in reverse order."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from ..shared.config.model import MeshConfig, WorkerConfig
from ..shared.control.requests import Difference
from ..shared.errors import SupervisorError
from . import strategy
from .changeover import Changeover
from .changes import Changes, compare
from .conductor import Conductor
from .difference import difference
from .directory import RuntimeDirectory, base_directory
from .errands import Errands
from .event import Event
from .figures import MeshFigures
from .fleet import Fleet
from .gauge import Gauge
from .guard import Guard
from .herald import Herald
from .hoard import Hoard
from .hub import EventStream, Hub
from .identity import run_secret
from .incidents import IncidentLog
from .leftovers import Mark, kill_orphans, kill_strays, place_of
from .lookout import Lookout
from .member import Member
from .memory import MemoryWatch, OomWatch
from .nursery import Nursery
from .outlet import Outlet
from .reaper import check_kernel
from .renewal import Renewal
from .reserve import Reserve
from .slot import Slot
from .snapshot import MeshLinks, MeshState, MeshStatus, WorkerStatus
from .subreaper import Subreaper, become_subreaper
from .surroundings import MeshRun
from .survey import Survey
from .sweeps import Sweeps
from .tables import Tables
from .wish import Wish


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

    def __init__(
        self, config: MeshConfig, *, adopt: bool = False, guard: bool = False, member: Member | None = None
    ) -> None:
        """See the class. ``adopt`` (all children of this process are the mesh's) brings zygotes and a guardian.

        ``guard`` brings the guardian alone, which ends whatever is left if this process is killed. With a ``member``
        this process is a node itself, and the mesh does not end because every slot has.
        """
        if not sys.platform.startswith("linux"):
            raise SupervisorError(f"meshvisor supervises on Linux only; this is {sys.platform}")
        self._config = config
        self._hub = Hub()
        self._incidents = IncidentLog(config.log_dir, self._incidents_lost, self._incidents_restored)
        self._fleet = Fleet(self._make_slot)
        self._survey = Survey(self._fleet)
        self._gauge = Gauge(config.mesh.name, self._fleet, self._hub, self._survey)
        self._outlet = Outlet(lambda each: self.figures(each=each))
        self._conductor = Conductor(self._fleet, config.supervisor, self._publish, self._is_all_over)
        self._run: MeshRun | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started_at = 0.0
        self._begun = False
        self._mark: Mark | None = None
        self._adopt = adopt
        self._is_guarded = guard or adopt
        self._member = member
        self._conductor.is_lasting = member is not None
        self._tables: Tables | None = None
        self._lookout: Lookout | None = None
        self._nursery: Nursery | None = None
        self._guard: Guard | None = None
        self._subreaper: Subreaper | None = None
        self._hoard = Hoard(0)
        self._sweeps: Sweeps | None = None
        self._renewal: Renewal | None = None
        self._changeover: Changeover | None = None
        self._errands = Errands()
        self._winding_up: asyncio.Task[None] | None = None
        self._finished: asyncio.Future[int] | None = None

    @property
    def config(self) -> MeshConfig:
        """What the mesh goes by, with all that was changed in it while it ran."""
        return self._config if self._run is None else self._run.config

    # As a library.

    async def __aenter__(self) -> Self:
        """Start everything and wait until every slot is ready, or has ended well.

        Raises:
            SupervisorError: If a slot is not ready within its ``start_timeout``, tries included; the mesh is then
                stopped.
        """
        await self.start_all()
        try:
            await self._conductor.until_ready(list(self._fleet), once=True)
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

        What starts runs the code on disk. Once begun, it goes on to its end, also if this is cancelled.

        Raises:
            SupervisorError: If there is no such slot or worker, if the code cannot be imported (nothing is done then),
                if one is not ready within its ``start_timeout``, tries included, or if it is stopped while this waits
                for its turn, as behind a reload.
        """
        await self._errands.run(self._start(name, Wish(self._named(name))))

    async def _start(self, name: str, wish: Wish) -> None:
        if any(not slot.child.is_alive for slot in self._named(name)):
            async with self._renewing.trial():
                await self._changing.start(wish.standing(self._named(name)))
        else:
            await self._changing.start(wish.standing(self._named(name)))
        wish.check()

    async def stop(self, name: str) -> None:
        """Stop a slot, or all of a worker, and wait until it is down; it stays down until it is started.

        What its processes have left behind is ended, too, where orphans come to this process (``adopt``).

        Raises:
            SupervisorError: If there is no such slot or worker, or if somebody starts it again before it is down.
        """
        await self._changing.stop(self._named(name))

    def condemn(self, name: str, reason: str) -> None:
        """Kill the process in a slot, or in all of a worker, for what it has done: an incident, as a crash is.

        Raises:
            SupervisorError: If there is no such slot or worker.
        """
        for slot in self._named(name):
            slot.condemned(None, reason)

    async def restart(self, name: str, *, at_once: bool = False) -> None:
        """Restart a slot, or those of a worker one after the other, and wait until all are ready.

        No call is lost over it: a successor is prepared beside each worker that is ready, which then finishes what it
        was asked for while others keep what is new. Commands, whatever is not ready, and all of them ``at_once`` if
        that is asked for, are stopped and started.

        They run the code on disk. A successor that cannot be prepared changes nothing. One that does not become ready,
        at its first try, is followed by a process of the code that was there before.

        Once begun, it goes on to its end, also if this is cancelled.

        Raises:
            SupervisorError: As ``start``. What comes after the one that failed is then left as it is.
        """
        await self._errands.run(self._restart(name, Wish(self._named(name)), at_once))

    async def _restart(self, name: str, wish: Wish, at_once: bool) -> None:
        async with self._renewing.trial() as is_new:
            if at_once:
                await self._changing.restart(wish.standing(self._named(name)), is_new=is_new)
            else:
                await self._changing.replace(self._named(name), wish, is_new=is_new)
        wish.check()

    async def scale(self, name: str, replicas: int) -> None:
        """Have ``replicas`` slots for a worker: new ones are started, those with the highest numbers stopped.

        It lasts until a reload that changes ``replicas``, or the end of the mesh.

        Raises:
            SupervisorError: If there is no such worker, or as ``start``.
            ValueError: If ``replicas`` is not a number from 0 to 1000.
        """
        await self.scale_all({name: replicas})

    async def scale_all(self, replicas: Mapping[str, int]) -> None:
        """Scale several workers at once, as ``scale`` does one; nothing is done unless all of it can be.

        Raises:
            SupervisorError: As ``scale``.
            ValueError: As ``scale``.
        """
        self._check_running()
        await self._changing.scale(replicas)

    def check_scale(self, replicas: Mapping[str, int]) -> None:
        """Check that ``scale_all`` can be begun.

        Raises:
            SupervisorError: As ``scale``.
            ValueError: As ``scale``.
        """
        self._check_running()
        self._changing.scaled(replicas)

    async def reload(self, config: MeshConfig) -> Changes:
        """Go over to ``config``: what is changed in policy counts from now on, other changes replace processes.

        Workers that are not there any more are stopped, new ones are started; the processes of others are replaced one
        after the other, as by ``restart``. What starts, then and later, runs the code on disk. Once begun, it goes on
        to its end, also if this is cancelled. Returns what there was to do.

        Raises:
            SupervisorError: If something is changed that cannot be under a running mesh, or if the code cannot be
                imported (nothing is done then); if a new slot does not become ready, as ``start``; if one that is
                replaced does not, at its first try. All that were replaced then go on as they were before.
        """
        self._check_running()
        if refused := compare(self.config, config).refused:
            raise SupervisorError("; ".join(refused))
        return await self._errands.run(self._reload(config))

    async def _reload(self, config: MeshConfig) -> Changes:
        async with self._renewing.trial(config):
            self._check_running()
            config = self._changing.take_over(config)
            changes = compare(self.config, config)
            async with self._outlet.moving(config.supervisor.metrics, lambda: self.config.supervisor.metrics):
                new = await self._changing.reload(config, changes)
        await self._conductor.until_ready(new)
        return changes

    def difference(self, config: MeshConfig) -> Difference:
        """Return what a reload of ``config`` would change now, key by key."""
        self._check_running()
        return difference(self.config, self._changing.keeping_scale(config))

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
        async with AsyncExitStack() as undo:
            await self._set_up(loop, undo)
            undo.pop_all()
        self._finished = loop.create_future()
        self._begun = True
        self._publish("mesh-started", pid=os.getpid(), slots=len(self._fleet))
        self._hub.open(loop)
        self._conductor.begin()

    async def _set_up(self, loop: asyncio.AbstractEventLoop, undo: AsyncExitStack) -> None:
        """Make all that a mesh needs before its first process; ``undo`` gives it back if that fails."""
        self._hoard = Hoard()
        undo.callback(self._hoard.close)
        name = self.config.mesh.name
        self.directory = RuntimeDirectory(base_directory(self.config.supervisor.runtime_dir), name, self.config.file)
        undo.callback(self.directory.close)
        undo.callback(self._close_tables)
        undo.push_async_callback(self._outlet.close)
        self._started_at = loop.time()
        place = place_of(self.directory.path)
        self._mark = Mark.of_this_process(name, place)
        if killed := await kill_orphans(name, place):
            self._publish("leftovers-killed", pids=killed)
        workers = sum(worker.replicas for worker in self.config.workers if worker.command is None)
        self._tables = Tables(loop, self.directory.fd, name, workers)
        await self._outlet.open(self.config.supervisor.metrics)
        self._run = self._make_run(loop, self._mark, self._tables)
        self._renewal = Renewal(loop, self._run.nursery, self._conductor, self._publish)
        self._hub.events.add(self._renewal.heard)
        self._changeover = Changeover(self._run, self._fleet, self._conductor, self._renewal, self._sweeps)
        if self._member is not None:
            self._member.join(self._run.herald, self.config.mesh, self.directory.path, self._run.secret)
        for worker in self.config.workers:
            self._fleet.add(worker)

    def request_stop(self, reason: str = "as requested") -> None:
        """Stop everything in reverse order, each slot within its ``stop_timeout``; again: no effect."""
        self._conductor.end(strategy.Verdict(0, reason))
        self._conductor.advance()

    def request_kill(self) -> None:
        """Kill everything at once; the exit status is then 1, unless it was to be another failure."""
        if self._winding_up is None:
            self._conductor.kill("at once, as requested")

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

    def children_changed(self) -> None:
        """Look for children that were stopped, and reap dead ones that nobody knows: at each SIGCHLD.

        Only for a program of which all children are the mesh's (``adopt``): the notices of others are taken, too.
        """
        if self._lookout is not None:
            self._lookout.look_for_the_frozen()
        if self._subreaper is not None:
            self._subreaper.notice()

    def _own(self) -> set[int]:
        """Return the children that somebody here waits for."""
        own = {pid for slot in self._fleet for pid in slot.pids}
        if self._nursery is not None:
            own |= self._nursery.pids
        if self._guard is not None and self._guard.pid is not None:
            own.add(self._guard.pid)
        return own

    def status(self) -> MeshStatus:
        """Return the facts of this moment."""
        workers = tuple(slot.status() for slot in self._fleet)
        penalties = self._tables.penalties() if self._tables else ()
        uptime = round(self._uptime(), 3)
        return MeshStatus(self.config.mesh.name, os.getpid(), self._state(), uptime, workers, penalties)

    async def links(self) -> MeshLinks:
        """Ask all workers how their links are, and return that; one that does not answer within 250 ms is SILENT."""
        nodes = await self._survey.links()
        return MeshLinks(self.config.mesh.name, os.getpid(), round(self._uptime(), 3), nodes)

    def slots(self, name: str) -> tuple[WorkerStatus, ...]:
        """Return the facts of a slot, or of all of a worker.

        Raises:
            UnknownSlot: If there is no such slot or worker.
            SupervisorError: If the mesh does not run (any more).
        """
        return tuple(slot.status() for slot in self._named(name))

    def names(self) -> dict[str, tuple[str, ...]]:
        """Return the names of the slots by those of their workers, in the order of the file."""
        return {name: tuple(slot.name for slot in slots) for name, slots in self._fleet.workers().items()}

    async def figures(self, *, each: bool = False) -> MeshFigures:
        """Measure the mesh, with ``each`` link of each worker or with what they carry together.

        Raises:
            SupervisorError: If it has not been started.
        """
        if self._tables is None or self._lookout is None:
            raise SupervisorError("this supervisor has not been started")
        return await self._gauge.read(self._tables, self._lookout, self._uptime(), each=each)

    async def traces(self, name: str) -> str:
        """Return where the threads of a slot's process are now; of all slots of a worker, if it is one.

        Raises:
            SupervisorError: If there is no such slot or worker, or no process in it now.
        """
        slots = [(slot, slot.pid) for slot in self._named(name)]
        texts = await asyncio.gather(*(slot.traces() for slot, _ in slots))
        found = [(slot.name, pid, text) for (slot, pid), text in zip(slots, texts, strict=True) if text]
        if not found:
            raise SupervisorError(f"{name} has no process now")
        return "\n".join(f"{slot} (process {pid})\n{text}" for slot, pid, text in found)

    async def changed_files(self, worker: WorkerConfig) -> tuple[str, ...] | None:
        """Return the files of a worker's code that have changed since it was imported; None: nobody can tell."""
        return None if self._nursery is None else await self._nursery.changed_files_of(worker)

    def events(self) -> EventStream:
        """Return what happens from now on, for ``async for``; it ends with the mesh."""
        return self._hub.stream()

    def subscribe(self, callback: Callable[[Event], None]) -> Callable[[], None]:
        """Have ``callback`` called at each event, in the loop; it must not block. Returns what ends that."""
        return self._hub.events.add(callback)

    def subscribe_output(self, callback: Callable[[str, str, str], None]) -> Callable[[], None]:
        """Have ``callback`` called with slot, kind (``stdout``, ``stderr``, ``progress``) and line."""
        return self._hub.output.add(callback)

    # Making and ending it.

    def _make_nursery(self, loop: asyncio.AbstractEventLoop, mark: Mark, reserve: Reserve) -> Nursery:
        if self._adopt:
            become_subreaper()
        if self._is_guarded:
            self._guard = Guard(loop, mark, self._publish)
            self._guard.start()
        section = self.config.supervisor
        self._nursery = nursery = Nursery(
            loop,
            mark,
            adopt=self._adopt,
            spares=section.spares,
            preload=section.preload,
            on_event=self._publish,
            enlist=reserve.enlist,
        )
        self._subreaper = Subreaper(loop, mark, own=self._own, is_forking=lambda: nursery.is_forking)
        self._sweeps = Sweeps(loop, self._subreaper) if self._adopt else None
        nursery.warm(self.config.workers)
        return nursery

    def _make_run(self, loop: asyncio.AbstractEventLoop, mark: Mark, tables: Tables) -> MeshRun:
        self._lookout = Lookout(loop, tables.board, self.config.mesh.beat)
        herald, secret = Herald(loop), run_secret(self.config.mesh)
        reserve = Reserve(loop, self.directory, herald, tables, self._lookout, secret, lambda: self.config.mesh)
        return MeshRun(
            config=self.config,
            loop=loop,
            directory=self.directory,
            herald=herald,
            hub=self._hub,
            tables=tables,
            mark=mark,
            secret=secret,
            incidents=self._incidents,
            memory=MemoryWatch(loop),
            oom=OomWatch(loop.time),
            lookout=self._lookout,
            nursery=self._make_nursery(loop, mark, reserve),
            reserve=reserve,
            guard=self._guard,
            hoard=self._hoard,
            is_stopping=lambda: self._conductor.is_stopping,
            ended=self._conductor.ended,
            changed=self._conductor.advance,
            buried=self._buried,
        )

    def _buried(self, slot: str, incarnation: int, pid: int) -> None:
        if self._sweeps is not None and not self._conductor.is_stopping:  # what a mesh leaves is found at its end
            self._sweeps.after(slot, incarnation, pid)

    def _make_slot(self, worker: WorkerConfig, name: str, replica: int) -> Slot:
        assert self._run is not None
        return Slot(self._run, worker, name, replica, random.SystemRandom().random)

    def _is_all_over(self, outcome: strategy.Verdict) -> None:
        wind_up = self._wind_up(outcome.status)
        self._winding_up = asyncio.get_running_loop().create_task(wind_up, name="meshvisor-wind-up")

    async def _wind_up(self, status: int) -> None:
        """Leave nothing behind: no process, no file, nobody who waits."""
        try:
            await self._outlet.close()
            self._survey.close()
            for slot in self._fleet:
                slot.close()
            self._incidents.close()
            if self._run is not None:
                self._run.oom.close()
            if self._renewal is not None:
                await self._renewal.close()
            if self._sweeps is not None:
                await self._sweeps.close()
            if self._nursery is not None:
                await self._nursery.close()
            await self._errands.close()
            for slot in self._fleet:
                slot.close()
            self._incidents.close()
            if self._run is not None:
                self._run.oom.close()
            if self._subreaper is not None:
                self._subreaper.close()
            if self._guard is not None:
                await self._guard.close()
            if self._mark is not None:
                await kill_strays(self._mark)
        finally:
            self._close_tables()
            self.directory.close()
            self._publish("mesh-stopped", status=status)
            self._hub.end()
            if self._finished is not None:
                self._finished.set_result(status)

    def _close_tables(self) -> None:
        self._hoard.close()
        if self._lookout is not None:
            self._lookout.close()
        if self._tables is not None:
            self._tables.close()

    # Asked by itself.

    @property
    def _changing(self) -> Changeover:
        assert self._changeover is not None
        return self._changeover

    @property
    def _renewing(self) -> Renewal:
        assert self._renewal is not None
        return self._renewal

    def _named(self, name: str) -> list[Slot]:
        self._check_running()
        return self._fleet.named(name)

    def _check_running(self) -> None:
        if not self._begun:
            raise SupervisorError("this supervisor has not been started")
        if (outcome := self._conductor.outcome) is not None:
            raise SupervisorError(f"the mesh is stopping: {outcome.reason}")

    async def _stop_and_wait(self) -> None:
        self.request_stop()
        try:
            await self.wait()
        except asyncio.CancelledError:
            self.request_kill()
            await self.wait()
            raise

    def _state(self) -> MeshState:
        if self._conductor.is_stopping:
            return MeshState.STOPPING
        return MeshState.RUNNING if self._conductor.was_ready else MeshState.STARTING

    def _uptime(self) -> float:
        return self._loop.time() - self._started_at if self._loop is not None else 0.0

    def _incidents_lost(self, reason: str) -> None:
        self._publish("log-lost", file=str(self._incidents.path), text=reason)

    def _incidents_restored(self, count: int) -> None:
        self._publish("log-restored", file=str(self._incidents.path), count=count)

    def _publish(self, event: str, **details: object) -> None:
        self._hub.publish(event, "", 0, **details)
