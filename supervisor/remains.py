"""Where the logs and incidents of a mesh are, whether it runs or not."""

from __future__ import annotations

from pathlib import Path

from ..shared.config import locate_logs
from .directory import NotRunning, running_file


def remains_of(base: Path, name: str, file: Path | None) -> tuple[Path, tuple[str, ...]]:
    """Return the ``log_dir`` of the mesh called ``name`` and its slots, as its file has them.

    Raises:
        NotRunning: If there is no file and the mesh does not run.
        ConfigError: If the file is not usable.
    """
    if file is None and (file := running_file(base, name)) is None:
        raise NotRunning(name)
    return locate_logs(file)
