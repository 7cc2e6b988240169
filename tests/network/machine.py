"""One of the two machines: a process alone in its network namespace, with one end of a link.

``python -m tests.network.machine FD TASK``: FD is a Unix socket to the laboratory, over which the interface's other
end is handed out first; then orders come in, and what happens goes out. When the laboratory is gone, so is the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable

import msgspec

from meshvisor.shared.core.states import StateChange
from meshvisor.shared.errors import LinkClosed, PeerLeft, PeerLost
from meshvisor.shared.mesh.connection import ConnectionHandle
from meshvisor.shared.mesh.host import ConnectionHost
from meshvisor.shared.mesh.manager import ConnectionManager
from meshvisor.shared.mesh.options import ConnectionHostOptions, ConnectionOptions

from .namespace import Interface, enter
from .traffic import Tally, body
from .wire import other
from .words import Event, Order, Seen, Task

_SIZES = (0, 40, 200, 1200, 5000)
_LARGE = 64 * 1024

Tell = Callable[[Event, str], None]


class _Host(ConnectionHost):
    """A host that tells what becomes of its connections."""

    def __init__(self, options: ConnectionHostOptions, witness: Tell) -> None:
        super().__init__(options)
        self._witness = witness

    def link_up(self, handle: ConnectionHandle) -> None:
        super().link_up(handle)
        self._witness("up", handle.session_id)

    def link_down(self, handle: ConnectionHandle, reason: str, *, broken: bool) -> None:
        super().link_down(handle, reason, broken=broken)
        self._witness("down", reason)

    def link_suspected(self, handle: ConnectionHandle) -> None:
        super().link_suspected(handle)
        self._witness("suspected", "")


class _Manager(ConnectionManager):
    """A manager that tells what becomes of its connections."""

    def __init__(self, options: ConnectionOptions, witness: Tell) -> None:
        super().__init__(options)
        self._witness = witness

    def link_up(self, handle: ConnectionHandle) -> None:
        super().link_up(handle)
        self._witness("up", handle.session_id)

    def link_down(self, handle: ConnectionHandle, reason: str, *, broken: bool) -> None:
        super().link_down(handle, reason, broken=broken)
        self._witness("down", reason)

    def link_suspected(self, handle: ConnectionHandle) -> None:
        super().link_suspected(handle)
        self._witness("suspected", "")


class Machine:
    """Sends numbered messages over whatever link there is, tallies those that arrive, and obeys."""

    def __init__(self, task: Task, interface: Interface, writer: asyncio.StreamWriter) -> None:
        self._task = task
        self._interface = interface
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._sent = 0
        self._tally = Tally()
        self._large = 0
        self._works = asyncio.Event()
        self._works.set()
        self._is_idle = asyncio.Event()
        self._handle: ConnectionHandle | None = None
        self._is_linked = asyncio.Event()

    async def run(self, reader: asyncio.StreamReader) -> None:
        """Work and obey the orders that come from ``reader``, until one of them says to stop."""
        async with asyncio.TaskGroup() as group:
            working = group.create_task(self._work())
            while line := await reader.readline():
                order = msgspec.json.decode(line, type=Order)
                if order.do == "stop":
                    working.cancel()
                    return
                group.create_task(self._carry_out(order))
            os._exit(1)  # Nothing of this process is of use to anybody.

    async def _carry_out(self, order: Order) -> None:
        if order.do == "address":
            self._interface.set_address(order.value)
        elif order.do in ("up", "down"):
            self._interface.set_up(order.do == "up")
        elif order.do == "large":
            self._large = order.size
        elif order.do == "work":
            self._works.set()
        elif order.do == "rest":
            await self._rest()
        self._tell("done", order.do)

    async def _rest(self) -> None:
        self._works.clear()
        while True:
            await self._is_linked.wait()
            await self._is_idle.wait()
            assert self._handle is not None
            if await self._handle.drain(1.0):
                return

    def _tell(self, event: Event, text: str = "", report: PeerLost | None = None) -> None:
        tally = self._tally
        told = Seen(
            event,
            self._loop.time(),
            text,
            sent=self._sent,
            received=tally.received,
            misplaced=tally.misplaced,
            damaged=tally.damaged,
        )
        if report is not None:
            told = msgspec.structs.replace(told, first=report.first, last=report.last, count=report.count)
        self._writer.write(msgspec.json.encode(told) + b"\n")

    # The work.

    async def _work(self) -> None:
        async for handle in self._handles():
            self._tally, self._sent, self._handle = Tally(), 0, handle
            self._tell("linked", handle.session_id)
            self._is_linked.set()
            sending = asyncio.create_task(self._send(handle))
            try:
                await self._receive(handle)
            finally:
                self._is_linked.clear()
                sending.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await sending

    async def _handles(self) -> AsyncIterator[ConnectionHandle]:
        task = self._task
        if task.side == "host":
            options = ConnectionHostOptions(
                node_id="host",
                endpoints=task.endpoints,
                heartbeat_interval=task.interval,
                heartbeat_timeout=task.timeout,
                session_expiry=task.expiry,
            )
            async with _Host(options, self._tell) as host:
                self._tell("ready")
                async for handle in host:
                    yield handle
            return
        dialling = ConnectionOptions(
            node_id="manager",
            endpoints=task.endpoints,
            connect_timeout=None,
            attempt_timeout=0.5,
            heartbeat_interval=task.interval,
            heartbeat_timeout=task.timeout,
            endpoint_blacklist_duration=0.02,
            hard_backoff_initial=0.02,
            hard_backoff_cap=0.1,
            max_dials_per_minute_per_endpoint=0,
        )
        async with _Manager(dialling, self._tell) as manager:
            manager.on_state_changed(self._state_changed)
            self._tell("ready")
            while True:
                yield await manager.connect()

    def _state_changed(self, change: StateChange) -> None:
        self._tell("state", f"{change.previous} -> {change.current} ({change.cause}: {change.evidence})")

    async def _receive(self, handle: ConnectionHandle) -> None:
        theirs = other(self._task.side)
        try:
            async for message in handle:
                self._tally.take(theirs, message.number, message.body)
                if len(message.body) > _LARGE:
                    self._tell("large", str(message.number))
        except PeerLost as report:
            self._tell("lost", report=report)

    async def _send(self, handle: ConnectionHandle) -> None:
        while True:
            self._is_idle.set()
            await self._works.wait()
            self._is_idle.clear()
            number = self._sent + 1
            length, self._large = self._large or _SIZES[number % len(_SIZES)], 0
            try:
                given = await handle.send(body(self._task.side, number, length))
            except (PeerLost, PeerLeft, LinkClosed):
                self._is_idle.set()
                return
            if given != number:
                raise ValueError(f"message {number} was sent as number {given}")
            self._sent = number
            await asyncio.sleep(self._task.pace)


async def _main(task: Task, interface: Interface, laboratory: socket.socket) -> None:
    reader, writer = await asyncio.open_connection(sock=laboratory)
    try:
        await Machine(task, interface, writer).run(reader)
    finally:
        writer.close()


def main() -> None:
    """Enter a namespace, hand the interface's other end out, and be the machine."""
    laboratory = socket.socket(fileno=int(sys.argv[1]))
    task = msgspec.json.decode(sys.argv[2], type=Task)
    enter()
    interface = Interface(task.address)
    socket.send_fds(laboratory, [b"!"], [interface.fd])
    os.close(interface.fd)
    asyncio.run(_main(task, interface, laboratory))


if __name__ == "__main__":
    main()
