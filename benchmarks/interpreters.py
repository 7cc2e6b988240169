"""The second Python that some rows are measured on: 3.13 beside 3.11, and the other way round."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .disciplines import PYTHON

VARIABLE = "MESHVISOR_OTHER_PYTHON"
"""Names the interpreter of an environment with meshvisor in it."""

_ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class OtherPython:
    """An interpreter of ``version`` that has what we need; ``path`` is empty if there is none, and ``why`` says so."""

    version: str
    path: str
    why: str = ""


@functools.cache
def other_python() -> OtherPython:
    """Find it: where ``VARIABLE`` says, in ``.venv-VERSION`` of the checkout, or on the PATH."""
    version = "3.11" if PYTHON == "3.13" else "3.13"
    for path in _candidates(version):
        if _is_fit(path, version):
            return OtherPython(version, path)
    return OtherPython(version, "", f"no Python {version} with meshvisor at hand (name one by {VARIABLE})")


def _candidates(version: str) -> Iterator[str]:
    yield os.environ.get(VARIABLE, "")
    yield str(_ROOT / f".venv-{version}" / "bin" / "python")
    yield shutil.which(f"python{version}") or ""


def _is_fit(path: str, version: str) -> bool:
    if not path or not os.access(path, os.X_OK):
        return False
    says = "import sys, meshvisor, zmq; print('%d.%d' % sys.version_info[:2])"
    found = subprocess.run([path, "-c", says], capture_output=True, text=True, check=False)
    return found.returncode == 0 and found.stdout.strip() == version
