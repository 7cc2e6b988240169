"""Failures on demand: any transport with the faults that a network has, drawn from a seed or scripted by a test.

``ChaosTransportAdapter`` wraps the adapter of a node, and so the near end of every stream that the node dials or
accepts. Give each node an adapter of its own, and each of them can be cut off by itself. ``ChaosStream`` does the same
to one stream. What can go wrong is told by ``ChaosOptions``; the cases are those of toxiproxy, and some that only an
end of a connection can produce (lost, cut and flipped bytes, a silent half-open peer).

On virtual time the same seed gives the same run, to the byte and to the nanosecond.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter

from ..core.endpoint import Endpoint
from .base import Listener, Stream, TransportAdapter, TransportConnection, TransportOptions
from .chaos_faults import ChaosOptions, Direction, Fault, Operation
from .chaos_path import Clock, Sleep
from .chaos_stream import ChaosStream, StreamWatcher

_MAX_LINGERING = 1024
"""Closed streams that may be on their way to their end (slow, or in a black hole) before the oldest is aborted."""


class ChaosConnection:
    """A live connection: both streams of a dialled one, control first, or the one stream that was accepted.

    ``number`` counts the connections of the adapter from 1. (An accepted connection is two of them: which streams
    belong together is said only inside of them.)
    """

    def __init__(self, adapter: ChaosTransportAdapter, number: int, endpoint: Endpoint, *, is_accepted: bool) -> None:
        self.number = number
        self.endpoint = endpoint
        self.is_accepted = is_accepted
        self.streams: tuple[ChaosStream, ...] = ()
        self._adapter = adapter

    def __repr__(self) -> str:
        return f"<ChaosConnection {self.number} {'from' if self.is_accepted else 'to'} {self.endpoint}>"

    @property
    def is_ended(self) -> bool:
        """Whether each of its streams was closed or cut."""
        return all(stream.is_ended for stream in self.streams)

    def cut(self) -> None:
        """Disconnect its streams for good."""
        for stream in self.streams:
            stream.cut()

    def black_hole(self, direction: Direction | str = Direction.BOTH) -> None:
        """Let nothing pass in ``direction`` until ``heal``."""
        for stream in self.streams:
            stream.black_hole(direction)

    def heal(self) -> None:
        """End the black holes; what they withheld arrives."""
        for stream in self.streams:
            stream.heal()

    # Told by the streams.

    def stream_cut(self, stream: ChaosStream) -> None:
        """See ``StreamWatcher``."""
        if self._adapter.shared_fate:
            self.cut()
        self._adapter.stream_ended(self, stream)

    def stream_black_holed(self, stream: ChaosStream, direction: Direction) -> None:
        """See ``StreamWatcher``."""
        if self._adapter.shared_fate:
            for other in self.streams:
                if other is not stream:
                    other.black_hole(direction)

    def stream_closed(self, stream: ChaosStream) -> None:
        """See ``StreamWatcher``."""
        self._adapter.stream_ended(self, stream)


class ChaosTransportAdapter:
    """A ``TransportAdapter`` over ``inner`` that does to its streams what ``options`` say, and what it is told to.

    ``control``, ``data`` and ``accepted`` take the place of ``options`` for the control streams and the data streams
    dialled, and for all streams accepted. With ``shared_fate`` a disconnect of one stream takes the other one of its
    connection, too. Each stream throws dice of its own, made from the ``seed`` of its options and its connection's
    number. ``clock`` and ``sleep`` are those of ``ChaosStream``.

    What is scripted (``black_hole``, ``heal``, ``calm``) holds for all connections, those to come included. Streams
    that end slowly, or in a black hole, outlive their ``close``; ``await close()`` here ends them.
    """

    def __init__(
        self,
        inner: TransportAdapter,
        options: ChaosOptions | None = None,
        *,
        control: ChaosOptions | None = None,
        data: ChaosOptions | None = None,
        accepted: ChaosOptions | None = None,
        shared_fate: bool = False,
        clock: Clock | None = None,
        sleep: Sleep | None = None,
    ) -> None:
        options = options or ChaosOptions()
        self.transport = inner.transport
        self.shared_fate = shared_fate
        self._inner = inner
        self._options = {
            "control": control or options,
            "data": data or options,
            "accepted": accepted or options,
        }
        self._clock = clock
        self._sleep = sleep
        self._numbers = itertools.count(1)
        self._live: dict[int, ChaosConnection] = {}
        self._lingering: list[ChaosStream] = []
        self._past: Counter[Fault] = Counter()
        self._holes: list[Direction] = []
        self._is_calm = False

    # Used as an adapter.

    async def connect(self, endpoint: Endpoint, options: TransportOptions, /) -> TransportConnection:
        """See ``TransportAdapter.connect``."""
        opened = await self._inner.connect(endpoint, options)
        control, data = self._wrap(endpoint, {"control": opened.control, "data": opened.data})
        return TransportConnection(control, data)

    async def listen(self, endpoint: Endpoint, options: TransportOptions, /) -> ChaosListener:
        """See ``TransportAdapter.listen``."""
        return ChaosListener(await self._inner.listen(endpoint, options), self)

    def wrap_accepted(self, stream: Stream, endpoint: Endpoint) -> ChaosStream:
        """Return ``stream``, which was accepted at ``endpoint``, with faults."""
        (wrapped,) = self._wrap(endpoint, {"accepted": stream})
        return wrapped

    def _wrap(self, endpoint: Endpoint, streams: dict[str, Stream]) -> tuple[ChaosStream, ...]:
        number = next(self._numbers)
        connection = ChaosConnection(self, number, endpoint, is_accepted="accepted" in streams)
        connection.streams = tuple(
            ChaosStream(
                stream,
                self._options[role],
                # From a text, since that is the same in every process, as a hash is not.
                rng=random.Random(f"{self._options[role].seed}/{number}/{role}"),
                clock=self._clock,
                sleep=self._sleep,
                watcher=connection,
            )
            for role, stream in streams.items()
        )
        self._live[number] = connection
        if self._is_calm:
            for wrapped in connection.streams:
                wrapped.calm()
        for direction in self._holes:
            connection.black_hole(direction)
        return connection.streams

    # Scripted while it runs.

    @property
    def connections(self) -> tuple[ChaosConnection, ...]:
        """The live connections, oldest first."""
        return tuple(self._live.values())

    @property
    def injected(self) -> Counter[Fault]:
        """How often each fault was injected, over all connections there ever were."""
        total = self._past.copy()
        for connection in self._live.values():
            total.update(_injected(connection))
        return total

    def cut(self) -> None:
        """Disconnect all live connections."""
        for connection in self.connections:
            connection.cut()

    def black_hole(self, direction: Direction | str = Direction.BOTH) -> None:
        """Let nothing pass in ``direction``, on connections to come neither, until ``heal``: a partition."""
        self._holes.append(Direction(direction))
        for connection in self.connections:
            connection.black_hole(direction)

    def heal(self) -> None:
        """End the black holes; what they withheld arrives, the end of streams closed meanwhile included."""
        self._holes.clear()
        for connection in self.connections:
            connection.heal()
        for stream in self._lingering:
            stream.heal()

    def calm(self) -> None:
        """Inject nothing from now on: heal, and forget the options."""
        self._is_calm = True
        self.heal()
        for connection in self.connections:
            for stream in connection.streams:
                stream.calm()

    async def close(self) -> None:
        """Close all streams at once, whatever is on its way, and wait until nothing of them runs any more."""
        remaining = [*self._lingering, *(stream for live in self.connections for stream in live.streams)]
        for stream in remaining:
            stream.abort()
        for stream in remaining:
            await stream.wait_closed()
        self._lingering.clear()

    # Told by the connections.

    def stream_ended(self, connection: ChaosConnection, stream: ChaosStream) -> None:
        """``stream`` was cut or closed; what is left of it may still be on its way to its end."""
        self._lingering = [lingering for lingering in self._lingering if not lingering.is_released]
        if not stream.is_released:
            self._lingering.append(stream)
            if len(self._lingering) > _MAX_LINGERING:
                self._lingering.pop(0).abort()
        if connection.is_ended and self._live.pop(connection.number, None) is not None:
            self._past.update(_injected(connection))


class ChaosListener:
    """A ``Listener`` whose streams have the faults of ``adapter``."""

    def __init__(self, inner: Listener, adapter: ChaosTransportAdapter) -> None:
        self.endpoint = inner.endpoint
        self._inner = inner
        self._adapter = adapter

    async def accept(self) -> ChaosStream:
        """See ``Listener.accept``."""
        return self._adapter.wrap_accepted(await self._inner.accept(), self.endpoint)

    def close(self) -> None:
        """See ``Listener.close``."""
        self._inner.close()


def _injected(connection: ChaosConnection) -> Counter[Fault]:
    return sum((stream.injected for stream in connection.streams), start=Counter())


_listener: type[Listener] = ChaosListener
_adapter: type[TransportAdapter] = ChaosTransportAdapter
_watcher: type[StreamWatcher] = ChaosConnection

__all__ = [
    "ChaosConnection",
    "ChaosListener",
    "ChaosOptions",
    "ChaosStream",
    "ChaosTransportAdapter",
    "Direction",
    "Fault",
    "Operation",
]
