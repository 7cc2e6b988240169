"""``run --watch``: workers whose source files have changed are restarted, and a changed mesh.toml is reloaded.

Which workers that are, the zygotes say: they know the files of all modules that they have imported for them. Where no
zygote can say it, any Python file below a worker's ``cwd`` counts, and for a command the files that it names. Restarts
and reloads are those that an operator asks for: new code that cannot be imported touches nothing, and what does not
become ready with it goes back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Protocol

from ..shared.config.model import MeshConfig, WorkerConfig
from ..shared.control.requests import Answer, Change, Done, Faulty, Refused, Reload, Restart
from .event import duration
from .naming import is_of
from .snapshot import MeshStatus, WorkerState
from .sources import Sources

_MOST_FILES = 3


class Watched(Protocol):
    """What is needed of a supervisor."""

    @property
    def config(self) -> MeshConfig: ...

    def status(self) -> MeshStatus: ...

    async def changed_files(self, worker: WorkerConfig) -> tuple[str, ...] | None: ...


class AutoReload:
    """Watches in the running loop, from ``start`` to ``close``. ``begin`` begins a change; ``note`` hears a sentence.

    Raises:
        SupervisorError: If watchfiles is not installed.
    """

    def __init__(
        self,
        supervisor: Watched,
        begin: Callable[[Change, Callable[[Answer], None]], None],
        note: Callable[[str], None],
    ) -> None:
        self._supervisor = supervisor
        self._begin = begin
        self._note = note
        self._file = supervisor.config.file
        self._folders = self._wanted_folders()
        self._sources = self._make_sources()
        self._waiting: set[Path] = set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._sources.start()
        self._note(f"watching the workers' Python files and {self._file.name} for changes")

    async def close(self) -> None:
        """Watch no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._sources.close()

    def _wanted_folders(self) -> frozenset[Path]:
        return frozenset(worker.cwd for worker in self._supervisor.config.workers)

    def _make_sources(self) -> Sources:
        return Sources(self._folders, [self._file], self._changed, self._blind)

    def _changed(self, files: Collection[Path]) -> None:
        self._waiting.update(files)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._follow(), name="meshvisor-watch")

    def _blind(self, reason: str) -> None:
        self._note(f"changes of files are not seen any more: {reason}")

    async def _follow(self) -> None:
        """Go over to what has changed, one batch after the other: what changes meanwhile comes after it."""
        while self._waiting:
            files, self._waiting = self._waiting, set()
            if self._file in files:
                await self._ask(Reload())  # it says itself what becomes of it
                await self._watch_what_is_there_now()
            sources = {file for file in files if file != self._file}
            if sources and (workers := await self._concerned(sources)):
                await self._restart(workers, sources)

    async def _concerned(self, files: Collection[Path]) -> dict[str, list[str]]:
        """Return the slots to restart, by worker."""
        status = self._supervisor.status()
        found = {}
        for worker in self._supervisor.config.workers:
            slots = [slot for slot in status.workers if is_of(worker.name, slot.name)]
            running = [slot.name for slot in slots if slot.state is not WorkerState.STOPPED]
            if running and await self._is_concerned(worker, files):
                # By the worker's name, if that is all of them: then they take turns as those of a worker do.
                found[worker.name] = [worker.name] if len(running) == len(slots) else running
        return found

    async def _is_concerned(self, worker: WorkerConfig, files: Collection[Path]) -> bool:
        if worker.command is not None:
            return any(worker.cwd / word in files for word in worker.command)
        known = await self._supervisor.changed_files(worker)
        return any(file.is_relative_to(worker.cwd) for file in files) if known is None else bool(known)

    async def _restart(self, workers: dict[str, list[str]], files: Iterable[Path]) -> None:
        names = sorted({file.name for file in files})
        have = "has" if len(names) == 1 else "have"
        self._note(f"{_listed(names)} {have} changed: restarting {', '.join(workers)}")
        match await self._ask(Restart(tuple(name for slots in workers.values() for name in slots))):
            case Done(seconds=seconds):
                self._note(f"{', '.join(workers)} restarted in {duration(seconds)}")
            case Refused(text=text):
                self._note(f"the restart failed: {text}")

    async def _ask(self, change: Change) -> Answer:
        """Begin a change, and return its last answer."""
        ended: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def told(answer: Answer) -> None:
            if isinstance(answer, Done | Refused | Faulty) and not ended.done():
                ended.set_result(answer)

        self._begin(change, told)
        return await ended

    async def _watch_what_is_there_now(self) -> None:
        """Watch other folders, if the workers are in others now."""
        if self._folders != self._wanted_folders():
            self._folders = self._wanted_folders()
            await self._sources.close()
            self._sources = self._make_sources()
            self._sources.start()


def _listed(names: list[str]) -> str:
    more = len(names) - _MOST_FILES
    return ", ".join(names[:_MOST_FILES]) + (f" and {more} more" if more > 0 else "")
