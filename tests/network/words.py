"""What a machine and the laboratory say to each other, in lines of JSON."""

from __future__ import annotations

from typing import Literal

import msgspec

from .wire import Side

Event = Literal["ready", "linked", "up", "down", "suspected", "state", "large", "lost", "done"]


class Task(msgspec.Struct, frozen=True):
    """What a machine is to be. Durations in seconds; ``endpoints`` are where the host listens, or the manager dials.

    A message goes out every ``pace`` seconds.
    """

    side: Side
    address: str
    endpoints: list[str]
    interval: float
    timeout: float
    expiry: float
    pace: float


class Order(msgspec.Struct, frozen=True):
    """What a machine is to do now; it says ``done`` with the order's name when that is so.

    ``address``: have ``value`` instead of its address. ``up``, ``down``: switch its interface. ``large``: let the next
    message have ``size`` bytes. ``rest``: send nothing new, and wait until everything is acknowledged. ``work``: go on
    sending. ``tell``: nothing, but say how things stand. ``stop``: close the link and end.
    """

    do: Literal["address", "up", "down", "large", "rest", "work", "tell", "stop"]
    value: str = ""
    size: int = 0


class Seen(msgspec.Struct, frozen=True):
    """Something that happened on a machine, ``at`` seconds on the clock that all machines of the test share.

    ``linked`` (a new session began), ``up`` and ``down`` (the link got, or lost, a connection), ``suspected``,
    ``state`` (the manager's), ``large`` (a message of more than 64 KiB was taken), ``lost`` (the session's peer was
    lost; ``first``, ``last``, ``count`` as in ``PeerLost``). The other numbers count messages of the present session:
    ``misplaced`` came again, too early or too late, ``damaged`` is not what was sent under its number.
    """

    event: Event
    at: float
    text: str = ""
    sent: int = 0
    received: int = 0
    misplaced: int = 0
    damaged: int = 0
    first: int = 0
    last: int = 0
    count: int = 0
