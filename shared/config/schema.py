"""The schema of ``mesh.toml``: every key, how it is read, and what it is when the file does not say.

This is data: the loader walks it, and so can whatever explains the format. Defaults are written as in the file.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import values
from .model import (
    Backoff,
    Health,
    LogFormat,
    LogOptions,
    OnLimit,
    Ready,
    RestartPolicy,
    StartMethod,
    StrategyName,
    TransportName,
)
from .report import Unfit, Where, closest
from .values import Parser, show

_READY_KINDS = ("tcp", "file", "fd", "log", "notify")
_HEALTH_KINDS = ("tcp", "http", "exec")

MAX_REPLICAS = 1000

REQUIRED = object()
"""Marks a key that a table must have."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key. ``default`` is as written in the file; None: the key is simply not there."""

    name: str
    parse: Parser[Any]
    default: Any
    text: str


Keys = tuple[Key, ...]


def read_table(keys: Keys, value: object, where: Where) -> dict[str, Any]:
    """Return what a table says, parsed, by key. What is unknown or unfit is reported and left out."""
    if not isinstance(value, dict):
        raise Unfit(f"must be a table, not {show(value)}")
    known = {key.name: key for key in keys}
    result = {}
    for name, item in value.items():
        place = where / name
        if name not in known:
            place.fault("unknown key", _elsewhere(name) or closest(name, known))
            continue
        try:
            result[name] = known[name].parse(item, place)
        except Unfit as error:
            place.fault(error.message, error.hint)
    for key in keys:
        if key.default is REQUIRED and key.name not in value:
            (where / key.name).fault("is missing")
    return result


def with_defaults(keys: Keys, given: Mapping[str, Any], where: Where) -> dict[str, Any]:
    """Return ``given`` with the defaults of the keys that are not in it."""
    defaults = {
        key.name: key.parse(key.default, where / key.name)
        for key in keys
        if key.default is not None and key.default is not REQUIRED and key.name not in given
    }
    return {**defaults, **given}


def _elsewhere(name: str) -> str | None:
    """Return where a key belongs that stands in the wrong table."""
    return next(
        (f"[{section}] {name}" for section, keys in SECTIONS.items() if any(key.name == name for key in keys)), None
    )


# Tables within a worker's table.


def _backoff(value: object, where: Where) -> Backoff:
    return Backoff(**read_table(BACKOFF, value, where))


def _table(keys: Callable[[], Keys], *, one_of: Iterable[str] = ()) -> Parser[dict[str, Any]]:
    """A table of ``keys``, of which exactly one of ``one_of`` must be there."""
    choice = tuple(one_of)

    def parse(value: object, where: Where) -> dict[str, Any]:
        result = read_table(keys(), value, where)
        if choice and isinstance(value, dict) and len(value.keys() & set(choice)) != 1:
            raise Unfit(f"must have exactly one of {', '.join(choice)}")
        return result

    return parse


def _limits(value: object, where: Where) -> dict[str, int]:
    names = {name.removeprefix("RLIMIT_").lower() for name in dir(resource) if name.startswith("RLIMIT_")}
    return values.limits(value, where, names)


def _ready(value: object, where: Where) -> Ready:
    return Ready(**_table(lambda: READY, one_of=_READY_KINDS)(value, where))


def _health(value: object, where: Where) -> Health:
    return Health(**_table(lambda: HEALTH, one_of=_HEALTH_KINDS)(value, where))


def _log(value: object, where: Where) -> LogOptions:
    return LogOptions(**read_table(LOG, value, where))


def _relative(value: object, where: Where) -> Path:
    """A path that is relative to the worker's ``cwd``, which is not known here."""
    return Path(values.text(value, where))


def _notify(value: object, where: Where) -> bool:
    if value is not True:
        raise Unfit(f"can only be true, not {show(value)}")
    return True


BACKOFF: Keys = (
    Key("initial", values.duration, "10ms", "The wait before the second restart in a row."),
    Key("max", values.duration, "30s", "The longest wait."),
    Key("factor", values.number(1, 1000), 2.0, "By what each wait is longer than the one before."),
    Key("jitter", values.number(0, 1), 1.0, "Which share of a wait is left to chance."),
    Key("reset_after", values.duration, "10s", "How long a slot must have been ready to start over at no wait."),
)

READY: Keys = (
    Key("tcp", values.host_and_port, None, "Ready when this address accepts connections."),
    Key("file", _relative, None, "Ready when this file is there."),
    Key("fd", values.integer(3, 255), None, "Ready when a line is written to this descriptor."),
    Key("log", values.text, None, "Ready when a line of output contains this."),
    Key("notify", _notify, None, "Ready when it says READY=1 as in sd_notify(3)."),
)

