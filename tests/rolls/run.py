"""Rolls all workers of a busy mesh again and again, and changes its file and its code meanwhile."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from meshvisor.shared.config.model import (
    MeshConfig,
    MeshSection,
    StartMethod,
    SupervisorSection,
    TransportName,
    WorkerConfig,
)
from meshvisor.shared.errors import SupervisorError
from meshvisor.supervisor.supervisor import Supervisor

from .checks import Account, account

_APPLICATION = Path(__file__).with_name("application.py")
_HANG = 1.5
"""Seconds that spoilt code may take to become ready."""
_SETTLING = 0.2
"""Seconds of calls before the first roll and after the last one."""


class Spoil(StrEnum):
    """What is wrong with changed code of ``Server``."""

    IMPORT = "no_such_name"
    CONSTRUCTOR = "def __init__(self): raise ValueError('spoilt constructor')"
    RAISES = "raise ValueError('spoilt on_start')"
    HANGS = "await asyncio.sleep(1000)"


@dataclass(frozen=True, slots=True)
class Options:
    """What to run: for how long, at how many calls a second in total."""

    seconds: float
    rate: float = 1000.0
    callers: int = 3
    start_method: StartMethod = StartMethod.ZYGOTE
    transport: TransportName = TransportName.UNIX
    spares: int = 1
    spoils: Sequence[Spoil] = ()
    """Changes of the code that are tried before all else, and are to be taken back without anybody's noticing."""


@dataclass(slots=True)
class Outcome:
    """What has become of it."""

    restarts: int = 0
    reloads: int = 0
    seconds: float = 0.0
    refusals: dict[Spoil, str] = field(default_factory=dict)
    """What became of a roll of spoilt code."""
    account: Account = field(default_factory=Account)
    faults: list[str] = field(default_factory=list)

    @property
    def times(self) -> list[float]:
        """How long the calls took, in milliseconds, the shortest first."""
        return sorted(self.account.done.values())

    def table(self) -> str:
        """Return the figures, one a line, and then what is wrong."""
        found = self.account
        times = self.times or [0.0]
        rows = {
            "rolling restarts, reloads": f"{self.restarts}, {self.reloads} in {self.seconds:.1f} s",
            "lives of workers": f"{found.lives.total()}",
            "calls": f"{len(found.begun)}: {len(found.begun) / max(self.seconds, 0.001):.0f}/s",
            "  took": f"{statistics.median(times):.1f} ms (median), {times[len(times) * 99 // 100]:.1f} (p99), "
            f"{times[-1]:.1f} (longest)",
            "messages": f"{sum(map(len, found.sent.values()))}",
            **{f"  taken back ({spoil.name.lower()})": said for spoil, said in self.refusals.items()},
        }
        lines = [f"{name:<28}{value}" for name, value in rows.items()]
        lines += [f"wrong: {fault}" for fault in self.faults] or [
            "No call was lost, failed or ran twice; no message was lost."
        ]
        return "\n".join(lines) + "\n"


def config_of(folder: Path, options: Options, version: int = 0, start_timeout: float = 10.0) -> MeshConfig:
    """Return the mesh; each ``version`` of it has other settings, so that all processes are to be replaced.

    Each other one goes by another transport, too. ``start_timeout`` is that of the servers.
    """

    def worker(name: str, role: str, replicas: int, **settings: Any) -> WorkerConfig:
        said = {"record": str(folder / "record"), "version": version, **settings}
        return WorkerConfig(
            name,
            folder,
            class_path=f"application:{role}",
            replicas=replicas,
            settings=said,
            start_method=options.start_method,
            start_timeout=start_timeout if name == "server" else 10.0,
        )

    workers = (
        worker("server", "Server", 3),
        worker("store", "Server", 1),
        worker("caller", "Caller", options.callers, rate=options.rate / options.callers),
        worker("writer", "Writer", 1, rate=200),
    )
    section = SupervisorSection(runtime_dir=folder / "run", max_restarts=0, spares=options.spares)
    transports = [options.transport, *(transport for transport in TransportName if transport != options.transport)]
    mesh = MeshSection("rolls", transport=transports[version % 2])
    return MeshConfig(folder / "mesh.toml", mesh, section, workers)


async def run(folder: Path, options: Options) -> Outcome:
    """Run the mesh in ``folder``; nothing of it is left on return."""
    outcome = Outcome()
    write(folder)
    supervisor = Supervisor(config_of(folder, options), adopt=True)
    async with supervisor:
        await asyncio.sleep(_SETTLING)
        for spoil in options.spoils:
            if spoil is Spoil.HANGS:
                await supervisor.reload(config_of(folder, options, start_timeout=_HANG))
            await _try_spoilt(supervisor, folder, spoil, outcome)
        try:
            await _roll(supervisor, folder, options, outcome)
        except SupervisorError as error:
            outcome.faults.append(f"a roll failed: {error}")
        await asyncio.sleep(_SETTLING)
        for name in ("caller", "writer"):  # so that what they wait for comes; nothing is rolled here
            await supervisor.stop(name)
    if (status := await supervisor.wait()) != 0:
        outcome.faults.append(f"the mesh ended with {status}")
    outcome.account = account((folder / "record").read_text())
    outcome.faults += outcome.account.judge()
    return outcome


def write(folder: Path, spoil: Spoil | None = None) -> None:
    """Write the application, the way it is or spoilt: it is ``Server`` that does not work then."""
    text = _APPLICATION.read_text()
    if spoil is not None:
        head, mark, tail = text.partition("class Server(Recorder):\n")
        body = spoil.value
        if spoil in (Spoil.RAISES, Spoil.HANGS):
            body = f"async def on_start(self): {spoil.value}"
        text = f"{head}{mark}    {body}\n{tail}"
    (folder / "application.py").write_text(text)


async def _try_spoilt(supervisor: Supervisor, folder: Path, spoil: Spoil, outcome: Outcome) -> None:
    write(folder, spoil)
    before = [(worker.name, worker.incarnation) for worker in supervisor.status().workers]
    try:
        await supervisor.restart("server")
    except SupervisorError as error:
        outcome.refusals[spoil] = str(error)
    else:
        outcome.faults.append(f"code that is spoilt ({spoil}) was rolled out")
    after = [(worker.name, worker.incarnation) for worker in supervisor.status().workers if worker.ready]
    lives = 2 if spoil in (Spoil.RAISES, Spoil.HANGS) else 0  # of the first one that was tried
    expected = [(name, incarnation + (lives if name == "server-0" else 0)) for name, incarnation in before]
    if after != expected:
        outcome.faults.append(f"after {spoil} there is {after}, not {expected}")
    write(folder)
    await asyncio.sleep(_SETTLING)


async def _roll(supervisor: Supervisor, folder: Path, options: Options, outcome: Outcome) -> None:
    began = time.monotonic()
    version = 0
    while time.monotonic() - began < options.seconds:
        for name in ("server", "store", "caller", "writer"):
            await supervisor.restart(name)
            outcome.restarts += 1
        version += 1
        await supervisor.reload(config_of(folder, options, version))
        outcome.reloads += 1
    outcome.seconds = time.monotonic() - began
