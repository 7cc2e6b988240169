"""What a worker says of its links when the supervisor asks, and what that is made of for whoever asks the supervisor.

Every link has two ends, and each end has a view of its own: who dialled knows the round trip of the handshake, who
sent knows what is not acknowledged, and only an end whose process answers can say anything at all.

There may be ten thousand of these at once, so the collector of cycles, of which they have none, passes them by: to it,
they would be 20 ms in which the supervisor does nothing else.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Annotated, Any

import msgspec

from ..core.states import ConnectionState

MAX_FAILURE = 300
"""The longest text that says why a link failed, in characters."""

# JSON knows neither infinity nor NaN, and a worker may say anything.
_Seconds = Annotated[float, msgspec.Meta(ge=0.0, le=1e9)]
_Phi = Annotated[float, msgspec.Meta(ge=0.0, le=1000.0)]
_Count = Annotated[int, msgspec.Meta(ge=0)]
_Failure = Annotated[str, msgspec.Meta(max_length=MAX_FAILURE)]

MAX_PHI = 1000.0
"""More suspicion than this is not told: it grows without bounds."""


class LinkStatus(msgspec.Struct, frozen=True, gc=False, array_like=True, forbid_unknown_fields=True):
    """One end of the link to ``peer``. Durations in seconds.

    ``incarnation`` is the peer's that is linked (0: none). ``age`` is how long ago the link came up, or went: the state
    may have changed since. ``srtt`` and ``rttvar`` (RFC 6298) begin with the handshake's round trip, which the end that
    dialled measures, authentication included; within one machine nothing is measured after it, because such links do
    not ping. ``phi`` is the suspicion that the peer is gone, 0 where nobody pings. Bytes are those of the link's
    connections, messages those accepted for and received from the peer, calls the frames of calls (a request, a reply
    and a cancel are one each). ``replay_depth`` is how many of both wait for their acknowledgement, ``reconnects`` how
    often the link got another connection after it had lost one. ``failure`` is why it last lost one or was not to be
    had (empty: never), ``failed`` how long ago that was.

    It travels without the names of its fields, of which a mesh of 100 nodes has 9,900; ``named`` gives them back.
    """

    peer: str
    incarnation: _Count
    state: ConnectionState
    age: _Seconds
    srtt: _Seconds | None = None
    rttvar: _Seconds | None = None
    phi: _Phi = 0.0
    bytes_in: _Count = 0
    bytes_out: _Count = 0
    messages_in: _Count = 0
    messages_out: _Count = 0
    calls_in: _Count = 0
    calls_out: _Count = 0
    replay_depth: _Count = 0
    reconnects: _Count = 0
    failure: _Failure = ""
    failed: _Seconds | None = None


def named(link: LinkStatus) -> dict[str, Any]:
    """Return ``link`` as an object of JSON, for people's programs."""
    return msgspec.structs.asdict(link)


class LinkTotals(msgspec.Struct, frozen=True, gc=False):
    """What all links of one incarnation of a worker carried, those that are over included."""

    bytes_in: _Count = 0
    bytes_out: _Count = 0
    messages_in: _Count = 0
    messages_out: _Count = 0
    calls_in: _Count = 0
    calls_out: _Count = 0
    reconnects: _Count = 0

    def plus(self, *links: LinkTotals | LinkStatus) -> LinkTotals:
        """Return the sum of this and ``links``."""
        return LinkTotals(*map(sum, zip(*map(_figures, (self, *links)), strict=True)))


_figures = attrgetter(*LinkTotals.__struct_fields__)
