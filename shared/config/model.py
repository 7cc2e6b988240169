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

DEFAULT_HANG_TIMEOUT = 1.0


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
    spares: int = 1
    preload: tuple[str, ...] = ()
    runtime_dir: Path | None = None
    log_dir: Path | None = None
    metrics: str | None = None


def log_directory(file: Path, supervisor: SupervisorSection) -> Path:
    """Return where the logs and incidents of the mesh of ``file`` live."""
    return supervisor.log_dir or file.parent / ".meshvisor"


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
class Ready:
    """How a command shows that it is ready; exactly one of these is set.

    ``tcp`` (``HOST:PORT``) accepts connections; ``file`` is there (it is removed before each start); a line was
    written to descriptor ``fd``; a line of output contains ``log``; ``notify``: it said READY=1 as in sd_notify(3).
    """

    tcp: str | None = None
    file: Path | None = None
    fd: int | None = None
    log: str | None = None
    notify: bool = False


@dataclass(frozen=True, slots=True)
class Health:
    """How a command shows that it is well, each ``period`` seconds; exactly one of the first three is set.

    ``tcp`` (``HOST:PORT``) accepts connections; ``http`` (a URL) answers with 2xx; ``exec`` ends with 0. ``failures``
    in a row are one too many.
    """

    tcp: str | None = None
    http: str | None = None
    exec: tuple[str, ...] | None = None
    period: float = 5.0
    failures: int = 3


class LogFormat(StrEnum):
    """What a line of a log file looks like."""

    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class LogOptions:
    """How the log of a slot is kept: a file of ``max_size`` bytes at most, and the ``keep`` files before it."""

    format: LogFormat = LogFormat.TEXT
    max_size: int = 10 * 1024 * 1024
    keep: int = 5


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """``[workers.NAME]``: one worker class or command, in one or more replicas.

    Exactly one of ``class_path`` (``"module:Class"``) and ``command`` is set. ``cwd`` is absolute. ``limits`` are by
    name without ``RLIMIT_``, in lower case; -1 is unlimited. None: as the supervisor has it, or not at all.

    ``sponsor`` is no key of the file: the node that is asked whether this worker is what it should be, before its
    ``on_start`` (a ``PluginHost``, of its plugins).
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
    hang_timeout: float | None = DEFAULT_HANG_TIMEOUT
    busy_timeout: float | None = 30.0
    start_method: StartMethod = StartMethod.ZYGOTE
    env: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    memory_soft: int | None = None
    max_memory: int | None = None
    nice: int | None = None
    umask: int | None = None
    limits: Mapping[str, int] = field(default_factory=dict)
    user: str | None = None
    ready: Ready | None = None
    health: Health | None = None
    log: LogOptions = LogOptions()
    sponsor: str | None = None

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
        return log_directory(self.file, self.supervisor)
