"""What the machine was like when something went wrong on it: a hang looks different where nobody gets a core."""

from __future__ import annotations

import os

import psutil

from .incidents import Machine


def look() -> Machine | None:
    """Return what the machine is like now (in about 60 us); None if it does not say, as without descriptors."""
    try:
        memory = psutil.virtual_memory()
        return Machine(round(os.getloadavg()[0], 1), len(os.sched_getaffinity(0)), memory.available, memory.total)
    except (psutil.Error, OSError, RuntimeError):
        return None
