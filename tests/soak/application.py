"""Workers that write to each other and call each other all the time, and say at once what becomes of it.

Beside the reports of a ``Probe`` they write these, each a line in the same pipe:

    sent SLOT INCARNATION TARGET NUMBER COUNTER      a message was accepted, as the NUMBERth of its session
    unsent SLOT INCARNATION TARGET ERROR BEGUN       it was not
    got SLOT INCARNATION SENDER ITS_INCARNATION NUMBER COUNTER      a message was handled
    damaged SLOT INCARNATION SENDER                  one was, that is not what was sent
    lost SLOT INCARNATION PEER ITS_INCARNATION FIRST LAST COUNT     a PeerLost
    left SLOT INCARNATION PEER ITS_INCARNATION       a PeerLeft
    call SLOT INCARNATION TARGET OUTCOME BEGUN SECONDS
    twice SLOT INCARNATION CALL                      a call was served that had been served before
    tick SLOT INCARNATION TASKS                      a timer's turn; each second

COUNTER counts what one life has sent to one target, whichever life of that takes it; BEGUN is on the monotonic clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import stat
import time
from collections import OrderedDict
from collections.abc import Iterator

from tests.outside.probe import Probe

from meshvisor import Message, PeerLeft, PeerLost, every, rpc
from meshvisor.shared.errors import MeshError
from meshvisor.workers.peers import Peer

TIMEOUT = 5.0
"""How long a call, or the acceptance of a message, may take, in seconds."""
_LANES = 2
_BURST = 12
_LARGE = 150_000
_REMEMBERED = 512
_PAGE = 4096


def pattern(counter: int, size: int) -> bytes:
    """Return what follows the head of a message."""
    return bytes([counter % 251]) * size


class Member(Probe):
    """One of the mesh; ``settings``: ``seed``, and ``pace``, the seconds from one burst of messages to the next."""

    async def on_start(self) -> None:
        self._counters: dict[str, int] = {}
        self._served: OrderedDict[str, None] = OrderedDict()
        self._ballast: list[bytearray] = []
        self._mistake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._rng = random.Random(f"{self.settings['seed']} {self.name} {self.incarnation}")
        await super().on_start()

    async def run(self) -> None:
        self.report("ready")
        await asyncio.gather(self._mistake, self._ask(), *(self._write(lane) for lane in range(_LANES)))

    @every("1s")
    async def tick(self) -> None:
        self.note("tick", len(asyncio.all_tasks()))

    def note(self, kind: str, *words: object) -> None:
        """Write one line."""
        line = f"{kind} {self.name} {self.incarnation} {' '.join(map(str, words))}\n"
        with contextlib.suppress(BrokenPipeError):  # whoever listened is gone, and so will this mesh be
            os.write(self._reports, line.encode())

    # Messages. One after the other to each target: the targets are divided among the lanes.

    async def _write(self, lane: int) -> None:
        while True:
            await asyncio.sleep(self._rng.expovariate(1 / self.settings["pace"]))
            targets = [name for number, name in enumerate(sorted(self.peers)) if number % _LANES == lane]
            if targets:
                await self._burst(self._rng.choice(targets))

    async def _burst(self, target: str) -> None:
        for _ in range(self._rng.randint(1, _BURST)):
            counter = self._counters.get(target, 0) + 1
            size = _LARGE if self._rng.random() < 0.02 else self._rng.randrange(200)
            head = f"{self.incarnation} {counter} {size}\n".encode()
            begun = time.monotonic()
            try:
                number = await self.send(target, head + pattern(counter, size), timeout=TIMEOUT)
            except MeshError as error:
                self.note("unsent", target, type(error).__name__, begun)
                return
            self._counters[target] = counter
            self.note("sent", target, number, counter)

    async def on_message(self, message: Message) -> None:
        head, _, rest = bytes(message.body).partition(b"\n")
        incarnation, counter, size = map(int, head.split())
        if rest != pattern(counter, size):
            self.note("damaged", message.sender)
        if counter % 7 == 0:
            await asyncio.sleep(0.01)  # so that there is a tail when this process ends
        self.note("got", message.sender, incarnation, message.number, counter)

    async def on_peer_down(self, peer: Peer, reason: PeerLost | PeerLeft) -> None:
        await super().on_peer_down(peer, reason)
        if isinstance(reason, PeerLost):
            self.note("lost", peer, peer.incarnation, reason.first, reason.last, reason.count)
        else:
            self.note("left", peer, peer.incarnation)

    # Calls.

    async def _ask(self) -> None:
        number = 0
        while True:
            await asyncio.sleep(self._rng.expovariate(1 / self.settings["pace"]))
            number += 1
            target = self._rng.choice(["store", "node", "writer", *self.peers])
            name = f"{self.name}.{os.getpid()}.{number}"
            key = f"key {number % 5}" if number % 3 == 0 else None
            begun = time.monotonic()
            try:
                answer = await self.call(target, "serve", name, key=key, timeout=TIMEOUT, retry=number % 4 == 0)
                outcome = "done" if answer == name[::-1] else "wrong"
            except MeshError as error:
                outcome = type(error).__name__
            self.note("call", target, outcome, begun, round(time.monotonic() - begun, 4))

    @rpc
    async def serve(self, call: str) -> str:
        if call in self._served:
            self.note("twice", call)
        self._served[call] = None
        if len(self._served) > _REMEMBERED:
            self._served.popitem(last=False)
        if call.endswith("0"):
            await asyncio.sleep(0.02)
        return call[::-1]

    # Orders, beside those of a Probe.

    def _obey(self, orders: socket.socket) -> None:
        order, _, argument = orders.recv(64, socket.MSG_PEEK).decode().partition(" ")
        if order in ("sleep", "deadlock", "spin"):
            super()._obey(orders)
            return
        orders.recv(64)
        match order:
            case "raise":
                self._mistake.set_exception(RuntimeError("as ordered"))
            case "exit":
                os._exit(3)
            case "grow":
                self._ballast.append(_touched(int(argument)))
            case "cut":
                _cut(argument, self._rng)


def _touched(size: int) -> bytearray:
    """Return so many bytes of memory that is really there."""
    memory = bytearray(size)
    for place in range(0, size, _PAGE):
        memory[place] = 1
    return memory


def _connections() -> Iterator[socket.socket]:
    """Yield the stream sockets of this process that have an address: those of its links, not its lifeline."""
    for entry in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if not stat.S_ISSOCK(os.stat(f"/proc/self/fd/{entry}").st_mode):
                continue
            with socket.socket(fileno=os.dup(int(entry))) as sock:
                is_listener = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
                if sock.type & socket.SOCK_STREAM and not is_listener and (sock.getpeername() or sock.getsockname()):
                    yield sock


def _cut(how: str, rng: random.Random) -> None:
    """Shut one connection down, some, or all: for writing, for reading or both."""
    for sock in _connections():
        if how == "all" or rng.random() < 0.2:
            direction = rng.choice((socket.SHUT_RDWR, socket.SHUT_WR, socket.SHUT_RD))
            with contextlib.suppress(OSError):
                sock.shutdown(direction)
