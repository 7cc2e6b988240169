"""Who a new incarnation is: what it is told about itself, and what the others are told about it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from ..shared.config.model import MeshSection, TransportName, WorkerConfig
from ..shared.config.report import Unfit
from ..shared.config.values import is_loopback, read_secret
from ..shared.control.lifeline import Assignment
from ..shared.core.roster import NodeRecord, NodeStatus
from ..shared.errors import SupervisorError
from .leftovers import VARIABLE, Mark

_STOP_MARGIN = 0.5


def run_secret(mesh: MeshSection) -> bytes:
    """Return what authenticates the links of one run of a mesh: what ``secret_file`` says now, else something new.

    Raises:
        SupervisorError: If there is a ``secret_file`` and it has become unfit since the configuration was read.
    """
    if mesh.secret_file is None:
        return secrets.token_bytes(32)
    try:
        return read_secret(mesh.secret_file)
    except Unfit as error:
        raise SupervisorError(f"mesh.secret_file: {error.message}") from None


@dataclass(frozen=True, slots=True)
class Identity:
    """One incarnation of one slot; ``incarnation`` and ``epoch`` are 0 before the first.

    ``socket_name`` is the file in the runtime directory on which it listens (over ``unix``).
    """

    mesh: MeshSection
    config: WorkerConfig
    slot: str
    replica: int
    incarnation: int = 0
    epoch: int = 0
    socket_name: str = ""

    def next(self, incarnation: int) -> Identity:
        """Return the identity of another incarnation of the slot, with an epoch of its own."""
        epoch = secrets.randbits(64) or 1
        socket_name = f"{self.slot}.{incarnation}.sock"
        return replace(self, incarnation=incarnation, epoch=epoch, socket_name=socket_name)

    @property
    def title(self) -> str:
        """How the process shows in ``ps``."""
        return f"{self.mesh.name}/{self.slot}"

    def environment(self, mark: Mark) -> dict[str, str]:
        """Return the environment of the process: ours, what is configured, and who it is."""
        identity = {"MESHVISOR_SLOT": self.slot, "MESHVISOR_INCARNATION": str(self.incarnation)}
        return environment_of(self.config, mark) | identity

    def assignment(
        self,
        directory: Path,
        secret: bytes,
        roster: tuple[NodeRecord, ...],
        descriptors: Iterable[str] = (),
        *,
        place: int = 0,
        is_candidate: bool = False,
    ) -> Assignment:
        """Return the first word over the lifeline of a worker, which comes with the named ``descriptors``.

        ``place`` is its place on the liveness board. A candidate only prepares itself.
        """
        config, mesh = self.config, self.mesh
        return Assignment(
            mesh=mesh.name,
            name=self.slot,
            group=config.name,
            replica=self.replica,
            incarnation=self.incarnation,
            epoch=self.epoch,
            class_path=config.class_path or "",
            path=str(config.cwd),
            settings=dict(config.settings),
            listen=(endpoint_of(mesh, directory, self.socket_name),),
            secret=secret,
            roster=roster,
            stop_signal=config.stop_signal,
            # A little less than the stop may take, so that a worker ends by itself before it is killed.
            drain_timeout=max(config.stop_timeout - _STOP_MARGIN, config.stop_timeout * 0.9),
            heartbeat_interval=link_heartbeat(mesh),
            heartbeat_timeout=mesh.heartbeat_timeout,
            blacklist_duration=mesh.blacklist_duration,
            nice=config.nice,
            umask=config.umask,
            limits=dict(config.limits),
            descriptors=tuple(descriptors),
            board_index=place,
            beat=mesh.beat,
            sponsor=config.sponsor or "",
            is_candidate=is_candidate,
        )

    def record(self, status: NodeStatus, endpoints: tuple[str, ...] = (), why: str = "") -> NodeRecord:
        """Return the incarnation's record in the roster."""
        return NodeRecord(
            self.slot, self.config.name, self.replica, self.incarnation, self.epoch, status, endpoints, why
        )


def link_heartbeat(mesh: MeshSection) -> float | None:
    """Return each how many seconds links are to ping; None within one machine, where the kernel tells of a death."""
    is_local = mesh.transport == TransportName.UNIX or is_loopback(mesh.host)
    return None if is_local else mesh.heartbeat_interval


def endpoint_of(mesh: MeshSection, directory: Path, socket_name: str) -> str:
    """Return where a process is to listen; ``socket_name`` is its file in ``directory``, over ``unix``."""
    if mesh.transport == TransportName.UNIX:
        return f"unix:{directory / socket_name}"
    host = f"[{mesh.host}]" if ":" in mesh.host and mesh.host[0] != "[" else mesh.host
    return f"tcp:{host}:0"


def environment_of(config: WorkerConfig, mark: Mark) -> dict[str, str]:
    """Return what all processes of a worker find in their environment."""
    unbuffered = {} if config.command else {"PYTHONUNBUFFERED": "1"}
    # Another user gets a home and a name of its own from the launcher, not ours.
    not_theirs = () if config.user is None else ("HOME", "USER", "LOGNAME")
    ours = {name: value for name, value in os.environ.items() if name not in not_theirs}
    return {**ours, **unbuffered, **config.env, VARIABLE: str(mark)}
