"""From a file to a checked configuration, or to everything that is wrong with it."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import ConfigError, Fault
from . import rules
from .depth import MAX_DEPTH, line_of_deep_key
from .lines import KeyPath, LineIndex
from .model import (
    MeshConfig,
    MeshSection,
    RestartPolicy,
    SupervisorSection,
    WorkerConfig,
    log_directory,
    slot_names,
)
from .report import Report, Unfit, Where, closest
from .rules import WorkerTable
from .schema import MAX_REPLICAS, MESH, SUPERVISOR, WORKER, Key, Keys, read_table, with_defaults
from .values import show

MAX_FILE = 1024 * 1024
"""The largest file that is read, in bytes."""

_TOML_POSITION = re.compile(r"\s*\(at (?:line (\d+), column \d+|end of document)\)$")
MAX_WORKERS = 1000
"""The most tables [workers.NAME] in a file; a mesh has no more slots than about as many."""

_SECTIONS = ("mesh", "supervisor", "workers")


def load_config(file: str | os.PathLike[str]) -> MeshConfig:
    """Read and check ``file`` (a ``mesh.toml``).

    Raises:
        ConfigError: If anything is wrong with it; ``.faults`` are all of its faults.
    """
    document = _read(file)
    config = _build(document)
    if config is None or document.report.faults:
        raise ConfigError(os.fspath(file), document.report.faults)
    return config


def build_config(root: Mapping[str, Any], folder: Path) -> MeshConfig:
    """Check a configuration that a program has made: what ``tomllib`` would return for a file in ``folder``.

    It may be without workers.

    Raises:
        ConfigError: If anything is wrong with it; ``.faults`` are all of its faults, on no line.
    """
    report = Report(LineIndex(""))
    document = _Document(folder / "mesh.toml", dict(root), Where(report, folder), report)
    config = _build(document, may_be_empty=True)
    if config is None or report.faults:
        raise ConfigError("", [replace(fault, line=0) for fault in report.faults])
    return config


def locate_thoroughly(file: str | os.PathLike[str]) -> tuple[str, Path | None]:
    """Do what ``locating.locate`` does, and say what is wrong if that cannot be done.

    Raises:
        ConfigError: If the file cannot be read, or one of the two is wrong.
    """
    document = _read(file)
    mesh = _section(document, "mesh", _only(MESH, "name"), strict=False)
    supervisor = _section(document, "supervisor", _only(SUPERVISOR, "runtime_dir"), strict=False)
    if document.report.faults:
        raise ConfigError(os.fspath(file), document.report.faults)
    return mesh["name"], supervisor.get("runtime_dir")


def locate_logs(file: str | os.PathLike[str]) -> tuple[Path, tuple[str, ...]]:
    """Return where the logs and incidents of ``file`` are, and the names of its slots as far as they can be known.

    Whatever else is wrong with the file does not matter.

    Raises:
        ConfigError: If the file cannot be read, or its ``log_dir`` is wrong.
    """
    document = _read(file)
    supervisor = _section(document, "supervisor", _only(SUPERVISOR, "log_dir"), strict=False)
    if document.report.faults:
        raise ConfigError(os.fspath(file), document.report.faults)
    section = SupervisorSection(**supervisor)
    workers = document.root.get("workers")
    slots: list[str] = []
    for name, table in workers.items() if isinstance(workers, dict) else ():
        replicas = table.get("replicas", 1) if isinstance(table, dict) else 1
        slots += slot_names(name, replicas if isinstance(replicas, int) and 0 <= replicas <= MAX_REPLICAS else 1)
    return log_directory(document.file, section), tuple(slots)


def key_line(file: str | os.PathLike[str], path: KeyPath) -> int:
    """Return the line of a key of ``file``, for faults that are found later.

    Raises:
        ConfigError: If the file cannot be read (any more).
    """
    return _read(file).report.line(path)


@dataclass(frozen=True, slots=True)
class _Document:
    file: Path
    root: dict[str, Any]
    where: Where
    report: Report


# Reading.


def _read(file: str | os.PathLike[str]) -> _Document:
    text = _read_text(file)
    if (line := line_of_deep_key(text)) is not None:
        raise ConfigError(os.fspath(file), [Fault(line, "", f"a key has more than {MAX_DEPTH} parts")])
    try:
        root = tomllib.loads(text)
        report = Report(LineIndex(text))
    except RecursionError:
        raise ConfigError(os.fspath(file), [Fault(1, "", "is nested too deeply")]) from None
    except ValueError as error:
        raise ConfigError(os.fspath(file), [_syntax_fault(str(error), text)]) from None
    absolute = Path(os.path.abspath(file))
    return _Document(absolute, root, Where(report, absolute.parent), report)


def _read_text(file: str | os.PathLike[str]) -> str:
    try:
        data = _read_bytes(file)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(os.fspath(file), [Fault(0, "", f"cannot be read: {reason}")]) from None
    if len(data) > MAX_FILE:
        raise ConfigError(os.fspath(file), [Fault(0, "", f"is larger than {MAX_FILE // 1024} KiB")])
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(os.fspath(file), [Fault(line, "", "is not UTF-8")]) from None


def _read_bytes(file: str | os.PathLike[str]) -> bytes:
    # Without O_NONBLOCK a named pipe would be waited for.
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("not a regular file")
        return stream.read(MAX_FILE + 1)


def _syntax_fault(message: str, text: str) -> Fault:
    line = text.count("\n") + (not text.endswith("\n"))
    if position := _TOML_POSITION.search(message):
        line = int(position[1] or line)
        message = message[: position.start()]
    return Fault(max(line, 1), "", f"is not valid TOML: {message[:1].lower()}{message[1:]}")


# Building. Everything is looked at even if something is already known to be wrong: one report holds all faults.


def _build(document: _Document, *, may_be_empty: bool = False) -> MeshConfig | None:
    for name in document.root.keys() - set(_SECTIONS):
        what = "table" if isinstance(document.root[name], dict | list) else "key"
        (document.where / name).fault(f"unknown {what}", closest(name, _SECTIONS))
    mesh = _section(document, "mesh", MESH)
    rules.check_mesh(mesh, _keys(document.root.get("mesh")), document.where / "mesh")
    supervisor = _section(document, "supervisor", SUPERVISOR)
    tables = _worker_tables(document)
    if not document.root.get("workers") and not may_be_empty:
        (document.where / "workers").fault("there are no workers; add a table [workers.NAME] with a class or a command")
    for table in tables:
        rules.check_worker(table)
    rules.check_slots(tables)
    rules.check_beats(mesh.get("beat", 0.0), tables, document.where / "mesh" / "beat")
    rules.check_dependencies(tables)
    if document.report.faults:
        return None
    workers = tuple(_worker(table) for table in tables)
    return MeshConfig(document.file, MeshSection(**mesh), SupervisorSection(**supervisor), workers)


def _section(document: _Document, name: str, keys: Keys, *, strict: bool = True) -> dict[str, Any]:
    """Return a section with its defaults; not ``strict``: keys that are not in ``keys`` do not matter."""
    where = document.where / name
    table = document.root.get(name, {})
    if not strict and isinstance(table, dict):
        table = {key.name: table[key.name] for key in keys if key.name in table}
    try:
        given = read_table(keys, table, where)
    except Unfit as error:
        where.fault(error.message, error.hint)
        given = {}
    return with_defaults(keys, given, where)


def _worker_tables(document: _Document) -> list[WorkerTable]:
    where = document.where / "workers"
    workers = document.root.get("workers", {})
    if not isinstance(workers, dict):
        where.fault(f"must be a table with one table [workers.NAME] for each worker, not {show(workers)}")
        return []
    if len(workers) > MAX_WORKERS:
        where.fault(f"must have {MAX_WORKERS} tables at most, not {len(workers)}; replicas are no workers of their own")
        return []
    tables = []
    for name, table in workers.items():
        try:
            given = read_table(WORKER, table, where / name)
        except Unfit as error:
            (where / name).fault(error.message, error.hint)
        else:
            tables.append(WorkerTable(name, where / name, _keys(table), given))
    return tables


def _worker(table: WorkerTable) -> WorkerConfig:
    fields = with_defaults(WORKER, table.given, table.where)
    fields["class_path"] = fields.pop("class", None)
    if fields["significant"] and "restart" not in table.given:
        fields["restart"] = RestartPolicy.ON_FAILURE
    ready = fields.get("ready")
    if ready is not None and ready.file is not None:
        fields["ready"] = replace(ready, file=fields["cwd"] / ready.file)
    return WorkerConfig(name=table.name, **fields)


def _keys(table: object) -> frozenset[str]:
    return frozenset(table) if isinstance(table, dict) else frozenset()


def _only(keys: Keys, *names: str) -> tuple[Key, ...]:
    return tuple(key for key in keys if key.name in names)
