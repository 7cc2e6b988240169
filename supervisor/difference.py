"""What a reload would change, key by key, for the operator who asks before or is told after. Pure: two values in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from ..shared.config.model import MeshConfig, WorkerConfig
from ..shared.control.requests import Difference, KeyChange
from .changes import compare

# Keys that are written in another way than their fields are called, or whose None has a word of its own.
_WRITTEN = {"class_path": "class"}
_OFF = frozenset({"hang_timeout", "busy_timeout"})


def difference(old: MeshConfig, new: MeshConfig) -> Difference:
    """Return what leads from ``old`` to ``new``, as ``changes.compare`` has it, with the values of the keys."""
    changes = compare(old, new)
    before = {worker.name: worker for worker in old.workers}
    after = {worker.name: worker for worker in new.workers}
    mesh = tuple(_section("mesh", old.mesh, new.mesh))

    def keys(name: str) -> tuple[KeyChange, ...]:
        own = tuple(change for change in changed_keys(before[name], after[name]) if change.key != "replicas")
        return own if after[name].command is not None else (*mesh, *own)

    return Difference(
        file=str(new.file),
        added={name: after[name].slots for name in changes.added},
        removed={name: before[name].slots for name in changes.removed},
        replaced={name: keys(name) for name in changes.replaced},
        adjusted={name: keys(name) for name in changes.adjusted},
        rescaled=dict(changes.rescaled),
        supervisor=tuple(_section("supervisor", old.supervisor, new.supervisor)),
        refused=changes.refused,
    )


def changed_keys(old: WorkerConfig, new: WorkerConfig) -> Iterator[KeyChange]:
    """Yield the keys of a worker that have another value; of tables, those within them."""
    yield from _between("", _as_written(old), _as_written(new))


def _section(name: str, old: Any, new: Any) -> Iterable[KeyChange]:
    return _between(name, _as_written(old), _as_written(new))


def _between(path: str, old: Any, new: Any) -> Iterator[KeyChange]:
    if old == new:
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            yield from _between(f"{path}.{key}" if path else key, old.get(key), new.get(key))
    else:
        yield KeyChange(path, old, new)


def _as_written(value: Any) -> Any:
    """Return a value of the configuration as one of JSON's types, its keys as in the file."""
    if is_dataclass(value):
        table = {field.name: _field(field.name, getattr(value, field.name)) for field in fields(value)}
        return {_WRITTEN.get(name, name): one for name, one in table.items() if one is not None}
    if isinstance(value, Mapping):
        return {str(key): _as_written(one) for key, one in value.items()}
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, list | tuple):
        return [_as_written(one) for one in value]
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def _field(name: str, value: Any) -> Any:
    if name in _OFF and value is None:
        return "off"
    return str(value) if isinstance(value, Path) else _as_written(value)
