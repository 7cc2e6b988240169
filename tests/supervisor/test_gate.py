"""Who gets in at a socket of ours, and that nobody is counted for ever."""

import asyncio
import contextlib
import os
import random
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import zmq

from meshvisor.supervisor import gate as gate_module
from meshvisor.supervisor.gate import Gate
from meshvisor.supervisor.pump import Pump

_GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48)


def at_gate(path: Path, story: Callable[[Gate], Awaitable[None]]) -> None:
    """Have a ROUTER that reads and forgets behind a gate."""

    async def main() -> None:
        with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
            router.set(zmq.LINGER, 0)
            router.set(zmq.MAXMSGSIZE, 10_000)
            gate = Gate(context, router, str(path))
            pump = Pump(router, lambda: _forget(router.recv_multipart(zmq.NOBLOCK)))
            try:
                async with asyncio.timeout(20):
                    await story(gate)
            finally:
                pump.close()
                gate.close()
                gate.close()

    asyncio.run(main())


def _forget(frames: list[bytes]) -> None: ...


def open_sockets() -> int:
    count = 0
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # it has just been closed
            count += os.readlink(f"/proc/self/fd/{number}").startswith("socket:")
    return count


async def counted(gate: Gate, count: int) -> None:
    while gate.clients != count:
        await asyncio.sleep(0.001)


def test_whatever_a_client_does_it_is_not_counted_when_it_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate_module, "_GREETING", 300)
    rng = random.Random(1)

    async def story(gate: Gate) -> None:
        silent, before, most = [], open_sockets(), 0
        for number in range(200):
            peer = socket.socket(socket.AF_UNIX)
            while True:
                try:
                    peer.connect(str(tmp_path / "socket"))
                    break
                except OSError:  # too many are in
                    await asyncio.sleep(0.001)
            ready = _GREETING + b"\x04\x1a\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
            peer.send(
                [
                    b"",
                    rng.randbytes(rng.randrange(1, 300)),
                    _GREETING + rng.randbytes(rng.randrange(1, 300)),
                    _GREETING + b"\x02" + (2**62).to_bytes(8, "big") + rng.randbytes(100),
                    ready + b"\x00\x05hello",
                    ready + b"\x02" + (20_000).to_bytes(8, "big") + bytes(1000),
                    ready + b"\x01\x05more!" + rng.randbytes(20),
                ][number % 7]
            )
            await asyncio.sleep(0)
            most = max(most, gate.clients)
            if number % 7 == 0 and number % 2:
                silent.append(peer)  # it is for the gate to end these
            else:
                peer.close()
        while open_sockets() - len(silent) > before:
            await asyncio.sleep(0.001)
        # All ends of ours are closed now, and were reported before.
        with contextlib.suppress(zmq.Again):
            gate._take()
        assert (gate.clients, most > 0) == (0, True)
        for peer in silent:
            peer.close()

    at_gate(tmp_path / "socket", story)


def test_the_door_is_shut_when_it_is_full_and_opened_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate_module, "MOST", 2)
    path = tmp_path / "socket"

    async def story(gate: Gate) -> None:
        peers = [socket.socket(socket.AF_UNIX) for _ in range(2)]
        for peer in peers:
            peer.connect(str(path))
        await counted(gate, 2)
        assert os.listdir(tmp_path) == ["socket.full"]
        peers[0].close()
        await counted(gate, 1)
        assert os.listdir(tmp_path) == ["socket"]
        peers[1].close()
        await counted(gate, 0)

    at_gate(path, story)
