"""A plugin that does its work, and asks the application for what it does not know."""

from meshvisor import Worker, rpc


class Good(Worker):
    version = "1.0"

    @rpc
    async def translate(self, text: str) -> str:
        return " ".join([await self.call("host", "look_up", word) for word in text.split()])
