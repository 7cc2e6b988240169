"""The third party in between: it carries bytes from a manager to a host and back, and cuts them as planned."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import Counter
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path

from .plan import Cut, Kind

_PIECE = 64 * 1024
_CARRYING = 16 * 1024
"""Bytes after which a connection is surely established and carries messages: its handshake takes a twentieth."""
_LINGER_NOT = struct.pack("ii", 1, 0)


class Way(IntEnum):
    """The direction in which bytes go, as the index of the end that they come from."""

    UP = 0
    DOWN = 1


_SWALLOWED = {
    Kind.HALF_OPEN_UP: (Way.UP,),
    Kind.HALF_OPEN_DOWN: (Way.DOWN,),
    Kind.HALF_OPEN_BOTH: (Way.UP, Way.DOWN),
}

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Relay:
    """One stream from the manager's end to the host's."""

    def __init__(self, manager: Stream, host: Stream) -> None:
        self.ends = (manager, host)
        self.swallows = [False, False]

    def reset(self) -> None:
        for _, writer in self.ends:
            sock = writer.get_extra_info("socket")
            if sock.family != socket.AF_UNIX:
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
            writer.transport.abort()

    def finish(self) -> None:
        """Let both ends read the end of the stream, after what is on its way."""
        self.swallows = [True, True]
        for _, writer in self.ends:
            with contextlib.suppress(OSError):
                writer.write_eof()

    def close(self) -> None:
        for _, writer in self.ends:
            writer.close()


class CuttingProxy:
    """Carries every connection made to ``endpoint`` on to ``target`` (both ``tcp:HOST:PORT`` or ``unix:PATH``).

    A cut waits for its place, and for a connection that carries messages: it never hits a handshake. ``made`` counts
    the cuts by kind; ``outages`` holds, for each, the seconds until another connection carried messages.
    """

    def __init__(self, target: str, cuts: Sequence[Cut]) -> None:
        self.made: Counter[Kind] = Counter()
        self.outages: list[float] = []
        self._target = target
        self._cuts = list(reversed(cuts))
        self._live: set[_Relay] = set()  # of connections that were not cut
        self._tasks: set[asyncio.Task[None]] = set()
        self._carried = 0
        self._carried_since = 0  # by streams that are not cut, since the latest was accepted
        self._cut_at: float | None = None
        self._server: asyncio.Server | None = None

    async def start(self, directory: Path) -> str:
        """Listen on a free port, or at a path in ``directory``, and return the endpoint."""
        if self._target.startswith("unix:"):
            path = directory / "proxy.sock"
            self._server = await asyncio.start_unix_server(self._accepted, path, limit=_PIECE)
            return f"unix:{path}"
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0, limit=_PIECE)
        return f"tcp:127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        """Stop listening and drop every connection; nothing is left when this returns."""
        if self._server is not None:
            self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._carried_since = 0
        task = asyncio.get_running_loop().create_task(self._relay(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            host = await self._dial()
        except OSError:
            writer.close()
            return
        relay = _Relay((reader, writer), host)
        self._live.add(relay)
        try:
            async with asyncio.TaskGroup() as ways:
                for way in Way:
                    ways.create_task(self._pump(relay, way))
        finally:
            self._live.discard(relay)
            relay.close()

    async def _dial(self) -> Stream:
        kind, _, address = self._target.partition(":")
        if kind == "unix":
            return await asyncio.open_unix_connection(address, limit=_PIECE)
        host, _, port = address.rpartition(":")
        return await asyncio.open_connection(host, int(port), limit=_PIECE)

    async def _pump(self, relay: _Relay, way: Way) -> None:
        """Carry bytes one way until their source ends. What is swallowed is read all the same, and so is its end."""
        reader, writer = relay.ends[way][0], relay.ends[1 - way][1]
        with contextlib.suppress(OSError):
            while piece := await reader.read(_PIECE):
                if relay.swallows[way]:
                    continue
                try:
                    self._carry(relay, way, piece)
                    await writer.drain()
                except OSError:
                    if not relay.swallows[1 - way]:
                        raise
                    # The other end is gone; that it is gone is news that the swallowed way would have to bring.
                    relay.swallows[way] = True
        if not relay.swallows[way]:
            relay.close()

    def _carry(self, relay: _Relay, way: Way, piece: bytes) -> None:
        writer = relay.ends[1 - way][1]
        self._carried += len(piece)
        if relay in self._live:
            self._carried_since += len(piece)
        if relay not in self._live or self._carried_since < _CARRYING:
            writer.write(piece)
            return
        now = asyncio.get_running_loop().time()
        if self._cut_at is not None:
            self.outages.append(now - self._cut_at)
            self._cut_at = None
        if not self._cuts or self._carried < self._cuts[-1].at:
            writer.write(piece)
            return
        cut = self._cuts.pop()
        # A way that goes on keeps all of its bytes: a stream that lacks some in its middle is no fault of a network.
        goes_on = way not in _SWALLOWED.get(cut.kind, Way)
        writer.write(piece if goes_on else piece[: int(len(piece) * cut.share)])
        self._cut_at = now
        self._carried_since = 0
        self.made[cut.kind] += 1
        self._strike(cut, relay)

    def _strike(self, cut: Cut, relay: _Relay) -> None:
        victims = list(self._live) if cut.whole else [relay]
        # What is left of this connection is not cut again, and does not pass for the next one.
        self._live.clear()
        for victim in victims:
            if cut.kind is Kind.RESET:
                victim.reset()
            elif cut.kind is Kind.CLOSE:
                victim.finish()
            else:
                for way in _SWALLOWED[cut.kind]:
                    victim.swallows[way] = True
