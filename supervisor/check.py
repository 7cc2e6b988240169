"""``supervise check``: everything that can be known about a mesh.toml without starting it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ..shared.config import MeshConfig, WorkerConfig, load_config
from ..shared.config.loader import key_line
from ..shared.errors import ConfigError, Fault
from .spawn import interpreter

TIMEOUT = 60.0
"""How long the import of one worker's module may take, in seconds."""
_LOOKUP = Path(__file__).with_name("lookup.py")
_LARGEST_VERDICT = 65_536


def check(file: str) -> tuple[MeshConfig, list[Fault]]:
    """Check ``file`` and return its configuration and what is doubtful about it: commands that are not there.

    Raises:
        ConfigError: With all faults of the file; if it has none, with those of its classes.
    """
    config = load_config(file)
    faults = [fault for worker in config.workers if (fault := _class_fault(config, worker))]
    if faults:
        raise ConfigError(file, faults)
    return config, [warning for worker in config.workers for warning in _missing_programs(config, worker)]


def _class_fault(config: MeshConfig, worker: WorkerConfig) -> Fault | None:
    if worker.class_path is None:
        return None
    error, hint = _look_up(worker.class_path, worker)
    return _fault(config, worker, "class", error, hint) if error else None


def _fault(config: MeshConfig, worker: WorkerConfig, key: str, message: str, hint: str | None = None) -> Fault:
    line = key_line(config.file, ("workers", worker.name, key))
    return Fault(line, f"workers.{worker.name}.{key}", message, hint)


def _look_up(class_path: str, worker: WorkerConfig) -> tuple[str | None, str | None]:
    """Return what is wrong with a class, and what may have been meant."""
    receiver, sender = os.pipe()
    with open(receiver, "rb", closefd=True) as verdict:
        try:
            process = subprocess.Popen(
                [interpreter(), str(_LOOKUP), class_path, str(sender)],
                cwd=worker.cwd,
                env={**os.environ, **worker.env},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[sender],
                start_new_session=True,
            )
        except OSError as error:
            return f"cannot be looked up: {error.strerror}", None
        finally:
            os.close(sender)
        try:
            status = process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            return f"its import takes more than {TIMEOUT:g} s", None
        finally:
            _end(process)
        os.set_blocking(receiver, False)
        return _parse(verdict.read(_LARGEST_VERDICT), status)


def _parse(data: bytes | None, status: int) -> tuple[str | None, str | None]:
    try:
        verdict = json.loads(data or b"")
        return verdict["error"], verdict["hint"]
    except (ValueError, KeyError, TypeError):
        how = f"killed its process by {signal.Signals(-status).name}" if status < 0 else f"ended its process ({status})"
        return f"its import {how}", None


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill whatever the import has started; the process itself, too, if it is still there."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _missing_programs(config: MeshConfig, worker: WorkerConfig) -> Iterator[Fault]:
    health = worker.health.exec if worker.health is not None else None
    for key, command in (("command", worker.command), ("health", health)):
        if command and not _is_program(command[0], worker):
            yield _fault(config, worker, key, f'warning: there is no program "{command[0]}"')


def _is_program(program: str, worker: WorkerConfig) -> bool:
    if os.sep in program:
        return os.access(worker.cwd / program, os.X_OK)
    return shutil.which(program, path={**os.environ, **worker.env}.get("PATH")) is not None
