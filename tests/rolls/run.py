"""Rolls all workers of a busy mesh again and again, and has its file changed meanwhile."""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from meshvisor.shared.config.model import MeshConfig, MeshSection, StartMethod, SupervisorSection, WorkerConfig
from meshvisor.shared.errors import SupervisorError
from meshvisor.supervisor.supervisor import Supervisor

from .checks import Account, account

FOLDER = Path(__file__).parent
_SETTLING = 0.2
"""Seconds of calls before the first roll and after the last one."""


@dataclass(frozen=True, slots=True)
class Options:
    """What to run: for how long, at how many calls a second in total."""

    seconds: float
    rate: float = 1000.0
    callers: int = 3
    is_adopting: bool = True
    start_method: StartMethod = StartMethod.ZYGOTE


@dataclass(slots=True)
class Outcome:
    """What has become of it."""

    restarts: int = 0
    reloads: int = 0
    seconds: float = 0.0
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
        }
        lines = [f"{name:<28}{value}" for name, value in rows.items()]
        lines += [f"wrong: {fault}" for fault in self.faults] or [
            "No call was lost, failed or ran twice; no message was lost."
        ]
        return "\n".join(lines) + "\n"


def config_of(folder: Path, options: Options, version: int = 0) -> MeshConfig:
    """Return the mesh; each ``version`` of it has other settings, so that all processes are to be replaced."""

    def worker(name: str, role: str, replicas: int, **settings: Any) -> WorkerConfig:
        said = {"record": str(folder / "record"), "version": version, **settings}
        return WorkerConfig(
            name,
            FOLDER,
            class_path=f"application:{role}",
            replicas=replicas,
            settings=said,
            start_method=options.start_method,
        )

    workers = (
        worker("server", "Server", 3),
        worker("store", "Server", 1),
        worker("caller", "Caller", options.callers, rate=options.rate / options.callers),
        worker("writer", "Writer", 1, rate=200),
    )
    section = SupervisorSection(runtime_dir=folder / "run", max_restarts=0)
    return MeshConfig(folder / "mesh.toml", MeshSection("rolls"), section, workers)


async def run(folder: Path, options: Options) -> Outcome:
    """Run the mesh in ``folder``; nothing of it is left on return."""
    outcome = Outcome()
    supervisor = Supervisor(config_of(folder, options), adopt=options.is_adopting)
    async with supervisor:
        await asyncio.sleep(_SETTLING)
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


async def _roll(supervisor: Supervisor, folder: Path, options: Options, outcome: Outcome) -> None:
    began = time.monotonic()
    version = 0
    while (now := time.monotonic() - began) < options.seconds:
        for name in ("server", "store", "caller", "writer"):
            await supervisor.restart(name)
            outcome.restarts += 1
        version += 1
        await supervisor.reload(config_of(folder, options, version))
        outcome.reloads += 1
    outcome.seconds = time.monotonic() - began
    del now
