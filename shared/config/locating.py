"""Where the running mesh of a file is to be found: what every command that talks to one needs to know first.

That takes two keys of the file, and the tables of all keys and their rules take several times as long to import as
those take to read. So what can be understood at a glance is; only if it cannot, the file is read as thoroughly as for
a run, and whatever is wrong with the two is told.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from .depth import line_of_deep_key
from .names import NAME

_LONGEST = 1024 * 1024


def locate(file: str | os.PathLike[str]) -> tuple[str, Path | None]:
    """Return the name of the mesh of ``file`` and its ``runtime_dir``, if it has one.

    Whatever else is wrong with the file does not matter.

    Raises:
        ConfigError: If the file cannot be read, or one of the two is wrong.
    """
    if (found := _at_a_glance(file)) is not None:
        return found
    from .loader import locate_thoroughly

    return locate_thoroughly(file)


def _at_a_glance(file: str | os.PathLike[str]) -> tuple[str, Path | None] | None:
    try:
        # Without O_NONBLOCK a named pipe would be waited for.
        with open(os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as stream:
            text = stream.read(_LONGEST).decode()
        if line_of_deep_key(text) is not None:
            return None
        root = tomllib.loads(text)
        name, supervisor = root["mesh"]["name"], root.get("supervisor", {})
        directory = supervisor.get("runtime_dir", "")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    if not isinstance(name, str) or not NAME.fullmatch(name):
        return None
    if "runtime_dir" not in supervisor:
        return name, None
    if not isinstance(directory, str) or not directory or "\0" in directory or directory.startswith("~"):
        return None
    return name, Path(os.path.normpath(Path(os.path.abspath(file)).parent / directory))
