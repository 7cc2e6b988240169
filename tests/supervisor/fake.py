"""A supervisor as the control plane sees it, without a process in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from meshvisor.shared.config.model import MeshConfig, MeshSection, SupervisorSection, WorkerConfig
from meshvisor.shared.control.links import LinkStatus, LinkTotals
from meshvisor.shared.control.requests import Difference
from meshvisor.shared.core.penalties import FailureSeverity
from meshvisor.shared.core.states import ConnectionState
from meshvisor.shared.errors import SupervisorError
from meshvisor.shared.memory.board import Stage
from meshvisor.supervisor.changes import Changes, compare
from meshvisor.supervisor.difference import difference
from meshvisor.supervisor.event import Event
from meshvisor.supervisor.figures import BlacklistFigures, MeshFigures
from meshvisor.supervisor.naming import slots_named
from meshvisor.supervisor.snapshot import (
    Answer,
    ExitCause,
    MeshLinks,
    MeshState,
    MeshStatus,
    NodeLinks,
    WorkerState,
    WorkerStatus,
)

STATUS = MeshStatus("demo", 1, MeshState.RUNNING, 1.0, ())
LINK = LinkStatus("b", 1, ConnectionState.ESTABLISHED, 2.5, 0.001)
NODE = NodeLinks(
    "a", "a", WorkerState.READY, 7, 1, Answer.FRESH, Stage.READY, 0.0, 3, 4, 1, 1, LinkTotals(bytes_in=5), (LINK,)
)
LINKS = MeshLinks("demo", 1, 1.0, (NODE, msgspec.structs.replace(NODE, name="b", answer=Answer.SILENT, links=())))
FIGURES = MeshFigures(
    mesh="demo",
    release="1.0",
    uptime=1.0,
    cpu=0.5,
    rss=1000,
    lag=0.001,
    events_dropped=2,
    incidents={ExitCause.HUNG: 3},
    slots=(),
    nodes=LINKS.nodes,
    blacklist=BlacklistFigures({FailureSeverity.HARD: 1}, 1024, 0, 0),
)


def mesh(*workers: WorkerConfig, file: Path = Path("/mesh.toml"), spares: int = 1) -> MeshConfig:
    """Return a configuration."""
    return MeshConfig(file, MeshSection("demo"), SupervisorSection(spares=spares), workers)


class FakeSupervisor:
    """Slots ``a``, ``b-0`` and ``b-1``. What is asked of it is in ``asked``, and takes until ``finish``, if it is held.

    ``trouble``: what everything is answered with; ``slot`` named ``bad`` fails when it is started.
    """

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.trouble: str | None = None
        self.tracing = 0
        self.asked: list[tuple[object, ...]] = []
        self.cancelled = 0
        self.config = mesh(*(WorkerConfig(name, Path("/"), command=("x",)) for name in ("a", "bad")))
        self.states = dict.fromkeys(("a", "b-0", "b-1", "bad"), WorkerState.READY)
        self._held: asyncio.Event | None = None
        self._callbacks: list[Callable[[Event], None]] = []

    def hold(self) -> None:
        """Have changes take until ``finish``."""
        self._held = asyncio.Event()

    def finish(self) -> None:
        """Let changes end."""
        assert self._held is not None
        self._held.set()

    def publish(self, name: str, slot: str, incarnation: int = 1) -> None:
        """Say that something happened."""
        for callback in tuple(self._callbacks):
            callback(Event(1.0, name, slot, incarnation))

    # What the control plane needs.

    def status(self) -> MeshStatus:
        self._check()
        return STATUS

    def names(self) -> dict[str, tuple[str, ...]]:
        return {"a": ("a",), "b": ("b-0", "b-1"), "bad": ("bad",)}

    def slots(self, name: str) -> tuple[WorkerStatus, ...]:
        self._check()
        found = slots_named(name, self.states)
        return tuple(WorkerStatus(one, self.states[one], 1, 1, 0, 1.0, True, 0.0, 0, 0, 0, None) for one in found)

    def subscribe(self, callback: Callable[[Event], None]) -> Callable[[], None]:
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    def request_stop(self, reason: str = "") -> None:
        self.reasons.append(reason)

    async def links(self) -> MeshLinks:
        return LINKS

    async def figures(self, *, each: bool = False) -> MeshFigures:
        return FIGURES if each else msgspec.structs.replace(FIGURES, nodes=())

    async def traces(self, slot: str) -> str:
        self.tracing += 1
        if slot == "slow":
            await asyncio.sleep(1000)
        if slot == "ended":
            raise SupervisorError("ended has no process now")
        slots_named(slot, ["a"])
        return f"where {slot} is"

    async def start(self, name: str) -> None:
        await self._change("start", name)
        if name == "bad":
            raise SupervisorError("bad did not become ready: exit status 3")

    async def stop(self, name: str) -> None:
        await self._change("stop", name)

    async def restart(self, name: str, *, at_once: bool = False) -> None:
        await self._change("restart", name, at_once)

    async def scale_all(self, replicas: Mapping[str, int]) -> None:
        await self._change("scale", dict(replicas))

    def check_scale(self, replicas: Mapping[str, int]) -> None:
        for name, number in replicas.items():
            slots_named(name, self.states)
            if number > 1000:
                raise ValueError(f"not {number}")

    def difference(self, config: MeshConfig) -> Difference:
        return difference(self.config, config)

    async def reload(self, config: MeshConfig) -> Changes:
        changes = compare(self.config, config)
        await self._change("reload", config.file.name)
        self.config = config
        return changes

    async def _change(self, *asked: object) -> None:
        self.asked.append(asked)
        try:
            if self._held is not None:
                await self._held.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    def _check(self) -> None:
        if self.trouble is not None:
            raise SupervisorError(self.trouble)
