"""Who has to do with a link: its owner, its receiver; and what can be said of the way it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ..errors import LinkClosed, PeerLeft, PeerLost

if TYPE_CHECKING:
    from .connection import ConnectionHandle

Lost = PeerLost | PeerLeft | LinkClosed


class HandleOwner(Protocol):
    """What runs a link behind its handle: it finds connections for it, and ends it."""

    def link_up(self, handle: ConnectionHandle) -> None:
        """A connection carries ``handle`` (again)."""

    def link_down(self, handle: ConnectionHandle, reason: str, *, broken: bool) -> None:
        """The connection of ``handle`` is gone."""

    def link_left(self, handle: ConnectionHandle) -> None:
        """The peer of ``handle`` said goodbye; ``finish`` is to be called."""

    def link_suspected(self, handle: ConnectionHandle) -> None:
        """The peer of ``handle`` is late, and did not answer a probe."""

    def link_recovered(self, handle: ConnectionHandle) -> None:
        """The suspected peer of ``handle`` was heard."""

    def round_trip(self, rtt: float) -> None:
        """A ping was answered after ``rtt`` seconds."""

    async def close_link(self, handle: ConnectionHandle) -> None:
        """The application is done with ``handle``."""


class Receiver(Protocol):
    """Takes what arrives, at once, instead of the handle's own inbox. Nothing here may raise."""

    def messages_received(self, link: ConnectionHandle, first: int, bodies: list[bytes | bytearray]) -> None:
        """Messages ``first``, ``first + 1``...; ``link.consumed`` is owed for them."""

    def calls_received(self, link: ConnectionHandle, bodies: list[bytes | bytearray]) -> None:
        """Frames of the calls lane; they count as consumed on return."""


@dataclass(frozen=True, slots=True)
class Path:
    """What is known of the current connection: round trip (seconds), suspicion, and its latest ping and pong."""

    srtt: float | None
    rttvar: float | None
    phi: float
    sent_at: float | None
    acked_at: float | None


NO_PATH = Path(None, None, 0.0, None, None)
"""There is no connection, or nobody measures it."""
