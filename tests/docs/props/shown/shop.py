"""The shop that the README watches: one of its counters blocks its loop as soon as there is a file called ``hang``."""

import asyncio
import contextlib
import time
from pathlib import Path

from meshvisor import PeerLost, Worker, rpc


class Counter(Worker):
    """Counts."""

    @rpc
    def count(self, text: str) -> int:
        """Return the number of words."""
        if self.name == "counter-3" and self.incarnation == 1 and Path("hang").exists():
            time.sleep(60)
        return len(text.split())


class Source(Worker):
    """Asks all counters, again and again."""

    async def run(self) -> None:
        while True:
            await self.broadcast(b"a message")
            for number in range(4):
                with contextlib.suppress(PeerLost):
                    await self.call(f"counter-{number}", "count", "to be or not to be", timeout=None)
            await asyncio.sleep(0.02)
