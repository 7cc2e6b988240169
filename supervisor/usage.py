"""What a process costs: its share of a core and its memory."""

from __future__ import annotations

import time

from . import procfs

_SHORTEST = 0.1


class Usage:
    """Measures one process, at most ten times a second; the CPU share is that since the last measurement.

    Whoever wants to know how a mesh is makes each of its slots measure, and many may want that at once. So it must take
    microseconds, as one read of /proc does, and not the forty of a library that looks at more.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._looked_at: float | None = None
        self._measured_at = 0.0  # from when on the next share counts
        self._cpu_time = 0.0
        self._cpu = 0.0
        self.rss = 0
        """Resident bytes, when last measured."""

    def measure(self, uptime: float) -> tuple[float, int]:
        """Return percent of one core and resident bytes.

        ``uptime`` is its age. Zeros: it is gone, or cannot be looked at.
        """
        now = time.monotonic()
        if self._looked_at is None:
            self._measured_at = now - uptime
        elif now - self._looked_at < _SHORTEST:
            return self._cpu, self.rss
        if (found := procfs.usage(self._pid)) is None:
            return 0.0, 0
        cpu_time, self.rss = found
        self._looked_at = now
        elapsed = now - self._measured_at
        if elapsed >= _SHORTEST:
            self._cpu = round(100 * (cpu_time - self._cpu_time) / elapsed, 1)
            self._measured_at, self._cpu_time = now, cpu_time
        return self._cpu, self.rss
