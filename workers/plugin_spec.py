"""Which plugins a host runs, and by which rules: what the application says, put together with what was found."""

from __future__ import annotations

import os
import re
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..shared.config import MeshConfig, build_config
from ..shared.errors import ConfigError, Fault
from .plugin_contract import Contract, VersionRange
from .plugin_finder import Found, find_by_entry_points, find_in_folder

HOST = "host"
"""The name of the application as a node of the mesh."""

_NOT_FOR_PLUGINS = ("class", "command", "replicas", "significant", "start_method", "user", "ready", "health")
_LIMIT = {"max_restarts": 5, "max_restarts_window": "10s"}


class PluginSpec:
    """What an application says of one plugin.

        PluginSpec("thumbnails:Thumbnails", interface=Thumbnailer, version=">=2, <3", max_memory="512MiB")

    Args:
        source: Its class, a ``Worker``, as ``module:Class``; None if it is found by its name (in a folder, or by an
            entry point).
        version: Which versions will do, such as ``>=2, <3``.
        interface: What it must offer: a class with ``@rpc`` methods, whose names, arguments and results count, or a
            list of names alone. With a class, results arrive as the types that its methods are annotated with.
        required: Whether a host is not entered without it.
        call_timeout: How long a call may take that says nothing else, in seconds; None: for ever.
        max_rate: How many messages and calls a second the host takes from it, each 16 KiB of one for another one.
            More than that in the long run, or twice that at once, and it is ended. Replies do not count.
        **options: Any further key of ``[workers.NAME]`` in mesh.toml, as it is written there (``max_memory="512MiB"``,
            ``hang_timeout="500ms"``, ``settings={...}``, ``limits={...}``, ``restart="never"``).
    """

    def __init__(
        self,
        source: str | None = None,
        *,
        version: str = "",
        interface: type | Sequence[str] = (),
        required: bool = False,
        call_timeout: float | None = 30.0,
        max_rate: float = 10_000.0,
        **options: Any,
    ) -> None:
        self.source = source
        self.version = version
        self.interface = interface
        self.required = required
        self.call_timeout = call_timeout
        self.max_rate = max_rate
        self.options = options


@dataclass(frozen=True, slots=True)
class Plan:
    """One plugin as it will run: what was said of it, what was found, and what it has to be."""

    name: str
    spec: PluginSpec
    found: Found
    contract: Contract = field(default_factory=Contract)


@dataclass(frozen=True, slots=True)
class Sources:
    """Where plugins come from: ``specs`` by name, and everything in ``folder`` and under ``group``, as ``default``."""

    specs: Mapping[str, PluginSpec | str]
    folder: Path | None = None
    group: str = ""
    default: PluginSpec = field(default_factory=PluginSpec)

    def plans(self) -> dict[str, Plan]:
        """Look at files and package metadata, as they are now, and return what there is to run, by name.

        Raises:
            ConfigError: If anything is wrong; ``.faults`` are all there are.
        """
        faults: list[Fault] = []
        found = self._found(faults)
        plans = [self._plan(name, found, faults) for name in {**found, **self.specs}]
        if faults:
            raise ConfigError("", faults)
        return {plan.name: plan for plan in plans if plan is not None}

    def plan(self, name: str) -> Plan:
        """Return what there is to run under one name. Raises as ``plans``, but for what is wrong with others."""
        faults: list[Fault] = []
        plan = self._plan(name, self._found(faults), faults)
        if plan is None:
            raise ConfigError("", faults)
        return plan

    def _found(self, faults: list[Fault]) -> dict[str, Found]:
        found: dict[str, Found] = {}
        if self.group:
            found |= find_by_entry_points(self.group, faults)
        if self.folder is not None:
            found |= find_in_folder(self.folder, faults)
        return found

    def _plan(self, name: str, found: Mapping[str, Found], faults: list[Fault]) -> Plan | None:
        spec = self.specs.get(name, self.default)
        return _plan(name, spec if isinstance(spec, PluginSpec) else PluginSpec(spec), found.get(name), faults)


def check_specs(plugins: object, default: object) -> None:
    """Raise ConfigError if that is not what a host takes: plugins by name, and how those run that are found."""
    faults = []
    if plugins is not None and not isinstance(plugins, Mapping):
        text = f"must be what is to run by its name, such as {{'thumbs': 'thumbnails:Thumbnails'}}, not {plugins!r}"
        faults.append(Fault(0, "plugins", text))
    for name, spec in plugins.items() if isinstance(plugins, Mapping) else ():
        if not isinstance(spec, PluginSpec | str):
            faults.append(
                Fault(0, f"plugins.{name}", f"must be a PluginSpec, or a class as 'module:Class', not {spec!r}")
            )
    if isinstance(default, PluginSpec):
        if default.source is not None:
            faults.append(Fault(0, "default.source", "must not be given: it is found, and another one for each plugin"))
    elif default is not None:
        faults.append(Fault(0, "default", f"must be a PluginSpec, not {default!r}"))
    if faults:
        raise ConfigError("", faults)


