"""Telling whoever started us (systemd, or another supervisor) how the mesh is, in the way of sd_notify(3)."""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

from .event import Event, describe

VARIABLE = "NOTIFY_SOCKET"
_LONGEST_STATUS = 300


class Notifier:
    """Says READY=1 when the mesh is ready, STOPPING=1 when it stops, and STATUS=... with what has happened last.

    The variable is taken out of ``environment``: it is meant for us, not for our children. Without one, and when
    nobody listens, nothing is said; nobody is ever waited for.
    """

    def __init__(self, environment: MutableMapping[str, str] = os.environ) -> None:
        self._address = environment.pop(VARIABLE, "")
        self._socket: socket.socket | None = None
        if self._address.startswith(("/", "@")):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def event(self, event: Event) -> None:
        """Pass on what has happened."""
        if event.event == "mesh-ready":
            self._say("READY=1", _status(event))
        elif event.event == "mesh-stopping":
            self._say("STOPPING=1", _status(event))
        elif not event.is_minor:
            self._say(_status(event))

    def close(self) -> None:
        """Say nothing more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _say(self, *lines: str) -> None:
        if self._socket is None:
            return
        address = self._address.replace("@", "\0", 1) if self._address[0] == "@" else self._address
        try:
            self._socket.sendto("\n".join(lines).encode(errors="replace"), address)
        except OSError:  # gone, full, or not for us: what it missed is no reason to fail
            return


def _status(event: Event) -> str:
    sentence = " ".join(describe(event).split())
    return f"STATUS={sentence[:_LONGEST_STATUS]}"
