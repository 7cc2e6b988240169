"""``supervise run`` with a clock in its event loop: how long the loop was away from its wait, in time of its own CPU.

The time that a turn takes is the time for which nobody's death is noticed. It is counted in CPU time: what the machine
gives to others is not ours to answer for. SIGUSR1 begins anew, SIGUSR2 writes what was found to the file named second.
"""

from __future__ import annotations

import asyncio
import json
import os
import selectors
import signal
import sys
import time
from pathlib import Path
from typing import Any

from meshvisor.supervisor.cli import execute


class Clock(selectors.EpollSelector):
    """Measures the turns between two waits."""

    def __init__(self) -> None:
        super().__init__()
        self._left: float | None = None
        self.begin()

    def begin(self) -> None:
        """Forget what was."""
        self.longest = 0.0
        self.turns = 0
        self._left = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        left = self._left  # once: a signal may make it None in between
        if left is not None:
            self.longest = max(self.longest, time.thread_time() - left)
            self.turns += 1
        events = super().select(timeout)
        self._left = time.thread_time()
        return events


class _Policy(asyncio.DefaultEventLoopPolicy):
    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.SelectorEventLoop(self._clock)


def main(mesh: str, figures: str) -> int:
    """Run ``mesh`` and return its exit status."""
    clock = Clock()

    def write(number: int, frame: Any) -> None:
        facts = {"longest": clock.longest, "turns": clock.turns, "cpu": time.process_time()}
        part = Path(figures + ".part")
        part.write_text(json.dumps(facts))
        os.replace(part, figures)

    signal.signal(signal.SIGUSR1, lambda number, frame: clock.begin())
    signal.signal(signal.SIGUSR2, write)
    asyncio.set_event_loop_policy(_Policy(clock))
    return execute(["run", mesh])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
