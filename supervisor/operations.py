"""What operators change in a running mesh: begun on request, carried out here to the end, whoever asked for it.

A change belongs to the supervisor from the moment at which it has begun. Nobody cancels it: a client that gives up, or
dies, or is stopped has no part in it any more. So many go on at once, and no more.

They begin in the order in which they were asked for. Two that concern the same slot do not wait for each other: what
was asked for last counts, and the one before it is told that it has missed its goal. Only restarts and reloads, which
try new code, take their turns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping
from typing import Protocol

from ..shared.config import load_config
from ..shared.config.model import MeshConfig
from ..shared.control.requests import (
    Accepted,
    Answer,
    Change,
    Difference,
    Done,
    Faulty,
    Refusal,
    Refused,
    Reload,
    Restart,
    Scale,
    Start,
    Stop,
)
from ..shared.errors import ConfigError, MeshError, SupervisorError
from .changes import Changes
from .event import Event
from .naming import UnknownSlot, is_of
from .progress import Progress
from .snapshot import WorkerStatus
from .spawn import reason_of

_MOST = 64
_NAMES = {Start: "start", Stop: "stop", Restart: "restart", Scale: "scaling"}

Tell = Callable[[Answer], None]
"""Passes an answer on to whoever asked; must not block or raise."""


class Changeable(Protocol):
    """What is needed of a supervisor."""

    @property
    def config(self) -> MeshConfig: ...

    def start(self, name: str) -> Coroutine[None, None, None]: ...

    def stop(self, name: str) -> Coroutine[None, None, None]: ...

    async def restart(self, name: str, *, at_once: bool = ...) -> None: ...

    async def scale_all(self, replicas: Mapping[str, int]) -> None: ...

    async def reload(self, config: MeshConfig) -> Changes: ...

    def check_scale(self, replicas: Mapping[str, int]) -> None: ...

    def difference(self, config: MeshConfig) -> Difference: ...

    def slots(self, name: str) -> tuple[WorkerStatus, ...]: ...

    def subscribe(self, callback: Callable[[Event], None]) -> Callable[[], None]: ...


class Operations:
    """Carries changes out in the running loop, until ``close``.

    ``note`` hears a sentence about each reload, and about each failure that nobody waited for.
    """

    def __init__(self, supervisor: Changeable, note: Callable[[str], None] | None = None) -> None:
        self._supervisor = supervisor
        self._note = note or _say_nothing
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def pending(self) -> int:
        """How many changes go on."""
        return len(self._tasks)

    def begin(self, change: Change, tell: Tell) -> None:
        """Begin a change, and tell what becomes of it: that it has begun, or is refused; then each step, and the end.

        Of a change that does not ``wait`` only the beginning is told.
        """
        try:
            slots = self._concerned(change)
        except (MeshError, ValueError) as error:
            tell(refused(error))
            return
        if len(self._tasks) >= _MOST:
            text = f"{_MOST} changes are being carried out; try again in a moment"
            if isinstance(change, Reload):
                self._note(f"not reloading: {text}")
            tell(Refused(Refusal.BUSY, text))
        elif isinstance(change, Reload):
            self._own(self._reload(change, tell))
        else:
            tell(Accepted())
            self._own(self._carry_out(change, slots, tell if change.wait else self._noted(change)))

    async def close(self) -> None:
        """End what still goes on: the mesh is over."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _noted(self, change: Start | Stop | Restart | Scale) -> Tell:
        """Return what notes the failure of a change, which would else be told to nobody."""

        def tell(answer: Answer) -> None:
            if isinstance(answer, Refused):
                self._note(f"the {_NAMES[type(change)]} failed: {answer.text}")

        return tell

    def _own(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name="meshvisor-operation")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # looked at: of several that fail only the first is told

    def _concerned(self, change: Change) -> list[str]:
        """Return the slots that a change names: all names are looked at before anything is done.

        Raises:
            SupervisorError: If there is no such slot or worker, or the mesh is stopping.
            ValueError: If there cannot be so many replicas.
        """
        if isinstance(change, Reload):
            return []
        if isinstance(change, Scale):
            self._supervisor.check_scale(change.replicas)
            return []
        return [slot.name for slot in self._named(change.names)]

    def _named(self, names: Iterable[str]) -> list[WorkerStatus]:
        return list({slot.name: slot for name in names for slot in self._supervisor.slots(name)}.values())

    # What each change does. Nothing here ends before what it awaits has: that is the supervisor's, and bounded.

    async def _carry_out(self, change: Start | Stop | Restart | Scale, slots: Collection[str], tell: Tell) -> None:
        supervisor = self._supervisor
        if isinstance(change, Scale):
            work = supervisor.scale_all(change.replicas)
            await self._follow(work, _any_of(change.replicas), (), tell)
            return
        names = tuple(dict.fromkeys(change.names))
        if isinstance(change, Restart):
            work = _in_turn(supervisor.restart(name, at_once=change.at_once) for name in names)
        else:
            work = self._together(map(supervisor.start if isinstance(change, Start) else supervisor.stop, names))
        await self._follow(work, slots.__contains__, names, tell)

    async def _together(self, work: Iterable[Coroutine[None, None, None]]) -> None:
        """Wait for all, or for the first that fails; the others go on."""
        tasks = [self._own(one) for one in work]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            if task in done:
                task.result()

    async def _reload(self, change: Reload, tell: Tell) -> None:
        note = self._note if not change.dry_run else _say_nothing
        file = str(self._supervisor.config.file)
        note(f"reloading {file}")
        try:
            # Beside the loop: a large file takes its time, and a crash meanwhile must not wait for it.
            config = await asyncio.to_thread(load_config, file)
            found = self._supervisor.difference(config)
            if found.refused and not change.dry_run:
                raise SupervisorError("; ".join(found.refused))
        except (MeshError, OSError, MemoryError) as error:
            note(f"the reload failed: {error}")
            tell(Faulty(file, error.faults) if isinstance(error, ConfigError) else refused(error))
            return
        tell(found)
        if not change.dry_run:
            concerned = _any_of([*found.added, *found.removed, *found.replaced, *found.rescaled])
            await self._follow(self._go_over(config), concerned, (), tell if change.wait else _nobody)

    async def _go_over(self, config: MeshConfig) -> None:
        try:
            changes = await self._supervisor.reload(config)
        except MeshError as error:
            self._note(f"the reload failed: {error}")
            raise
        self._note(f"nothing has changed in {config.file}" if changes.is_empty else "reloaded")

    async def _follow(
        self, work: Awaitable[None], concerns: Callable[[str], bool], names: Iterable[str], tell: Tell
    ) -> None:
        """Carry ``work`` out, and tell each step, then the end, with how the slots are that ``names`` mean."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        progress = Progress(concerns, tell, begun)
        unsubscribe = self._supervisor.subscribe(lambda event: progress.heard(event, loop.time()))
        try:
            await work
            slots = self._named(names)
        except (MeshError, OSError, MemoryError, ValueError) as error:
            tell(refused(error))
        else:
            tell(Done(round(loop.time() - begun, 6), progress.steps(slots)))
        finally:
            unsubscribe()


def _any_of(workers: Iterable[str]) -> Callable[[str], bool]:
    workers = tuple(workers)
    return lambda slot: any(is_of(worker, slot) for worker in workers)


async def _in_turn(work: Iterable[Awaitable[None]]) -> None:
    for one in work:
        await one


def refused(error: Exception) -> Refused:
    """Return the answer to a request that failed by ``error``."""
    if isinstance(error, OSError | MemoryError):
        return Refused(Refusal.FAILED, f"the supervisor cannot do that now: {reason_of(error)}")
    return Refused(Refusal.NO_SUCH_SLOT if isinstance(error, UnknownSlot) else Refusal.FAILED, str(error))


def _nobody(answer: Answer) -> None:
    """Tell nobody."""


def _say_nothing(text: str) -> None:
    """Keep it for oneself."""
