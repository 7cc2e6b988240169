"""Workers that call and write to each other all the time, and put down in one file what becomes of each call."""

import asyncio
import contextlib
import os
import time
from typing import Any

from meshvisor import Message, Worker, rpc
from meshvisor.shared.errors import MeshError, PeerLeft, PeerLost
from meshvisor.workers.peers import Peer


class Recorder(Worker):
    """Appends lines to ``settings["record"]``, each at once: a process that is killed has written all it did."""

    async def on_start(self) -> None:
        self.record = os.open(self.settings["record"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.note("life", self.name, self.incarnation, self.settings["version"])

    def note(self, *words: object) -> None:
        os.write(self.record, (" ".join(map(str, words)) + "\n").encode())

    async def on_peer_down(self, peer: Peer, reason: PeerLost | PeerLeft) -> None:
        if isinstance(reason, PeerLost) and reason.count:
            self.note("lost", self.name, self.incarnation, peer, peer.incarnation, reason.count)


class Server(Recorder):
    """Serves calls that take a moment, some of which call back whoever called, and takes numbered messages."""

    @rpc
    async def serve(self, call: str, caller: str, seconds: float) -> str:
        self.note("served", call, self.name, self.incarnation)
        if seconds:
            await asyncio.sleep(seconds)
        if call.endswith("0"):
            await self.call(caller, "confirm", call)
        return call

    async def on_message(self, message: Message) -> None:
        self.note("got", message.body.decode())


class Caller(Recorder):
    """Makes ``rate`` calls a second, without retry: plain to a group, with a key, and to a single worker."""

    async def on_start(self) -> None:
        await super().on_start()
        self.number = 0
        self.under_way: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        tick = 0.01
        due, begun = 0.0, time.monotonic()
        while True:
            await asyncio.sleep(tick)
            due = (time.monotonic() - begun) * self.settings["rate"]
            while self.number < due:
                self.number += 1
                task = asyncio.create_task(self.act(self.number))
                self.under_way.add(task)
                task.add_done_callback(self.under_way.discard)

    async def act(self, number: int) -> None:
        name = f"{self.name}.{self.incarnation}.{number}"
        target, options = self.target(number)
        self.note("call", name)
        begun = time.monotonic()
        try:
            result = await self.call(target, "serve", name, self.name, 0.002 * (number % 5), timeout=20.0, **options)
        except MeshError as error:
            self.note("failed", name, target, type(error).__name__, str(error).replace("\n", " "))
        else:
            self.note("done" if result == name else "wrong", name, round((time.monotonic() - begun) * 1000, 1))

    def target(self, number: int) -> tuple[str, dict[str, Any]]:
        kind = number % 3
        if kind == 0:
            return "store", {}
        return "server", {"key": f"key {number % 17}"} if kind == 1 else {}

    @rpc
    async def confirm(self, call: str) -> None:
        self.note("confirmed", call)

    async def on_stop(self) -> None:
        if self.under_way:
            await asyncio.wait(self.under_way)


class Writer(Recorder):
    """Sends numbered messages to single workers, in order, as fast as ``rate`` says."""

    async def on_start(self) -> None:
        await super().on_start()
        self.writing: list[asyncio.Task[None]] = []
        self.is_over = False

    async def run(self) -> None:
        self.writing = [asyncio.create_task(self.write(target)) for target in ("store", "server-0", "server-1")]
        await asyncio.wait(self.writing)

    async def write(self, target: str) -> None:
        number = 0
        while not self.is_over:
            number += 1
            body = f"{self.name} {self.incarnation} {target} {number}"
            try:
                await self.send(target, body.encode(), timeout=20.0)
            except MeshError as error:
                self.note("unsent", body, type(error).__name__, str(error))
                return
            self.note("sent", body)
            await asyncio.sleep(1 / self.settings["rate"])

    async def on_stop(self) -> None:
        self.is_over = True
        with contextlib.suppress(ValueError):
            await asyncio.wait(self.writing)
