"""Finds cycles of back-pressure: ``on_message`` of a waits for room at b, whose ``on_message`` waits for room at a.

Such a circle moves again only if somebody stops waiting, and from outside it looks like idleness. So a node whose
``on_message`` has waited for a second sends a probe after the message; a node that waits as well passes it on; and
when it comes back to where it began, the circle is closed and is named in the log (edge chasing, after Chandy, Misra
and Haas, 1983). Probes travel on the calls lane, which no back-pressure holds up.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from ..shared.errors import LinkClosed, PeerLeft, PeerLost
from .inbox import Link
from .lane import PROBE, Probe, encode

FIRST_PROBE = 1.0
"""Seconds of waiting after which the first probe goes out; further ones follow at growing intervals."""

_SETTLED = 0.1
"""Seconds of waiting before a node passes probes on: until then, room may be on its way."""

_LONGEST_PATH = 64

log = logging.getLogger("meshvisor.worker")


class Standstill:
    """What one node's ``on_message`` waits for, and the probes about it."""

    def __init__(self, own: str) -> None:
        self._own = own
        self._waits_for: Link | None = None
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._is_told = False

    def begin(self, link: Link) -> None:
        """``on_message`` waits for room on ``link`` from now on."""
        self._waits_for = link
        self._since = asyncio.get_running_loop().time()
        self._plan(FIRST_PROBE)

    def end(self) -> None:
        """It does not wait any more."""
        self._waits_for = None
        self._is_told = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def receive(self, probe: Probe) -> None:
        """Pass ``probe`` on if we wait as well, or find that it is our own."""
        link = self._waits_for
        if link is None or not probe.path:
            return
        if probe.path[0] == self._own:
            self._tell([*probe.path, self._own])
        elif (
            self._own not in probe.path
            and len(probe.path) < _LONGEST_PATH
            and asyncio.get_running_loop().time() - self._since >= _SETTLED
        ):
            self._post(link, [*probe.path, self._own])

    def _plan(self, delay: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(delay, self._probe, delay)

    def _probe(self, delay: float) -> None:
        if self._waits_for is None:
            return
        # The one who closes a circle may have begun to wait after our probe had come to its end: ask again.
        self._plan(2 * delay)
        self._post(self._waits_for, [self._own])

    def _tell(self, circle: list[str]) -> None:
        if not self._is_told:
            self._is_told = True
            log.warning(
                "standstill: on_message waits in a circle for room to send: %s. Each waits for the next one to handle"
                " messages; send from a task of your own, or with a timeout",
                " -> ".join(circle),
            )

    @staticmethod
    def _post(link: Link, path: list[str]) -> None:
        with contextlib.suppress(PeerLost, PeerLeft, LinkClosed):  # Whoever waits for that link hears of it as well.
            link.post(encode((PROBE, path)))
