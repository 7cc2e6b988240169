"""The configuration of one mesh, as checked and frozen values.

These are what the rest of the package works with; the form of ``mesh.toml`` itself is the business of the parser.
All durations are float seconds, all sizes bytes, all paths absolute.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any


class TransportName(StrEnum):
    """How the nodes of a mesh reach each other."""

    UNIX = "unix"
    TCP = "tcp"


class StrategyName(StrEnum):
    """Who else restarts when one child ends (the strategies of OTP's ``supervisor``)."""

    ONE_FOR_ONE = "one_for_one"
    ONE_FOR_ALL = "one_for_all"
    REST_FOR_ONE = "rest_for_one"


class OnLimit(StrEnum):
    """What happens when the restart limit is exceeded."""

    STOP = "stop"
    PARK = "park"


class RestartPolicy(StrEnum):
    """When a child that ended by itself is started again (OTP: permanent, transient, temporary)."""

    ALWAYS = "always"
    ON_FAILURE = "on-failure"
    NEVER = "never"


class StartMethod(StrEnum):
    """Where a worker's process comes from."""

    ZYGOTE = "zygote"
    SPAWN = "spawn"


def slot_names(worker: str, replicas: int) -> tuple[str, ...]:
    """Return the names of a worker's slots: its own for one replica, else ``NAME-0``, ``NAME-1``..."""
    if replicas == 1:
        return (worker,)
    return tuple(f"{worker}-{number}" for number in range(replicas))


@dataclass(frozen=True, slots=True)
class MeshSection:
    """``[mesh]``: the mesh as a whole."""

    name: str
    transport: TransportName = TransportName.UNIX
    host: str = "127.0.0.1"
    beat: float = 0.025
    heartbeat_interval: float = 0.25
    heartbeat_timeout: float = 2.0
    blacklist_duration: float = 10.0
    secret_file: Path | None = None


@dataclass(frozen=True, slots=True)
class SupervisorSection:
    """``[supervisor]``: how the children are supervised together."""

    strategy: StrategyName = StrategyName.ONE_FOR_ONE
    max_restarts: int = 5
    max_restarts_window: float = 10.0
    on_limit: OnLimit = OnLimit.STOP
    spares: int = 0
    preload: tuple[str, ...] = ()
    runtime_dir: Path | None = None
    log_dir: Path | None = None
    metrics: str | None = None


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long the n-th restart in a row waits: ``d - jitter*d*U(0,1)``, ``d = min(max, initial * factor**(n-2))``.

    The first restart after ``reset_after`` seconds of being ready is immediate.
    """

    initial: float = 0.01
    max: float = 30.0
    factor: float = 2.0
    jitter: float = 1.0
    reset_after: float = 10.0


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """``[workers.NAME]``: one worker class or command, in one or more replicas.

    Exactly one of ``class_path`` (``"module:Class"``) and ``command`` is set. ``cwd`` is absolute.
    """

    name: str
    cwd: Path
    class_path: str | None = None
    command: tuple[str, ...] | None = None
    replicas: int = 1
    restart: RestartPolicy = RestartPolicy.ALWAYS
    success: frozenset[int] = frozenset({0})
    significant: bool = False
    backoff: Backoff = field(default_factory=Backoff)
    start_timeout: float = 10.0
    stop_signal: str = "SIGTERM"
    stop_timeout: float = 5.0
    depends_on: tuple[str, ...] = ()
    hang_timeout: float | None = 1.0
    busy_timeout: float | None = 30.0
    start_method: StartMethod = StartMethod.SPAWN
    env: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def slots(self) -> tuple[str, ...]:
        """The names of its slots, by number."""
        return slot_names(self.name, self.replicas)


@dataclass(frozen=True, slots=True)
class MeshConfig:
    """A whole, checked ``mesh.toml``. ``file`` is where it came from; ``workers`` keep the file's order."""

    file: Path
    mesh: MeshSection
    supervisor: SupervisorSection
    workers: tuple[WorkerConfig, ...]

    @property
    def log_dir(self) -> Path:
        """Where logs and incidents live: as configured, else ``.meshvisor`` beside the file."""
        return self.supervisor.log_dir or self.file.parent / ".meshvisor"