def configurer(name: str, **supervisor: Any) -> Callable[[Mapping[str, Plan]], MeshConfig]:
    """Return what makes the configuration of the mesh ``name`` for plugins; ``supervisor`` are keys of [supervisor].

    What it makes depends on the plugins alone from now on, so that a change of one is none of another. It raises
    ConfigError if options are wrong; ``.faults`` are all of them.
    """
    given = {key: value for key, value in supervisor.items() if value is not None}
    environment, folder = {"PYTHONPATH": os.pathsep.join(_import_path())}, Path.cwd()
    return lambda plans: _configure(plans, name, given, environment, folder)


def _configure(
    plans: Mapping[str, Plan], name: str, given: Mapping[str, Any], environment: Mapping[str, str], folder: Path
) -> MeshConfig:
    workers = {plan.name: _table(plan, environment) for plan in plans.values()}
    faults = [
        Fault(0, f"plugins.{plan.name}.{key}", "is not for plugins")
        for plan in plans.values()
        for key in _NOT_FOR_PLUGINS
        if key in plan.spec.options
    ]
    if HOST in plans:
        faults.append(Fault(0, f"plugins.{HOST}", "is the name of the application itself"))
    root = {"mesh": {"name": name}, "supervisor": {"on_limit": "park", "spares": 0, **_LIMIT, **given}}
    try:
        config = build_config(_plain(root | {"workers": workers}), folder)
    except ConfigError as error:
        raise ConfigError("", [*faults, *map(_of_plugins, error.faults)]) from None
    if faults:
        raise ConfigError("", faults)
    return replace(config, workers=tuple(replace(worker, sponsor=HOST) for worker in config.workers))


def _plan(name: str, spec: PluginSpec, found: Found | None, faults: list[Fault]) -> Plan | None:
    if spec.source is not None:
        found = Found(spec.source)
    timeout = spec.call_timeout
    if not _is_number(spec.max_rate) or spec.max_rate <= 0:
        faults.append(Fault(0, f"plugins.{name}.max_rate", f"must be a number above 0, not {spec.max_rate!r}"))
    if timeout is not None and (not _is_number(timeout) or timeout < 0):
        text = f"must be a number of seconds, 0 or more, or None, not {timeout!r}"
        faults.append(Fault(0, f"plugins.{name}.call_timeout", text))
    if found is None:
        text = "was not found, and has no source of its own (such as PluginSpec('module:Class'))"
        faults.append(Fault(0, f"plugins.{name}", text))
        return None
    versions = VersionRange("")
    try:
        versions = VersionRange(spec.version)
    except ValueError as error:
        faults.append(Fault(0, f"plugins.{name}.version", str(error)))
    try:
        return Plan(name, spec, found, Contract.of(versions, spec.interface))
    except TypeError as error:
        faults.append(Fault(0, f"plugins.{name}.interface", str(error)))
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def _table(plan: Plan, environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the plugin's table as in mesh.toml: always spawned, for a library adopts no forked processes."""
    options = {key: value for key, value in plan.spec.options.items() if key not in _NOT_FOR_PLUGINS}
    given = options.get("env", {})
    table = {**options, "class": plan.found.source, "start_method": "spawn"}
    table["env"] = {**environment, **given} if isinstance(given, Mapping) else given
    if plan.found.folder is not None:
        table.setdefault("cwd", plan.found.folder)
    return table


def _import_path() -> list[str]:
    """Return where else the application finds modules: a plugin named by its dotted path is to be found, too."""
    own = {os.path.realpath(place) for place in sysconfig.get_paths().values()}
    own |= {os.path.join(place, "lib-dynload") for place in own}
    archive = re.compile(r"python\d+\.zip")
    places = [os.path.abspath(place) for place in sys.path if not archive.search(place)]
    return [place for place in dict.fromkeys(places) if os.path.realpath(place) not in own]


def _plain(value: Any) -> Any:
    """Return ``value`` as ``tomllib`` would have it."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _of_plugins(fault: Fault) -> Fault:
    return replace(fault, path=re.sub(r"^workers\b", "plugins", fault.path))
