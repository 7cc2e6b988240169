"""A plugin that waits for something that never comes, and lets nobody else run meanwhile."""

import threading

from meshvisor import Worker, rpc


class Hanging(Worker):
    version = "1.0"

    @rpc
    async def translate(self, text: str) -> str:
        if "evil" in text:
            threading.Event().wait()
        return text[::-1]
