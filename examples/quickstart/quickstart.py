"""A guest is greeted by whoever has time, and says goodbye to everybody."""

from meshvisor import Message, Worker, rpc


class Greeter(Worker):
    async def on_start(self) -> None:
        self.guests = 0

    @rpc
    async def greet(self, name: str, times: int = 1) -> str:
        self.guests += 1
        return " ".join([f"hello, {name}!"] * times) + f"  (from {self.name}, guest {self.guests})"

    async def on_message(self, message: Message) -> None:
        print(f"{message.sender} says: {bytes(message.body).decode()}")


class Guest(Worker):
    async def run(self) -> None:
        # "greeter" is a group: its replicas take turns. A node by its name is asked itself, and waited for.
        for name, greeter in (("Ada", "greeter"), ("Grace", "greeter-0"), ("Barbara", "greeter-1")):
            # retry=True: if the one that was asked dies over it, its next life is asked, or another replica.
            print(await self.call(greeter, "greet", name, times=2, retry=True))
        reached = await self.broadcast(b"goodbye")
        print(f"two processes were called, and {reached} heard the goodbye")
