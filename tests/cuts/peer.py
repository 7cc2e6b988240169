"""One of the two processes: it sends its messages and tallies the other's. ``python -m tests.cuts.peer`` with its task.

It says on stdout, in lines of JSON (``Report``), where it listens, how far it is, and at the end what it saw. It ends
after the line ``stop`` on stdin, or at once when stdin ends: then whoever started it is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal, NoReturn

import msgspec

from meshvisor.shared.core.states import ConnectionCause, ConnectionState, StateChange
from meshvisor.shared.mesh.connection import ConnectionHandle
from meshvisor.shared.mesh.host import ConnectionHost
from meshvisor.shared.mesh.manager import ConnectionManager
from meshvisor.shared.mesh.options import ConnectionHostOptions, ConnectionOptions

from .traffic import Tally, Traffic

Side = Literal["host", "manager"]

_HEARTBEAT_INTERVAL = 0.05
_HEARTBEAT_TIMEOUT = 0.3
_DRAIN = 30.0


class Task(msgspec.Struct, frozen=True):
    """What a peer is to do: where it listens, or whom it connects to, and how many messages go each way."""

    side: Side
    endpoint: str
    messages: int


class Report(msgspec.Struct, frozen=True):
    """What a peer has seen so far. ``peak`` is the most memory it ever had resident, in KiB."""

    event: Literal["listening", "progress", "complete", "over"]
    endpoint: str = ""
    sent: int = 0
    received: int = 0
    lost: int = 0
    doubled: int = 0
    misordered: int = 0
    damaged: int = 0
    reconnects: int = 0
    replayed: int = 0
    duplicates: int = 0
    peak: int = 0


def _say(report: Report) -> None:
    sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
    sys.stdout.flush()


def _peak() -> int:
    """Return the peak of this process's resident memory (KiB). ``ru_maxrss`` would count the parent's, before exec."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


class Peer:
    """Sends and receives over one handle until told to stop."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._mine = Traffic(task.side)
        self._theirs = Traffic("host" if task.side == "manager" else "manager")
        self._tally = Tally(task.messages)
        self._has_last = asyncio.Event()
        self._established = 0
        self._peak = 0
        self._handle: ConnectionHandle | None = None

    async def run(self, stopped: asyncio.Future[None]) -> None:
        """Do the task; ``stopped`` is set when it may end.

        Raises:
            PeerLost: If the link was not kept over a cut.
        """
        async with self._connected() as handle:
            self._handle = handle
            async with asyncio.TaskGroup() as group:
                group.create_task(self._receive(handle))
                await self._send(handle)
                await self._has_last.wait()
                if not await handle.drain(_DRAIN):
                    raise TimeoutError(f"what was sent is not acknowledged after {_DRAIN:g} s")
                self._report("complete")
                await stopped
                if self._task.side == "manager":
                    await handle.close()
        self._report("over")

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[ConnectionHandle]:
        task = self._task
        if task.side == "host":
            host_options = ConnectionHostOptions(
                node_id="host",
                endpoints=[task.endpoint],
                heartbeat_interval=_HEARTBEAT_INTERVAL,
                heartbeat_timeout=_HEARTBEAT_TIMEOUT,
            )
            async with ConnectionHost(host_options) as host:
                _say(Report("listening", str(host.endpoints[0])))
                yield await host.accept()
            return
        options = ConnectionOptions(
            node_id="manager",
            endpoints=[task.endpoint],
            heartbeat_interval=_HEARTBEAT_INTERVAL,
            heartbeat_timeout=_HEARTBEAT_TIMEOUT,
            attempt_timeout=1.0,
            endpoint_blacklist_duration=0.02,
            hard_backoff_initial=0.02,
            hard_backoff_cap=0.1,
            max_dials_per_minute_per_endpoint=0,
        )
        async with ConnectionManager(options) as manager:
            manager.on_state_changed(self._state_changed)
            yield await manager.connect()

    def _state_changed(self, change: StateChange) -> None:
        if change.current is ConnectionState.ESTABLISHED and change.cause is not ConnectionCause.HEARTBEAT_RECOVERED:
            self._established += 1

    async def _send(self, handle: ConnectionHandle) -> None:
        for number in range(1, self._task.messages + 1):
            given = await handle.send(self._mine.body(number))
            if given != number:
                raise ValueError(f"message {number} was sent as number {given}")

    async def _receive(self, handle: ConnectionHandle) -> None:
        step = max(1, self._task.messages // 100)
        async for message in handle:
            self._tally.take(message.number, message.body, self._theirs.body(message.number))
            if self._tally.received % step == 0:
                self._report("progress")
            if self._tally.has_last:
                self._has_last.set()

    def _report(self, event: Literal["progress", "complete", "over"]) -> None:
        assert self._handle is not None
        traffic, tally = self._handle.traffic(), self._tally
        self._peak = max(self._peak, _peak())  # the kernel's figure is a few pages off, either way
        _say(
            Report(
                event,
                sent=traffic.messages_out,
                received=tally.received,
                lost=tally.lost,
                doubled=tally.doubled,
                misordered=tally.misordered,
                damaged=tally.damaged,
                reconnects=max(0, self._established - 1),
                replayed=traffic.replayed,
                duplicates=traffic.duplicates,
                peak=self._peak,
            )
        )


async def _listen_to_parent(stopped: asyncio.Future[None]) -> NoReturn:
    """Set ``stopped`` when told so; end the process when nobody is there any more to tell."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    try:
        while await reader.readline():
            if not stopped.done():
                stopped.set_result(None)
        os._exit(1)  # Nothing of this process is of use to anybody.
    finally:
        transport.close()


async def _main(task: Task) -> None:
    stopped = asyncio.get_running_loop().create_future()
    listening = asyncio.create_task(_listen_to_parent(stopped))
    try:
        await Peer(task).run(stopped)
    finally:
        listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await listening


if __name__ == "__main__":
    asyncio.run(_main(msgspec.json.decode(sys.argv[1], type=Task)))
