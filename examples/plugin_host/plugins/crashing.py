"""A plugin with a bug in its native code."""

import ctypes

from meshvisor import Worker, rpc


class Crashing(Worker):
    version = "1.0"

    @rpc
    async def translate(self, text: str) -> str:
        if "evil" in text:
            ctypes.string_at(0)  # A null pointer: SIGSEGV.
        return text.upper()
