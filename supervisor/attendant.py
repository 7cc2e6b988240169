"""Who looks after one incarnation of a slot, beside its process: when it is ready, whether it is well, what it uses.

A new one is made for each start, before the process; its owner tells it what happens to the process, and hears from
it through three callbacks: ``became_ready()``, ``condemned(cause, why)`` (the process is to be killed and replaced),
``retired(why)`` (it is to be asked to end, and replaced).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..shared.config.model import WorkerConfig
from .confinement import Confinement
from .health import HealthCheck, check_of
from .memory import MemoryLimit, MemoryWatch
from .notifications import NotifySocket
from .readiness import Readiness, readiness_of
from .snapshot import ExitCause
from .status import memory as size_text


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Who hears from an attendant."""

    became_ready: Callable[[], None]
    condemned: Callable[[ExitCause, str], None]
    retired: Callable[[str], None]


class Attendant:
    """Looks after one incarnation. ``notify_file`` is where a socket for its notifications may be.

    Raises:
        OSError: If what its readiness takes cannot be had; nothing is left of it then.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        config: WorkerConfig,
        environment: Mapping[str, str],
        notify_file: Path,
        memory: MemoryWatch,
        verdicts: Verdicts,
    ) -> None:
        self._config = config
        self._memory = memory
        self._verdicts = verdicts
        self._environment = environment
        self._loop = loop
        self._pid = 0
        self._is_ready = self._is_over = False
        self._unwatch: Callable[[], None] = _nothing
        self._readiness: Readiness | None = None
        self.rss = 0
        """Bytes of memory that were too many; 0: they were never."""
        self.checks: set[int] = set()
        """The processes that are looking after it at this moment."""
        if config.command is not None:
            open_socket = partial(NotifySocket, notify_file, config.user)
            self._readiness = readiness_of(config.ready, loop, verdicts.became_ready, open_socket, self._end_of_health)
        self.environment = {**environment, **(self._readiness.environment if self._readiness else {})}
        self._health = self._new_health()

    @property
    def descriptor(self) -> tuple[int, int] | None:
        """A descriptor that the process must inherit, and under which number."""
        return self._readiness.descriptor if self._readiness else None

    @property
    def complaint(self) -> str:
        """Why the process is not ready, as far as one can tell."""
        if self._readiness is None or not self._readiness.waits_for:
            return ""
        status = f'; it says: "{self._readiness.status}"' if self._readiness.status else ""
        return f"waited for {self._readiness.waits_for}{status}"

    def begin(self, pid: int) -> None:
        """The process is there."""
        if self._readiness is not None:
            self._readiness.begin(pid)
        self._pid = pid
        self._watch_memory()

    def executed(self) -> None:
        """The process has become the command."""
        if self._readiness is not None:
            self._readiness.executed()

    def printed(self, line: str) -> None:
        """It has printed a line."""
        if self._readiness is not None:
            self._readiness.printed(line)

    def ready(self) -> None:
        """It is ready: from now on it is to be well, and may be asked to make room."""
        self._is_ready = True
        self._watch_memory()
        if self._health is not None:
            self._health.start()

    def reconfigure(self, config: WorkerConfig) -> None:
        """Judge by other limits and another health check from now on; readiness stays what it was."""
        is_other_process = (config.class_path, config.command) != (self._config.class_path, self._config.command)
        if self._is_over or not self._pid or is_other_process:  # it is about to be replaced: that is for the next one
            return
        is_other_health = config.health != self._config.health
        self._config = config
        self._watch_memory()
        if is_other_health:
            self._end_of_health()
            self._health = self._new_health()
            if self._is_ready and self._health is not None:
                self._health.start()

    def stopping(self) -> None:
        """It is to end: nothing is judged any more."""
        self._is_over = True
        self._end_of_health()
        self._unwatch()

    def ended(self) -> None:
        """It has ended, or could not be started: release everything."""
        self.stopping()
        if self._readiness is not None:
            self._readiness.cancel()

    def _new_health(self) -> HealthCheck | None:
        config = self._config
        if config.health is None:
            return None
        condemn = partial(self._verdicts.condemned, ExitCause.HUNG)
        check = check_of(config.health, config.cwd, self._environment, Confinement.of(config), self.checks)
        return HealthCheck(self._loop, config.health, check, condemn)

    def _watch_memory(self) -> None:
        """Watch for the limits: only who is ready is asked to make room, whoever is too large is killed."""
        self._unwatch()
        soft = self._config.memory_soft if self._is_ready else None
        self._unwatch = self._memory.watch(self._pid, soft, self._config.max_memory, self._exceeded)

    def _end_of_health(self) -> None:
        if self._health is not None:
            self._health.cancel()

    def _exceeded(self, limit: MemoryLimit, size: int) -> None:
        self.rss = size
        most = self._config.max_memory if limit is MemoryLimit.HARD else self._config.memory_soft
        why = f"it used {size_text(size)} of memory, more than its {limit} of {size_text(most or 0)}"
        if limit is MemoryLimit.HARD:
            self._verdicts.condemned(ExitCause.MEMORY, why)
        else:
            self._verdicts.retired(why)
