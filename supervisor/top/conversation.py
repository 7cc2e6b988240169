"""Questions to the supervisor of a mesh without ever waiting for an answer: whoever asks is called when it is there."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path

import zmq

from ...shared.control.requests import Answer, Question, RequestError, decode_reply, encode_request
from ..directory import find_running, open_directory

PATIENCE = 5.0
"""Seconds after which the first answer to a question is not expected any more."""

_LARGEST_REPLY = 64 * 1024 * 1024
_MOST_OPEN = 32

Heard = Callable[[Answer], bool]
"""Takes an answer; returns whether more are to come."""


class Conversation:
    """With the supervisor of the mesh ``name`` whose runtime directory is in ``base``, over all its lives."""

    def __init__(self, base: Path, name: str) -> None:
        self._base = base
        self._name = name
        self._numbers = count(1)
        self._open: dict[int, tuple[Heard, float]] = {}
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._socket: zmq.Socket[bytes] | None = None
        self._directory = self._process = -1

    @property
    def is_open(self) -> bool:
        """Whether there is somebody to talk to, as far as known."""
        return self._socket is not None

    @property
    def descriptors(self) -> list[int]:
        """What becomes readable when ``listen`` has something to do."""
        return [int(self._socket.get(zmq.FD)), self._process] if self._socket is not None else []

    def begin(self) -> bool:
        """Find the supervisor; return whether there is one."""
        if self._socket is not None:
            return True
        pid = find_running(self._base, self._name)
        if pid is None:
            return False
        try:
            self._directory = open_directory(self._base, self._name)
            self._process = os.pidfd_open(pid)
        except OSError:
            self.end()
            return False
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.set(zmq.LINGER, 0)
        self._socket.set(zmq.MAXMSGSIZE, _LARGEST_REPLY)
        self._socket.set(zmq.RECONNECT_IVL, 10)
        # Socket addresses are short and directories are not: the way through the descriptor has any length.
        self._socket.connect(f"ipc:///proc/self/fd/{self._directory}/control")
        return True

    def end(self) -> None:
        """Hang up; what was asked is not answered any more."""
        self._open.clear()
        if self._socket is not None:
            self._socket.close(linger=0)
        if self._context is not None:
            self._context.destroy(linger=0)
        for descriptor in (self._directory, self._process):
            if descriptor >= 0:
                os.close(descriptor)
        self._socket = self._context = None
        self._directory = self._process = -1

    def ask(self, question: Question, heard: Heard) -> bool:
        """Have ``heard`` called with what is answered, if anybody does in time; return whether it was asked at all."""
        if self._socket is None or len(self._open) >= _MOST_OPEN:
            return False
        number, deadline = next(self._numbers), time.monotonic() + PATIENCE
        try:
            self._socket.send(encode_request(number, question, deadline), zmq.NOBLOCK)
        except zmq.Again:  # a supervisor that stands still takes nothing any more
            return False
        self._open[number] = (heard, deadline)
        return True

    def listen(self) -> bool:
        """Take what has come; return whether the supervisor still lives."""
        if self._socket is None:
            return False
        # The descriptor is edge-triggered: all of it is taken.
        with suppress(zmq.Again):
            while True:
                self._take(self._socket.recv(zmq.NOBLOCK))
        now = time.monotonic()
        for number in [number for number, (_, deadline) in self._open.items() if deadline < now]:
            del self._open[number]
        poll = select.poll()
        poll.register(self._process, select.POLLIN)
        return not poll.poll(0)

    def _take(self, data: bytes) -> None:
        try:
            reply = decode_reply(data)
        except RequestError:
            return
        heard, _ = self._open.pop(reply.id, (None, 0.0))
        if heard is not None and heard(reply.body):
            self._open[reply.id] = (heard, float("inf"))
