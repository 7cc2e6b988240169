"""The laboratory: two machines in network namespaces of their own, the wire between them, and what happens on each."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
from tests.outside.covered import uncovered

from .wire import SIDES, Side, Wire, other
from .words import Event, Order, Seen, Task

_ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 20.0
"""Seconds after which something that must happen counts as not happening."""

ADDRESSES: dict[Side, str] = {"manager": "10.77.0.1", "host": "10.77.0.2"}
SECOND: dict[Side, str] = {"manager": "10.77.0.11", "host": "10.77.0.12"}
"""The addresses that the machines may change to."""
_PORT = 4500


@dataclass(frozen=True, slots=True)
class Setting:
    """How both ends watch their link, in seconds; ``expiry`` is the host's ``session_expiry``."""

    interval: float = 0.1
    timeout: float = 0.6
    expiry: float = 30.0
    pace: float = 0.003
    seed: int = 0


class Resident:
    """A machine as the laboratory knows it: its process, and what it has said."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.seen: list[Seen] = []
        self._news = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._listening: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def start(self) -> int:
        """Start the process; return the other end of its interface.

        Raises:
            EOFError: If it ended at once.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.network.machine", str(theirs.fileno())),
                msgspec.json.encode(self.task).decode(),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                cwd=_ROOT,
                # Coverage measured in there, of what other tests cover, would only make it slow.
                env=uncovered(),
                start_new_session=True,
            )
        fd = await asyncio.get_running_loop().run_in_executor(None, _received_fd, ours)
        reader, self._writer = await asyncio.open_connection(sock=ours)
        self._listening = asyncio.create_task(self._listen(reader))
        return fd

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                self.seen.append(msgspec.json.decode(line, type=Seen))
                self._news.set()
        except ConnectionError:
            pass  # it was killed

    def seen_first(self, event: Event) -> Seen:
        """Return the first ``event`` of all, which must have been."""
        return next(seen for seen in self.seen if seen.event == event)

    def find(self, event: Event, since: float = 0.0, text: str = "") -> Seen | None:
        """Return the first ``event`` since then whose text contains ``text``, if there was one."""
        return next((s for s in self.seen if s.event == event and s.at >= since and text in s.text), None)

    async def saw(self, event: Event, since: float = 0.0, text: str = "") -> Seen:
        """Wait for ``event``; see ``find``.

        Raises:
            AssertionError: If it does not come.
        """
        await self.until(lambda: self.find(event, since, text), f"{event} {text}")
        found = self.find(event, since, text)
        assert found is not None
        return found

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until ``condition``, which depends on what was seen, is true."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not condition():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"no {what} at the {self.task.side} in {PATIENCE:g} s") from None

    def story(self, most: int = 40) -> str:
        """Return the latest that happened, one a line, for people."""
        told = [s for s in self.seen if s.event != "done"][-most:]
        return "\n".join(f"{self.task.side} {s.at:.3f} {s.event} {s.text}" for s in told)

    async def order(self, order: Order) -> Seen:
        """Have ``order`` carried out."""
        assert self._writer is not None
        since = asyncio.get_running_loop().time()
        self._writer.write(msgspec.json.encode(order) + b"\n")
        return await self.saw("done", since, order.do)

    async def stop(self) -> int:
        """Let it close its link and end; return its status."""
        assert self._writer is not None
        assert self._process is not None
        self._writer.write(msgspec.json.encode(Order("stop")) + b"\n")
        async with asyncio.timeout(PATIENCE):
            return await self._process.wait()

    async def kill(self) -> None:
        """End it, whatever state it is in."""
        if self._process is not None:
            if self._process.returncode is None:
                self._process.kill()
            await self._process.wait()
        if self._writer is not None:
            self._writer.close()
        if self._listening is not None:
            await self._listening


def _received_fd(ours: socket.socket) -> int:
    _, fds, _, _ = socket.recv_fds(ours, 1, 1)
    if not fds:
        raise EOFError("the machine ended before it had an interface")
    return fds[0]


class Lab:
    """A manager and a host that talk over a wire; ``laboratory`` makes one."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.wire = Wire(setting.seed)
        self.residents: dict[Side, Resident] = {}
        self._addresses = dict(ADDRESSES)

    @property
    def manager(self) -> Resident:
        """The machine that dials."""
        return self.residents["manager"]

    @property
    def host(self) -> Resident:
        """The machine that listens."""
        return self.residents["host"]

    def now(self) -> float:
        """Return the time on the clock that everything here shares."""
        return asyncio.get_running_loop().time()

    async def settle_in(self, side: Side) -> None:
        """Start the machine of ``side``, in place of one that is gone."""
        listening = [f"tcp:0.0.0.0:{_PORT}"]
        dialling = [f"tcp:{book['host']}:{_PORT}" for book in (ADDRESSES, SECOND)]
        setting = self.setting
        self._addresses[side] = ADDRESSES[side]
        resident = self.residents[side] = Resident(
            Task(
                side,
                ADDRESSES[side],
                listening if side == "host" else dialling,
                setting.interval,
                setting.timeout,
                setting.expiry,
                setting.pace,
            )
        )
        self.wire.plug(side, await resident.start())
        await resident.saw("ready")

    async def vanish(self, side: Side) -> None:
        """Let the machine of ``side`` and its namespace be gone, without a last word."""
        self.wire.unplug(side)
        await self.residents[side].kill()

    async def move(self, side: Side) -> str:
        """Let ``side`` have its other address instead of the one it has; return it."""
        address = self._addresses[side] = (SECOND if self._addresses[side] == ADDRESSES[side] else ADDRESSES)[side]
        await self.residents[side].order(Order("address", address))
        return address

    async def linked(self, since: float = 0.0) -> float:
        """Wait until both ends have got a connection since then; return when the later one had."""
        return max([(await resident.saw("up", since)).at for resident in self.residents.values()])

    async def flowing(self) -> None:
        """Wait until messages that are sent from now on arrive, both ways."""
        told = {side: await resident.order(Order("tell")) for side, resident in self.residents.items()}
        for side in SIDES:
            sent = told[side].sent
            while (await self.residents[other(side)].order(Order("tell"))).received <= sent:
                await asyncio.sleep(0.01)

    async def settled(self) -> dict[Side, Seen]:
        """Let both rest and return how they stand; AssertionError: anything is lost, doubled or out of order."""
        async with asyncio.TaskGroup() as group:
            for resident in self.residents.values():
                group.create_task(resident.order(Order("rest")))
        told = {side: await resident.order(Order("tell")) for side, resident in self.residents.items()}
        for side in SIDES:
            assert told[side].received == told[other(side)].sent, f"lost on the way to the {side}: {told}"
            assert_in_order(told[side])
        return told

    async def close(self) -> None:
        """End everything."""
        for resident in self.residents.values():
            await resident.kill()
        self.wire.close()


def assert_in_order(told: Seen) -> None:
    """Raise AssertionError if what arrived in a session is not 1, 2, 3..., undamaged."""
    assert (told.misplaced, told.damaged) == (0, 0), told


@asynccontextmanager
async def laboratory(setting: Setting | None = None) -> AsyncIterator[Lab]:
    """Make two machines whose link is up and carries messages both ways; nothing is left of them afterwards."""
    lab = Lab(setting or Setting())
    try:
        async with asyncio.TaskGroup() as group:
            for side in SIDES:
                group.create_task(lab.settle_in(side))
        await lab.linked()
        await lab.flowing()
        yield lab
    finally:
        await lab.close()
