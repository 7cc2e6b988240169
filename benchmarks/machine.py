"""What a run was made on."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from .interpreters import other_python

_PACKAGES = (
    "pyzmq",
    "uvloop",
    "msgspec",
    "gunicorn",
    "circus",
    "supervisor",
    "grpcio",
    "lmdb",
    "redis",
    "xoscar",
    "ray",
)
_ROOT = Path(__file__).resolve().parents[1]


def facts() -> dict[str, Any]:
    """Return them, for JSON and for the report."""
    other = other_python()
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory": round(psutil.virtual_memory().total / 1e9),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "other_python": other.version if other.path else other.why,
        "packages": _packages(),
        "commit": _commit(),
        "load": os.getloadavg()[0],
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.machine()


def _packages() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _commit() -> str:
    said = subprocess.run(
        ["git", "-C", str(_ROOT), "describe", "--always", "--dirty", "--exclude", "*"],
        capture_output=True,
        text=True,
        check=False,
    )
    return said.stdout.strip() or "unknown"
