"""Workers that tell whoever measures them what happens to them, and when, and that misbehave on demand.

A report is a line in the pipe that ``settings["reports"]`` names, shorter than what the kernel writes in one piece:

    KIND SLOT INCARNATION PEER PEER_INCARNATION MONOTONIC_NS PID

An order is a datagram to ``ORDERS/SLOT`` (``settings["orders"]``, a folder); it is obeyed within a callback of the
event loop. This module is loaded by the workers themselves, from its own folder, and so imports nothing of the tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import NoReturn

from meshvisor import Message, PeerLeft, PeerLost, Worker
from meshvisor.workers.peers import Peer

_SLICE = 0.015
_LOOK = 0.005


class Probe(Worker):
    """Reports its start, its links, that it is ready and that it stops. ``settings["slow"]``: seconds in on_start."""

    async def on_start(self) -> None:
        now = time.monotonic_ns()
        self._reports = os.open(self.settings["reports"], os.O_WRONLY | os.O_CLOEXEC)
        self._orders: socket.socket | None = None
        self.report("start", at=now)
        if folder := self.settings.get("orders"):
            self._orders = self._take_orders(os.path.join(folder, self.name))
        await asyncio.sleep(self.settings.get("slow", 0))

    async def run(self) -> None:
        self.report("ready")
        await asyncio.Event().wait()

    async def on_peer_up(self, peer: Peer) -> None:
        self.report("up", peer)

    async def on_peer_down(self, peer: Peer, reason: PeerLost | PeerLeft) -> None:
        self.report("down", peer)

    async def on_stop(self) -> None:
        self.report("stop")

    def report(self, kind: str, peer: Peer | None = None, at: int = 0) -> None:
        """Write one report; ``at`` is now unless given."""
        name, incarnation = (str(peer), peer.incarnation) if peer is not None else ("-", 0)
        stamp = at or time.monotonic_ns()
        line = f"{kind} {self.name} {self.incarnation} {name} {incarnation} {stamp} {os.getpid()}\n"
        with contextlib.suppress(BrokenPipeError):  # whoever listened is gone, and so will this mesh be
            os.write(self._reports, line.encode())

    def _take_orders(self, path: str) -> socket.socket:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        orders = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        orders.bind(path)
        asyncio.get_running_loop().add_reader(orders, self._obey, orders)
        return orders

    def _obey(self, orders: socket.socket) -> None:
        order = orders.recv(64).decode()
        self.report(order)
        _ORDERS[order]()


class Watcher(Probe):
    """Looks at its ``peers`` all the time; reports one whose life is older than a life of it that was known before."""

    async def run(self) -> None:
        self.report("ready")
        newest: dict[str, int] = {}
        while True:
            for name, peer in self.peers.items():
                if peer.incarnation < newest.setdefault(name, peer.incarnation):
                    self.report("back", peer)
                newest[name] = peer.incarnation
            await asyncio.sleep(_LOOK)

    async def on_peer_up(self, peer: Peer) -> None:
        await super().on_peer_up(peer)
        known = self.peers.get(peer)
        if known is not None and known.incarnation < peer.incarnation:
            self.report("back", known)


def _sleep() -> NoReturn:
    while True:
        time.sleep(1000)


def _deadlock() -> None:
    lock = threading.Lock()
    with lock, lock:
        pass


def _spin() -> NoReturn:
    while True:
        pass


_ORDERS: dict[str, Callable[[], None]] = {"sleep": _sleep, "deadlock": _deadlock, "spin": _spin}


class Busy(Probe):
    """Does the work that ``settings["work"]`` names, for ever, and is well all the time."""

    async def run(self) -> None:
        self.report("ready")
        work = {"slices": self._slices, "loop-gil": self._loop_gil, "chat": self._chat}.get(self.settings["work"])
        if work is not None:
            await work()
        over = threading.Event()
        thread = threading.Thread(target=_THREADS[self.settings["work"]], args=(over,))
        thread.start()
        try:
            await asyncio.Event().wait()
        finally:
            over.set()
            thread.join()

    async def on_message(self, message: Message) -> None:
        await self.send(message.sender, message.body)

    async def _slices(self) -> None:
        while True:
            _compute()
            await asyncio.sleep(0)

    async def _loop_gil(self) -> None:
        while True:
            _hold_the_gil()
            await asyncio.sleep(0)

    async def _chat(self) -> None:
        """Keep 64 messages going round between this worker and its partner; both stop with it."""
        for _ in range(64):
            await self.send(self.settings["partner"], b"x" * 64)
        await asyncio.Event().wait()


def _compute() -> None:
    until = time.monotonic() + _SLICE
    while time.monotonic() < until:
        pass


def _hold_the_gil() -> None:
    """Keep the interpreter's lock for 20-30 ms of one core: ``sum`` over a range never lets go of it."""
    sum(range(1_700_000))


def _compute_in_thread(over: threading.Event) -> None:
    while not over.is_set():
        _compute()


def _gil_in_thread(over: threading.Event) -> None:
    while not over.is_set():
        _hold_the_gil()


_THREADS: dict[str, Callable[[threading.Event], None]] = {"thread": _compute_in_thread, "thread-gil": _gil_in_thread}
