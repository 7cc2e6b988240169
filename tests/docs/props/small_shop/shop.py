"""A shop for the program that has a supervisor in it: it ends when that program has done all it wants to show."""

import asyncio

from meshvisor import Worker


class Counter(Worker):
    """Does nothing; it is there to be counted."""


class Source(Worker):
    """Ends when the last counter has been restarted."""

    async def run(self) -> None:
        while "counter-2" not in self.peers or self.peers["counter-2"].incarnation < 2:
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.5)  # the restart is over when that counter is ready, too
