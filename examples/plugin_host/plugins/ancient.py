"""A plugin for an application as it was long ago."""

from meshvisor import Worker, rpc


class Ancient(Worker):
    version = "0.3"

    @rpc
    async def translate(self, text: str, alphabet: str) -> str:
        return text.translate(str.maketrans("abc", alphabet))
