"""Finding plugins without importing any: by the metadata of installed packages, and by looking at files.

An installed package declares its plugins as entry points::

    [project.entry-points."meshvisor.plugins"]
    thumbs = "thumbnails:Thumbnails"

In a folder, each plugin is one of:

- a folder with a ``plugin.toml``: ``class = "module:Class"``, and if need be ``name`` (else the folder's) and
  ``version``; modules are looked for in that folder;
- a module ``NAME.py`` or a package ``NAME/`` in which exactly one class is derived from ``Worker`` by that name
  (``class Thumbs(Worker)``), with a line ``version = "2.1"`` in it or not.

What begins with an underscore or a dot is left alone.
"""

from __future__ import annotations

import ast
import os
import tomllib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from importlib.util import cache_from_source
from pathlib import Path

from ..shared.errors import Fault

GROUP = "meshvisor.plugins"
"""The group of the entry points of plugins."""

_MANIFEST = "plugin.toml"
_KEYS = ("name", "class", "version")
_LARGEST = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Found:
    """A plugin's class, and as far as known where it is imported from, and under which version it goes."""

    source: str
    folder: Path | None = None
    version: str = ""


def find_by_entry_points(group: str, faults: list[Fault]) -> dict[str, Found]:
    """Return the plugins of all installed packages, by name."""
    found: dict[str, Found] = {}
    for point in metadata.entry_points(group=group):
        if point.name in found and found[point.name].source != point.value:
            text = f"is declared by two packages, as {found[point.name].source} and as {point.value}"
            faults.append(Fault(0, f"plugins.{point.name}", text))
        source = point.value.partition("[")[0].replace(" ", "")
        found[point.name] = Found(source, version=point.dist.version if point.dist is not None else "")
    return found


def find_in_folder(folder: Path, faults: list[Fault]) -> dict[str, Found]:
    """Return the plugins in a folder, by name. What cannot be one is a fault."""
    folder = folder.absolute()
    found: dict[str, Found] = {}
    try:
        entries = sorted(entry for entry in folder.iterdir() if entry.name[0] not in "._")
    except OSError as error:
        faults.append(Fault(0, "folder", f"{folder} cannot be read: {error.strerror}"))
        return found
    for entry in entries:
        try:
            name, plugin = _look_at(entry)
        except _NoPlugin:
            continue
        except (OSError, ValueError, SyntaxError, RecursionError) as error:
            faults.append(Fault(0, "folder", f"{entry}: {getattr(error, 'strerror', None) or error}"))
            continue
        if name in found:
            faults.append(Fault(0, "folder", f"{entry}: there is another plugin {name!r}"))
        found[name] = plugin
    return found


def forget_old_code(found: Found, places: Iterable[Path]) -> None:
    """Remove the bytecode of a plugin that is older than its source; ``places`` are where modules are looked for.

    Python takes bytecode for new if its source has the size and, in whole seconds, the time that it was made from. A
    change of a plugin soon after its start would go unnoticed.
    """
    top = found.source.partition(":")[0].partition(".")[0]
    files = [file for place in places for file in (place / f"{top}.py", *(place / top).glob("**/*.py"))]
    if found.folder is not None:
        files += found.folder.glob("*.py")
    for file in files:
        code = Path(cache_from_source(os.fspath(file)))
        with suppress(OSError):
            if code.stat().st_mtime_ns < file.stat().st_mtime_ns:
                code.unlink()


class _NoPlugin(Exception):
    """Not everything in a folder is a plugin, or means to be one."""


def _look_at(entry: Path) -> tuple[str, Found]:
    if (entry / _MANIFEST).is_file():
        return _by_manifest(entry)
    if entry.suffix == ".py" and entry.is_file():
        return entry.stem, _by_class(entry, entry.stem)
    if (entry / "__init__.py").is_file():
        return entry.name, _by_class(entry / "__init__.py", entry.name)
    raise _NoPlugin


def _by_manifest(folder: Path) -> tuple[str, Found]:
    manifest = tomllib.loads(_read(folder / _MANIFEST))
    for key, value in manifest.items():
        if key not in _KEYS or not isinstance(value, str):
            raise ValueError(f"{_MANIFEST}: {key}: " + ("must be a string" if key in _KEYS else "unknown key"))
    if "class" not in manifest:
        raise ValueError(f"{_MANIFEST}: class: is missing")
    return manifest.get("name", folder.name), Found(manifest["class"], folder, manifest.get("version", ""))


def _by_class(file: Path, module: str) -> Found:
    classes = [node for node in ast.parse(_read(file)).body if isinstance(node, ast.ClassDef) and _is_worker(node)]
    if not classes:
        raise _NoPlugin
    if len(classes) > 1:
        names = ", ".join(node.name for node in classes)
        raise ValueError(f"holds more than one plugin ({names}); say in a {_MANIFEST} which one is meant")
    folder = file.parent.parent if file.name == "__init__.py" else file.parent
    return Found(f"{module}:{classes[0].name}", folder, _version(classes[0]))


def _is_worker(node: ast.ClassDef) -> bool:
    return any(ast.unparse(base) in ("Worker", "meshvisor.Worker") for base in node.bases)


def _version(node: ast.ClassDef) -> str:
    for statement in node.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id="version")], value=ast.Constant(value=str(text))):
                return text
            case ast.AnnAssign(target=ast.Name(id="version"), value=ast.Constant(value=str(text))):
                return text
    return ""


def _read(file: Path) -> str:
    with open(file, encoding="utf-8") as stream:
        text = stream.read(_LARGEST + 1)
    if len(text) > _LARGEST:
        raise ValueError(f"is larger than {_LARGEST // 1024} KiB")
    return text
