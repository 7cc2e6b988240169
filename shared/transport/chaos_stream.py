"""A stream on which everything that can go wrong does, as ``ChaosOptions`` ask and a seed decides."""

from __future__ import annotations

import asyncio
import errno
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from typing import Any, Protocol

from .base import Stream
from .chaos_faults import ChaosOptions, Direction, Fault, Faults, Moment, Operation, flip
from .chaos_path import Bell, Clock, Data, Line, Path, Sleep, Tunnel, closed_error


class StreamWatcher(Protocol):
    """Whoever wants to know what became of a stream. Nothing here may raise."""

    def stream_cut(self, stream: ChaosStream) -> None:
        """The stream was cut."""

    def stream_black_holed(self, stream: ChaosStream, direction: Direction) -> None:
        """A way of the stream became a black hole by its options."""

    def stream_closed(self, stream: ChaosStream) -> None:
        """The stream was closed by whoever uses it."""


class ChaosStream:
    """A ``Stream`` over ``inner``, which it owns. One reader and one writer at a time.

    ``rng`` throws the dice (None: ``random.Random(options.seed)``), ``clock`` tells the time in seconds (None: the
    event loop's), and ``await sleep(seconds)`` passes it (None: ``asyncio.sleep``). ``injected`` counts what was done.

    It has no ``socket`` even if ``inner`` has one, so that no driver goes around it. A cancelled read loses nothing;
    of a cancelled write any part may have passed.
    """

    def __init__(
        self,
        inner: Stream,
        options: ChaosOptions | None = None,
        *,
        rng: random.Random | None = None,
        clock: Clock | None = None,
        sleep: Sleep | None = None,
        watcher: StreamWatcher | None = None,
    ) -> None:
        options = options or ChaosOptions()
        self.injected: Counter[Fault] = Counter()
        self._faults = Faults(options, random.Random(options.seed) if rng is None else rng)
        self._message = options.disconnect_message
        self._clock = clock or _loop_time
        self._sleep = sleep or asyncio.sleep
        self._watcher = watcher
        self._began_at = self._clock()
        self._numbers = dict.fromkeys(Operation, 0)
        self._bytes = dict.fromkeys(Operation, 0)
        self._busy: set[Operation] = set()
        self._unread = b""
        self._interrupted = Bell()
        self._is_cut = False
        self._is_closed = False
        self._armed = options.disconnects
        # Without a watcher nobody would ever close what keeps silent.
        self._tunnel = Tunnel(inner, keeps_silence=watcher is not None)
        self._path: Path = self._tunnel
        if options.latency[1] or options.close_delay:
            self._path = Line(self._tunnel, self._faults, clock=self._clock, sleep=self._sleep)
        if options.half_open is not None and not self._armed:
            self.black_hole(options.half_open)

    # Used as a stream.

    async def read(self, limit: int, /) -> bytes:
        """See ``Stream.read``.

        Raises:
            OSError: Also by chaos: once when a read fails, for ever after a disconnect.
        """
        with self._one_at_a_time(Operation.READ):
            if not self._unread:
                verdict = await self._prelude(Operation.READ)
                if verdict is _Verdict.DROP:
                    return b""
                await self._receive(limit, verdict)
            data, self._unread = self._unread[:limit], self._unread[limit:]
            return data

    async def write(self, data: Data, /) -> None:
        """See ``Stream.write``.

        Raises:
            OSError: Also by chaos: once when a write fails, for ever after a disconnect.
        """
        with self._one_at_a_time(Operation.WRITE):
            octets = bytes(data)  # no copy of what is ``bytes`` already
            verdict = await self._prelude(Operation.WRITE)
            if verdict is _Verdict.DROP:
                return
            if octets and verdict is _Verdict.NOISE:
                octets = self._damaged(Operation.WRITE, octets)
                if not octets:
                    return
            await self._transmit(octets)
            await self._pause(self._faults.options.per_byte_delay * len(octets))

    def close(self) -> None:
        """See ``Stream.close``. What is on its way arrives, and the end of the stream after it."""
        self._finish(self._path.close)

    # Scripted while it runs.

    def cut(self) -> None:
        """Disconnect for good, at once: what is on its way is lost, and every operation raises from now on."""
        if self._is_cut or self._is_closed:
            return
        self._is_cut = True
        self.injected[Fault.DISCONNECT] += 1
        self._path.abort()
        self._interrupted.ring()
        if self._watcher is not None:
            self._watcher.stream_cut(self)

    def black_hole(self, direction: Direction | str = Direction.BOTH) -> None:
        """Let nothing pass in ``direction`` from now on, without any error, until ``heal``."""
        self.injected[Fault.BLACK_HOLE] += 1
        self._tunnel.black_hole(Direction(direction))

    def heal(self) -> None:
        """End the black holes; what they withheld arrives, in order."""
        self._tunnel.heal()

    def calm(self) -> None:
        """Inject nothing from now on: no fault of the options, no pause, no black hole. Nothing on its way is lost."""
        self._faults.options = ChaosOptions()
        self._armed = False
        self._interrupted.ring()
        self.heal()

    def abort(self) -> None:
        """Close the inner stream at once, whatever is on its way."""
        self._finish(self._path.abort)
        self._path.abort()

    @property
    def is_ended(self) -> bool:
        """Whether the stream was closed or cut."""
        return self._is_cut or self._is_closed

    @property
    def is_released(self) -> bool:
        """Whether the inner stream is closed. A slow close, or one into a black hole, takes its time."""
        return self._path.is_released

    async def wait_closed(self) -> None:
        """Wait until nothing of a stream that was closed or cut runs any more."""
        await self._path.wait_closed()

    def _finish(self, close: Callable[[], None]) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        if self._is_cut:
            return
        close()
        self._interrupted.ring()
        if self._watcher is not None:
            self._watcher.stream_closed(self)

    # One operation.

    @contextmanager
    def _one_at_a_time(self, operation: Operation) -> Iterator[None]:
        if operation in self._busy:
            raise RuntimeError(f"two tasks {operation} one chaos stream")
        self._check()
        self._busy.add(operation)
        try:
            yield
        except OSError:
            self._check()  # An error of the inner stream that follows from a cut is not its own.
            raise
        finally:
            self._busy.discard(operation)

    def _check(self) -> None:
        if self._is_cut:
            raise ConnectionResetError(self._message)
        if self._is_closed:
            raise closed_error()

    async def _prelude(self, operation: Operation) -> _Verdict:
        """Go through everything that precedes the inner operation; return what remains to be done to it.

        Raises:
            OSError: If that is a disconnect or a failure.
        """
        moment = self._next(operation)
        faults = self._faults
        if self._armed and (self._cut_is_due() or faults.disconnects(moment, sum(self._numbers.values()))):
            self._disconnect()
        await self._pause(faults.stall(moment), Fault.STALL)
        if not faults.is_noisy(moment):
            return _Verdict.PASS
        await self._pause(faults.delay(), Fault.DELAY)
        if faults.fails(operation):
            self.injected[Fault.FAILURE] += 1
            raise OSError(errno.EIO, f"chaos: the {operation} failed")
        if faults.drops(operation):
            self.injected[Fault.DROP] += 1
            return _Verdict.DROP
        return _Verdict.NOISE

    def _next(self, operation: Operation) -> Moment:
        self._numbers[operation] += 1
        elapsed = self._clock() - self._began_at
        return Moment(operation, self._numbers[operation], self._bytes[operation], elapsed)

    async def _receive(self, limit: int, verdict: _Verdict) -> None:
        """Read from the inner stream into ``_unread``, where it survives the cancellation of what follows."""
        faults = self._faults
        data = await self._path.read(self._up_to_the_cut(faults.piece(limit)))
        size = len(data)
        if size and verdict is _Verdict.NOISE:
            data = self._damaged(Operation.READ, data)
        self._unread = data
        self._bytes[Operation.READ] += size
        await self._pause(faults.options.per_byte_delay * size + faults.transmission(size))
        if self._armed and self._cut_is_due():
            self._disconnect(raises=False)

    async def _transmit(self, octets: bytes) -> None:
        """Write to the inner stream, piece by piece where the options ask for it."""
        faults = self._faults
        sent = 0
        while True:
            size = self._up_to_the_cut(faults.piece(len(octets) - sent))
            await self._pause(faults.transmission(size))
            await self._path.write(octets[sent : sent + size])
            sent += size
            self._bytes[Operation.WRITE] += size
            if self._armed and self._cut_is_due():
                self._disconnect(raises=sent < len(octets))
            if sent >= len(octets):
                return
            await asyncio.sleep(0)  # Else the pieces would be one again before anybody could read them.

    def _damaged(self, operation: Operation, data: bytes) -> bytes:
        left = self._faults.truncated(operation, len(data))
        if left < len(data):
            self.injected[Fault.TRUNCATION] += 1
            data = data[:left]
        bits = self._faults.flipped_bits(operation, len(data))
        if bits:
            self.injected[Fault.FLIP] += 1
            data = flip(data, bits)
        return data

    async def _pause(self, seconds: float, fault: Fault | None = None) -> None:
        """Let ``seconds`` pass, or fewer if the stream ends or calms down before.

        Raises:
            OSError: If it ended.
        """
        if seconds <= 0:
            return
        if fault is not None:
            self.injected[fault] += 1
        sleeping: asyncio.Future[object] = asyncio.ensure_future(self._sleep(seconds))
        interrupted = self._interrupted.next()
        either: list[asyncio.Future[Any]] = [sleeping, interrupted]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            interrupted.cancel()
            sleeping.cancel()
            await asyncio.wait([sleeping])
        if not sleeping.cancelled():
            sleeping.result()
        self._check()

    # The disconnect that the options ask for.

    def _cut_is_due(self) -> bool:
        limit = self._faults.options.disconnect_at_byte
        return limit is not None and sum(self._bytes.values()) >= limit

    def _up_to_the_cut(self, size: int) -> int:
        limit = self._faults.options.disconnect_at_byte
        if limit is None or not self._armed:
            return size
        return min(size, max(1, limit - sum(self._bytes.values())))

    def _disconnect(self, *, raises: bool = True) -> None:
        """Do what the options want done where they want a disconnect, once."""
        self._armed = False
        half_open = self._faults.options.half_open
        if half_open is None:
            self.cut()
            if raises:
                self._check()
            return
        self.black_hole(half_open)
        if self._watcher is not None:
            self._watcher.stream_black_holed(self, Direction(half_open))


class _Verdict(Enum):
    """What remains to be done to an operation once it was let through to the inner stream, or not."""

    PASS = auto()
    NOISE = auto()
    DROP = auto()


def _loop_time() -> float:
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return time.monotonic()  # Made outside of a loop; it is what a loop's time is, as a rule.


_stream: type[Stream] = ChaosStream
