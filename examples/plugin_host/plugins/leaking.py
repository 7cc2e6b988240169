"""A plugin that takes more and more memory."""

import asyncio

from meshvisor import Worker, rpc


class Leaking(Worker):
    version = "1.0"

    @rpc
    async def translate(self, text: str) -> str:
        hoard = []
        while "evil" in text:
            hoard.append(bytearray(8_000_000))
            await asyncio.sleep(0.05)
        return text.title()
