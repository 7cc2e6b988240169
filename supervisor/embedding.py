"""A mesh inside a program: what the program needs of a supervisor beside the mesh itself.

Several copies of one program may run at a time, so each embedded mesh is called ``NAME-PID-NUMBER``. What a copy that
was killed has left behind is removed when the next one starts.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path

from ..shared.config.model import MeshConfig
from ..shared.errors import SupervisorError
from .directory import RuntimeDirectory, base_directory, find_running
from .event import Event, how_it_ended
from .leftovers import kill_orphans, place_of
from .member import Member, Told
from .supervisor import Supervisor

_COPY = r"-\d+-\d+"
_numbers = count(1)


class Embedding:
    """A mesh of ``config`` in which this process is the node ``name``, and which nothing outlives."""

    def __init__(self, config: MeshConfig, name: str, told: Told) -> None:
        mesh = replace(config.mesh, name=f"{config.mesh.name}-{os.getpid()}-{next(_numbers)}")
        self._base = base_directory(config.supervisor.runtime_dir)
        self._family = config.mesh.name
        self._logs = self._base / f"{mesh.name}.logs" if config.supervisor.log_dir is None else None
        section = replace(config.supervisor, log_dir=self._logs or config.supervisor.log_dir)
        self.member = Member(name, told)
        self.supervisor = Supervisor(replace(config, mesh=mesh, supervisor=section), guard=True, member=self.member)

    def adapt(self, config: MeshConfig) -> MeshConfig:
        """Return ``config`` as it has to be for this mesh, to reload it."""
        running = self.supervisor.config
        return replace(config, mesh=running.mesh, supervisor=running.supervisor)

    async def start(self) -> None:
        """Begin to start the slots, and return; see ``Supervisor.start_all``."""
        await self._clear_leftovers()
        await self.supervisor.start_all()

    async def stop(self) -> None:
        """Stop everything, and leave nothing behind; at once, if that is cancelled."""
        self.supervisor.request_stop()
        try:
            await self.supervisor.wait()
        except BaseException:
            self.supervisor.request_kill()
            await self.supervisor.wait()
            raise
        finally:
            if self._logs is not None:
                shutil.rmtree(self._logs, ignore_errors=True)

    def how_it_ended(self, event: Event) -> str:
        """Return the end that ``event`` (``slot-exited``) tells of, in words that go on from the slot's name."""
        return how_it_ended(event)

    async def _clear_leftovers(self) -> None:
        for name in self._copies():
            with suppress(SupervisorError):  # somebody has it by now, or it is not ours
                if find_running(self._base, name) is None:
                    await kill_orphans(name, place_of(self._base / name))
                    RuntimeDirectory(self._base, name, Path()).close()
                    shutil.rmtree(self._base / f"{name}.logs", ignore_errors=True)

    def _copies(self) -> Sequence[str]:
        """Return the names of all copies of this mesh of which there is something."""
        with suppress(OSError):
            names = {entry.removesuffix(".logs") for entry in os.listdir(self._base)}
            return sorted(name for name in names if re.fullmatch(re.escape(self._family) + _COPY, name))
        return ()
