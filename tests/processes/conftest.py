"""Meshes of real processes: made, watched, and ended with the test, whatever becomes of it."""

import asyncio
import ctypes
import os
import select
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from meshvisor.shared.config.model import MeshConfig, MeshSection, SupervisorSection, WorkerConfig
from meshvisor.supervisor import spawn
from meshvisor.supervisor.event import Event
from meshvisor.supervisor.subreaper import become_subreaper, children
from meshvisor.supervisor.supervisor import Supervisor

_PATIENCE = 30.0


class WatchedMesh:
    """A running mesh, all that has happened in it, and all that its children have printed."""

    def __init__(self, config: MeshConfig, *, adopt: bool = False) -> None:
        self.supervisor = Supervisor(config, adopt=adopt)
        self.events: list[Event] = []
        self.lines: list[tuple[str, str, str]] = []
        self._news = asyncio.Event()
        self.supervisor.subscribe(self._happened)
        self.supervisor.subscribe_output(self._printed)

    def _happened(self, event: Event) -> None:
        self.events.append(event)
        self._news.set()

    def _printed(self, slot: str, kind: str, line: str) -> None:
        self.lines.append((slot, kind, line))
        self._news.set()

    async def until(self, condition: Callable[[], Any]) -> Any:
        """Wait for a condition over what has been seen, and return its value."""
        async with asyncio.timeout(_PATIENCE):
            while not (value := condition()):
                self._news.clear()
                await self._news.wait()
        return value

    async def happened(self, event: str, slot: str = "", incarnation: int = 0) -> Event:
        """Wait until ``event`` has happened (in the given incarnation, if any) and return it."""

        def find() -> Event | None:
            named = (seen for seen in self.events if (seen.event, seen.slot) == (event, slot))
            return next((seen for seen in named if incarnation in (0, seen.incarnation)), None)

        found: Event = await self.until(find)
        return found

    async def printed(self, slot: str, start: str) -> str:
        """Wait for a line of ``slot`` that begins with ``start`` and return the rest of it."""

        def find() -> str | None:
            lines = (line for name, _, line in self.lines if name == slot and line.startswith(start))
            return next((line.removeprefix(start) + " " for line in lines), None)

        found: str = await self.until(find)
        return found[:-1]

    def names(self, slot: str = "") -> list[str]:
        """Return the names of what has happened to ``slot`` so far."""
        return [event.event for event in self.events if event.slot == slot]

    def pid(self, slot: str) -> int:
        """Return the process in ``slot``, which must have one."""
        pid = next(worker.pid for worker in self.supervisor.status().workers if worker.name == slot)
        assert pid is not None, f"{slot} has no process"
        return pid


class Workshop:
    """Makes configurations and runs them, everything in a directory of the test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.runtime = directory / "run"

    def command(self, name: str, *command: str, **options: Any) -> WorkerConfig:
        """Return a worker that is a command."""
        return WorkerConfig(name, options.pop("cwd", self.directory), command=command, **options)

    def shell(self, name: str, script: str, **options: Any) -> WorkerConfig:
        """Return a worker that is a shell script."""
        return self.command(name, "sh", "-c", script, **options)

    def worker(self, name: str, do: str = "serve", **options: Any) -> WorkerConfig:
        """Return a worker that speaks the lifeline's protocol and behaves as fake_worker.py says."""
        return WorkerConfig(name, self.directory, class_path="fake:Worker", settings={"do": do}, **options)

    def real_worker(self, name: str, class_path: str, **options: Any) -> WorkerConfig:
        """Return a worker that runs a class of a module in the test's directory."""
        return WorkerConfig(name, self.directory, class_path=class_path, **options)

    def mesh(self, *workers: WorkerConfig, **supervisor: Any) -> MeshConfig:
        """Return the configuration of a mesh."""
        section = SupervisorSection(**{"runtime_dir": self.runtime, **supervisor})
        return MeshConfig(self.directory / "mesh.toml", MeshSection("testmesh"), section, workers)

    @asynccontextmanager
    async def running(
        self, *workers: WorkerConfig, adopt: bool = False, **supervisor: Any
    ) -> AsyncIterator[WatchedMesh]:
        """Run a mesh of ``workers``; what is left of it at the end is killed."""
        mesh = WatchedMesh(self.mesh(*workers, **supervisor), adopt=adopt)
        await mesh.supervisor.start_all()
        try:
            yield mesh
        finally:
            mesh.supervisor.request_kill()
            await mesh.supervisor.wait()

    def outcome(self, *workers: WorkerConfig, **supervisor: Any) -> tuple[int, WatchedMesh]:
        """Run a mesh that ends by itself and return its exit status."""

        async def main() -> tuple[int, WatchedMesh]:
            async with asyncio.timeout(_PATIENCE), self.running(*workers, **supervisor) as mesh:
                return await mesh.supervisor.wait(), mesh

        return asyncio.run(main())


class Witness:
    """Watches a process that is nobody's child here, through its pidfd."""

    def __init__(self, pid: int) -> None:
        self._pidfd = os.pidfd_open(pid)

    def saw_the_end(self, within: float = _PATIENCE) -> bool:
        """Wait for the end of the process and return whether it came in time."""
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(within * 1000))

    def close(self) -> None:
        os.close(self._pidfd)


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """Meshes of commands, and of workers that are played by fake_worker.py."""
    monkeypatch.setattr(spawn, "WORKER_PROGRAM", (str(Path(__file__).with_name("fake_worker.py")),))
    return Workshop(tmp_path)


@pytest.fixture
def real_workshop(tmp_path: Path) -> Workshop:
    """Meshes of real workers."""
    return Workshop(tmp_path)


@pytest.fixture
def adopting() -> Iterator[None]:
    """Adopt the orphans of this process's descendants; none of them may be left at the end."""
    before = set(children()), sorted(os.listdir("/proc/self/fd"))
    become_subreaper()
    yield
    for pid in set(children()) - before[0]:
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED)
    ctypes.CDLL(None).prctl(36, 0, 0, 0, 0)
    assert sorted(os.listdir("/proc/self/fd")) == before[1]


@pytest.fixture
def witness() -> Iterator[Callable[[int], Witness]]:
    """Return what makes a witness of a process, to be called while the process is known to live."""
    witnesses: list[Witness] = []

    def make(pid: int) -> Witness:
        witnesses.append(Witness(pid))
        return witnesses[-1]

    yield make
    for one in witnesses:
        one.close()
