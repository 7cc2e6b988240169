"""A supervisor that supervises actors: all of it is real but the processes, the directory and the shared memory.

An actor plays one incarnation. What it does by itself says its slot's ``Part``; what else befalls it is done to it by
the test. The stage runs on virtual time, and writes down who lives, who was asked to end, and who came when.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from meshvisor.shared.config.model import MeshConfig, MeshSection, SupervisorSection, WorkerConfig
from meshvisor.shared.control.lifeline import Links
from meshvisor.shared.core.roster import NodeRecord
from meshvisor.supervisor import slot as slot_module
from meshvisor.supervisor import supervisor as supervisor_module
from meshvisor.supervisor.candidate import Candidate
from meshvisor.supervisor.child import Exit, State
from meshvisor.supervisor.event import Event
from meshvisor.supervisor.herald import Herald
from meshvisor.supervisor.identity import Identity
from meshvisor.supervisor.leftovers import Mark
from meshvisor.supervisor.nursery import Nursery
from meshvisor.supervisor.slot import Slot
from meshvisor.supervisor.snapshot import ExitCause
from meshvisor.supervisor.supervisor import Supervisor
from meshvisor.supervisor.surroundings import MeshRun

KILLED = Exit(signal="SIGKILL")
_DEATH = 0.001  # from a SIGKILL to the notice of the death


@dataclass(frozen=True, slots=True)
class Part:
    """What the next actors of a slot do by themselves, in seconds; None: that never."""

    prepared: float | None = 0.02  # as a candidate
    is_made: bool = True  # else its start fails
    is_short: bool = False  # for want of means
    ready: float | None = 0.05
    ends: float | None = None  # after it was born
    status: int = 1
    obeys: float | None = 0.05  # a request to stop


class Actor:
    """Stands in for ``Life``; see there."""

    def __init__(
        self,
        stage: Stage,
        run: MeshRun,
        identity: Identity,
        output: object,
        owner: Slot | Candidate,
        *,
        is_candidate: bool = False,
    ) -> None:
        self.identity = identity
        self.is_candidate = is_candidate
        self.tail: list[str] = []
        self.traceback = self.trouble = self.complaint = ""
        self.links = Links(0, 0)
        self.peak = 0
        self.pid: int | None = None
        self.pids: set[int] = set()
        self.is_ready = self.is_asked = False
        self.owner: Any = owner
        self._stage = stage
        self._loop = run.loop
        self._part = stage.parts.get(identity.slot, Part())
        self._timers: list[asyncio.TimerHandle] = []

    def begin(self) -> None:
        part, stage = self._part, self._stage
        if not self.is_candidate:
            stage.enters(self)
        if not part.is_made:
            self.trouble = "there is no such thing"
            self._loop.call_soon(self._end, Exit(failure=self.trouble, is_shortage=part.is_short))
            return
        self.pid = next(stage.numbers)
        self.pids = {self.pid}
        if self.is_candidate:
            stage.candidates.append(self)
            self._later(part.prepared, self.owner.prepared)
        else:
            self._plays()

    def take(self, owner: Slot) -> None:
        self.owner, self.is_candidate = owner, False
        self._stage.candidates.remove(self)
        self._stage.enters(self)
        owner.recognised(self.identity)
        self._plays()

    def _plays(self) -> None:
        self.owner.born(self.pid)
        self._later(self._part.ready, self._becomes_ready)
        self._later(self._part.ends, self.dies, Exit(code=self._part.status))

    def dies(self, exit: Exit = KILLED) -> None:
        """End by itself, at once; what was not made, or is dead, does not."""
        if self.pid is not None:
            self._end(exit)

    def ask(self, stop_signal: str) -> None:
        self._stage.is_asked(self)
        self._later(self._part.obeys, self.dies, Exit(signal=stop_signal))

    def hand_over(self) -> None:
        self._stage.is_asked(self)
        self._later(self._part.obeys, self.dies, Exit(code=0))

    def kill(self) -> None:
        if not self.is_candidate:
            self._stage.is_asked(self)
        self._later(_DEATH, self.dies)

    def measure(self) -> tuple[float, float, int]:
        return 0.0, 0.0, 0

    def ready(self) -> None: ...
    def is_to_end(self) -> None: ...
    def dump(self) -> None: ...
    def blame(self, reason: str) -> None: ...
    def reconfigure(self, config: WorkerConfig) -> None: ...

    def _becomes_ready(self) -> None:
        self.is_ready = True
        self.owner.became_ready()

    def _end(self, exit: Exit) -> None:
        for timer in self._timers:
            timer.cancel()
        self.pid = None
        self.pids = set()
        if not self.is_candidate:
            self._stage.leaves(self)
        elif self in self._stage.candidates:
            self._stage.candidates.remove(self)
        self.owner.ended(exit)

    def _later(self, delay: float | None, callback: Callable[..., None], *args: Any) -> None:
        if delay is not None:
            self._timers.append(self._loop.call_later(delay, callback, *args))


class _Herald(Herald):
    """Writes down what it is to tell."""

    def __init__(self, loop: asyncio.AbstractEventLoop, told: list[NodeRecord]) -> None:
        super().__init__(loop)
        self._told = told

    def announce(self, record: NodeRecord) -> None:
        self._told.append(record)
        super().announce(record)


class Stage:
    """What can be seen from outside of one mesh of ``workers``; ``opened`` is where it is played."""

    def __init__(self, *workers: WorkerConfig, **section: Any) -> None:
        config = MeshConfig(Path("/mesh.toml"), MeshSection("stage"), SupervisorSection(**section), workers)
        self.supervisor = Supervisor(config)
        self.parts: dict[str, Part] = {}
        self.living: dict[str, Actor] = {}
        self.roster: list[NodeRecord] = []  # all news of it
        self.candidates: list[Actor] = []  # who prepares itself, or waits for its place
        self.numbers = count(1000)
        self.log: list[tuple[float, str, str]] = []  # when, what (starts, asked, ends), which slot
        self.events: list[tuple[float, Event]] = []
        self.check: Callable[[str, Actor], None] = lambda what, actor: None
        self.supervisor.subscribe(lambda event: self.events.append((self._now(), event)))

    @contextlib.contextmanager
    def opened(self) -> Iterator[Stage]:
        """Have the supervisor find the stage where the world would be."""

        async def none(*args: object) -> list[int]:
            return []

        def make_run(supervisor: Any, loop: asyncio.AbstractEventLoop, mark: object, tables: object) -> MeshRun:
            lookout = SimpleNamespace(configure=lambda beat: None)
            run = SimpleNamespace(config=supervisor.config, loop=loop, hub=supervisor._hub)
            run.herald = _Herald(loop, self.roster)
            run.directory, run.lookout = supervisor.directory, lookout
            run.incidents = SimpleNamespace(append=lambda incident: None)
            run.oom = SimpleNamespace(close=lambda: None)
            run.nursery = Nursery(loop, cast(Mark, mark), adopt=False)
            run.is_stopping = lambda: supervisor._conductor.is_stopping
            run.ended, run.changed = supervisor._conductor.ended, supervisor._conductor.advance
            return cast(MeshRun, run)

        def make_directory(*args: object) -> object:
            return SimpleNamespace(fd=-1, path=Path("/"), remove=lambda name: None, close=lambda: None)

        tables = SimpleNamespace(close=lambda: None, penalties=tuple)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(slot_module, "Life", lambda *args, **options: Actor(self, *args, **options))
            patch.setattr(supervisor_module, "RuntimeDirectory", make_directory)
            patch.setattr(supervisor_module, "Tables", lambda *args: tables)
            patch.setattr(supervisor_module, "kill_orphans", none)
            patch.setattr(supervisor_module, "kill_strays", none)
            patch.setattr(Supervisor, "_make_run", make_run)
            yield self

    # Told by the actors.

    def enters(self, actor: Actor) -> None:
        name = actor.identity.slot
        assert name not in self.living, f"two processes in {name}"
        self.living[name] = actor
        self._note("starts", actor)

    def is_asked(self, actor: Actor) -> None:
        if not actor.is_asked:
            actor.is_asked = True
            self._note("asked", actor)

    def leaves(self, actor: Actor) -> None:
        del self.living[actor.identity.slot]
        self._note("ends", actor)

    # For the tests.

    @property
    def slots(self) -> dict[str, Slot]:
        """The slots that there are now."""
        return {slot.name: slot for slot in self.supervisor._fleet}

    @property
    def states(self) -> dict[str, str]:
        """The states as users see them."""
        return {worker.name: str(worker.state) for worker in self.supervisor.status().workers}

    def of(self, what: str) -> list[str]:
        """Return the slots that something has happened to, in that order."""
        return [name for _, happened, name in self.log if happened == what]

    def when(self, event: str, slot: str = "") -> list[float]:
        """Return when an event has happened."""
        return [at for at, happened in self.events if (happened.event, happened.slot) == (event, slot)]

    async def reload(self, **section: Any) -> None:
        """Go over to another ``[supervisor]``."""
        config = self.supervisor.config
        await self.supervisor.reload(replace(config, supervisor=replace(config.supervisor, **section)))

    def condemn(self, name: str) -> None:
        """Have a process found frozen, if there is one that is ready."""
        if (actor := self.living.get(name)) is not None and actor.owner.child.state is State.READY:
            actor.owner.condemned(ExitCause.FROZEN, "it was stopped")

    def _note(self, what: str, actor: Actor) -> None:
        self.log.append((self._now(), what, actor.identity.slot))
        self.check(what, actor)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
