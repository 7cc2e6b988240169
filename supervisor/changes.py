"""What is different between two configurations of one mesh, and what that asks for. Pure: two values in, one out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from ..shared.config.model import MeshConfig, WorkerConfig

# Keys of a worker that are the supervisor's own business: they count from its next decision on.
POLICY = frozenset(
    {
        "restart",
        "success",
        "significant",
        "backoff",
        "start_timeout",
        "stop_signal",
        "stop_timeout",
        "hang_timeout",
        "busy_timeout",
        "memory_soft",
        "max_memory",
        "health",
        "log",
        "depends_on",
        "replicas",
    }
)
# Keys that cannot change under a running supervisor: it found, locked and opened what they name when it started.
FIXED = {"mesh": ("name", "secret_file"), "supervisor": ("runtime_dir", "log_dir")}


@dataclass(frozen=True, slots=True)
class Changes:
    """What a reload does, by names of workers; ``adjusted`` names the changed keys of policy, ``refused`` why not."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    adjusted: dict[str, tuple[str, ...]] = field(default_factory=dict)
    rescaled: dict[str, tuple[int, int]] = field(default_factory=dict)
    supervisor: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return self == Changes()


def compare(old: MeshConfig, new: MeshConfig) -> Changes:
    """Return what leads from ``old`` to ``new``.

    A change in [mesh] concerns every worker with a class (it is part of what each is told at its start), and no
    command. A change in [supervisor] concerns no process, but for what cannot change at all.
    """
    before = {worker.name: worker for worker in old.workers}
    after = {worker.name: worker for worker in new.workers}
    mesh, supervisor = _different(old.mesh, new.mesh), _different(old.supervisor, new.supervisor)
    replaced, adjusted, rescaled = [], {}, {}
    for name, worker in after.items():
        if name not in before:
            continue
        keys = _different(before[name], worker)
        if set(keys) - POLICY or (mesh and worker.command is None):
            replaced.append(name)
        elif policy := tuple(key for key in keys if key != "replicas"):
            adjusted[name] = policy
        if "replicas" in keys:
            rescaled[name] = (before[name].replicas, worker.replicas)
    return Changes(
        added=tuple(name for name in after if name not in before),
        removed=tuple(name for name in before if name not in after),
        replaced=tuple(replaced),
        adjusted=adjusted,
        rescaled=rescaled,
        supervisor=supervisor,
        refused=(*_refused("mesh", mesh), *_refused("supervisor", supervisor)),
    )


def restored(now: MeshConfig, before: MeshConfig, replaced: Collection[str]) -> MeshConfig:
    """Return ``now`` with what the processes of the ``replaced`` workers are made of as it was ``before``."""
    old = {worker.name: worker for worker in before.workers}
    workers = tuple(
        replace(old[worker.name], **{key: getattr(worker, key) for key in POLICY})
        if worker.name in replaced
        else worker
        for worker in now.workers
    )
    return replace(now, mesh=before.mesh, workers=workers)


def keeping_scale(new: MeshConfig, now: MeshConfig, in_file: Mapping[str, int]) -> MeshConfig:
    """Return ``new`` with as many replicas as there are ``now`` of each worker whose number it does not change.

    ``in_file``: what the file said when the worker was scaled; of workers that were not scaled, nothing.
    """
    there = {worker.name: worker.replicas for worker in now.workers}
    workers = tuple(
        replace(worker, replicas=there[worker.name])
        if worker.name in there and in_file.get(worker.name) == worker.replicas
        else worker
        for worker in new.workers
    )
    return replace(new, workers=workers)


def _different(one: Any, other: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(one) if getattr(one, field.name) != getattr(other, field.name))


def _refused(section: str, keys: Iterable[str]) -> list[str]:
    return [f"{section}.{key} cannot change while the mesh runs" for key in keys if key in FIXED[section]]


def slot_name(worker: WorkerConfig, replica: int, *, single: bool) -> str:
    """Return the name of a replica's slot; ``single``: the worker began with one, whose slot has the plain name."""
    return worker.name if single and replica == 0 else f"{worker.name}-{replica}"
