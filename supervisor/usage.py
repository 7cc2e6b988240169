"""What a process costs: its share of a core and its memory."""

from __future__ import annotations

import time

import psutil

_SHORTEST = 0.1


class Usage:
    """Measures one process; the CPU share is since the last measurement, the first time since the process started."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._process: psutil.Process | None = None
        self._measured_at = 0.0
        self._cpu_time = 0.0
        self._cpu = 0.0
        self.rss = 0
        """Resident bytes, when last measured."""

    def measure(self, uptime: float) -> tuple[float, int]:
        """Return percent of one core and resident bytes.

        ``uptime`` is its age. Zeros: it is gone, or cannot be looked at.
        """
        now = time.monotonic()
        try:
            if self._process is None:
                self._process = psutil.Process(self._pid)
                self._measured_at = now - uptime
            with self._process.oneshot():
                times = self._process.cpu_times()
                self.rss = rss = self._process.memory_info().rss
        except (psutil.Error, OSError):  # gone; or there is no descriptor left to look with
            return 0.0, 0
        elapsed, cpu_time = now - self._measured_at, times.user + times.system
        if elapsed >= _SHORTEST:
            self._cpu = round(100 * (cpu_time - self._cpu_time) / elapsed, 1)
            self._measured_at, self._cpu_time = now, cpu_time
        return self._cpu, rss