HEALTH: Keys = (
    Key("tcp", values.host_and_port, None, "Healthy while this address accepts connections."),
    Key("http", values.http_url, None, "Healthy while this URL answers with 2xx."),
    Key("exec", values.command, None, "Healthy while this command ends with 0."),
    Key("period", values.positive_duration, "5s", "How often to look."),
    Key("failures", values.integer(1, 1000), 3, "How many failures in a row are one too many."),
)

LOG: Keys = (
    Key("format", values.one_of(LogFormat), "text", "The format of the log file: text or json."),
    Key("max_size", values.size, "10MiB", "The size at which a log file is rotated."),
    Key("keep", values.integer(0, 1000), 5, "How many rotated files are kept."),
)

# The sections of the file.

MESH: Keys = (
    Key("name", values.name, REQUIRED, "The name of the mesh."),
    Key("transport", values.one_of(TransportName), "unix", "How workers reach each other: unix or tcp."),
    Key("host", values.host, "127.0.0.1", "Where workers listen with transport = tcp."),
    Key("beat", values.positive_duration, "25ms", "How often a late event loop is looked at."),
    Key("heartbeat_interval", values.positive_duration, "250ms", "How often an idle link between machines is probed."),
    Key("heartbeat_timeout", values.positive_duration, "2s", "After how long a silent link is given up."),
    Key("blacklist_duration", values.positive_duration, "10s", "How long an endpoint that failed is left alone."),
    Key("secret_file", values.secret_file, None, "A file with the secret that links are authenticated with."),
)

SUPERVISOR: Keys = (
    Key("strategy", values.one_of(StrategyName), "one_for_one", "Who else restarts when one slot's process ends."),
    Key("max_restarts", values.integer(0, 1_000_000), 5, "How many incidents within the window are accepted."),
    Key("max_restarts_window", values.positive_duration, "10s", "The window of max_restarts."),
    Key("on_limit", values.one_of(OnLimit), "stop", "What happens beyond that: stop the mesh, or park the slot."),
    Key("spares", values.integer(0, 64), 1, "How many spare processes wait to replace one that died."),
    Key("preload", values.list_of(values.module_name, "module names"), [], "Modules that every worker will need."),
    Key("runtime_dir", values.path, None, "Where sockets and the lock are, instead of the usual place."),
    Key("log_dir", values.path, None, "Where logs and incidents are, instead of .meshvisor beside the file."),
    Key("metrics", values.host_and_port, None, "Where metrics are served to Prometheus."),
)

WORKER: Keys = (
    Key("class", values.class_path, None, 'The worker, as "module:Class".'),
    Key("command", values.command, None, "Instead of a class: a program and its arguments."),
    Key("replicas", values.integer(0, MAX_REPLICAS), 1, "How many processes."),
    Key("restart", values.one_of(RestartPolicy), "always", "When a process that ended is started again."),
    Key("success", values.set_of(values.integer(0, 255), "exit statuses"), [0], "Exit statuses that count as success."),
    Key("significant", values.boolean, False, "The mesh ends when all significant slots have ended well."),
    Key("backoff", _backoff, {}, "How long a restart waits."),
    Key("start_timeout", values.positive_duration, "10s", "How long a process has to become ready."),
    Key("stop_signal", values.stop_signal, "SIGTERM", "The signal that asks a process to end."),
    Key("stop_timeout", values.duration, "5s", "How long it then has; after that it is killed with its group."),
    Key("depends_on", values.list_of(values.text, "workers"), [], "Workers that must be ready before this one starts."),
    Key("hang_timeout", values.duration_or_off, "1s", "How long its loop may stand still without computing."),
    Key("busy_timeout", values.duration_or_off, "30s", "How long its loop may compute without a turn."),
    Key("start_method", values.one_of(StartMethod), "zygote", "Where its process comes from: zygote or spawn."),
    Key("env", values.environment, {}, "Environment variables beside the supervisor's own."),
    Key("cwd", values.directory, ".", "Its working directory, also the first entry of sys.path."),
    Key("settings", values.settings, {}, "What the worker finds in self.settings."),
    Key("memory_soft", values.size, None, "The memory beyond which it is asked to restart."),
    Key("max_memory", values.size, None, "The memory beyond which it is killed."),
    Key("nice", values.integer(-20, 19), None, "Its nice value."),
    Key("umask", values.octal_mask, None, "Its umask."),
    Key("limits", _limits, {}, "Its resource limits."),
    Key("user", values.user, None, "The user that a command runs as."),
    Key("ready", _ready, None, "How a command shows that it is ready."),
    Key("health", _health, None, "How a command shows that it is well."),
    Key("log", _log, {}, "How its log is kept."),
)

SECTIONS: Mapping[str, Keys] = {"mesh": MESH, "supervisor": SUPERVISOR, "workers.NAME": WORKER}

CLASS_ONLY = ("settings", "hang_timeout", "busy_timeout", "start_method")
COMMAND_ONLY = ("user", "ready", "health")
