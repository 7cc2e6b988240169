"""What the machine was like when something went wrong on it: a hang looks different where nobody gets a core."""

from __future__ import annotations

import os

import msgspec
import psutil


class Machine(msgspec.Struct, frozen=True):
    """``load`` is that of the last minute, ``cores`` how many this process may use, ``free`` and ``memory`` bytes."""

    load: float
    cores: int
    free: int
    memory: int

    @property
    def is_short(self) -> bool:
        """Whether it had more to run than cores, twice over, or less than a tenth of its memory left."""
        return self.load > 2 * self.cores or self.free < self.memory / 10


def look() -> Machine | None:
    """Return what the machine is like now (in about 60 us); None if it does not say, as without descriptors."""
    try:
        memory = psutil.virtual_memory()
        return Machine(round(os.getloadavg()[0], 1), len(os.sched_getaffinity(0)), memory.available, memory.total)
    except (psutil.Error, OSError, RuntimeError):
        return None
