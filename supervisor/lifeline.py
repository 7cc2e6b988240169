"""The supervisor's end of a lifeline: a conversation that a silent worker can neither block nor grow.

What is on its way out is one batch at most. While it is stuck (the worker is stopped, or busy), news of the roster
are kept as the latest record per node, and become the next batch.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable, Sequence

from ..shared.control import lifeline
from ..shared.core.roster import NodeRecord

_READ_SIZE = 65_536
_DRAIN_READS = 64  # what the socket of a dead process can hold; a descendant of it may still hold the other end


class Lifeline:
    """One worker's lifeline. ``ended`` is called once, when there is nothing more to hear.

    It gets the reason, and whether the worker is beyond doubt to blame (it sent garbage) or may just be dying.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        received: Callable[[lifeline.FromWorker], None],
        ended: Callable[[str, bool], None],
    ) -> None:
        self._loop = loop
        self._socket = sock
        self._received = received
        self._ended = ended
        self._reader = lifeline.supervisor_end()
        self._outgoing = b""
        self._descriptors: tuple[int, ...] = ()
        self._news: dict[str, NodeRecord] = {}
        self._wanted: lifeline.LinksWanted | None = None
        self._stopping = False
        self._reading = True
        self._writing = False
        self._closed = False
        loop.add_reader(sock, self._read)

    def pass_on(self, received: Callable[[lifeline.FromWorker], None], ended: Callable[[str, bool], None]) -> None:
        """Let others hear what comes from now on."""
        self._received, self._ended = received, ended

    def assign(self, assignment: lifeline.Assignment | lifeline.Reserve, descriptors: Sequence[int] = ()) -> None:
        """Say the first word: who the worker is. It gets copies of ``descriptors``, as the assignment names them.

        To a spare, which has got a ``Reserve`` first, the assignment goes before all news that it has not been sent.
        """
        self._outgoing += lifeline.encode(assignment)
        self._descriptors += tuple(descriptors)
        self._flush()

    def tell(self, records: Iterable[NodeRecord]) -> None:
        """Pass on what changed in the roster, now or as soon as the worker listens."""
        self._news.update((record.name, record) for record in records)
        self._flush()

    def want_links(self, question: lifeline.LinksWanted) -> None:
        """Ask for a ``LinkReport``. Whoever asks waits for it before the next question, or does without."""
        self._wanted = question
        self._flush()

    def say(self, message: lifeline.Begin | lifeline.HandOver) -> None:
        """Say what is said once at most, after all that is on its way."""
        self._outgoing += lifeline.encode(message)
        self._flush()

    def stop(self) -> None:
        """Ask the worker to end."""
        self._stopping = True
        self._flush()

    def close(self) -> None:
        """End the conversation; the worker takes it for our death."""
        if self._closed:
            return
        self._closed = True
        if self._reading:
            self._loop.remove_reader(self._socket)
        if self._writing:
            self._loop.remove_writer(self._socket)
        self._socket.close()

    def _flush(self) -> None:
        while not self._closed:
            if not self._outgoing:
                self._outgoing = self._next_batch()
            if not self._outgoing:
                break
            try:
                if self._descriptors:
                    sent = socket.send_fds(self._socket, [self._outgoing], self._descriptors)
                else:
                    sent = self._socket.send(self._outgoing)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                # The reading side hears of it too, after what the worker still had to say.
                self._outgoing = b""
                self._news.clear()
                self._wanted, self._stopping = None, False
                break
            self._outgoing, self._descriptors = self._outgoing[sent:], ()
        self._watch_for_room()

    def _next_batch(self) -> bytes:
        batch = b""
        if self._news:
            batch += lifeline.encode(lifeline.RosterNews(tuple(self._news.values())))
            self._news.clear()
        if self._wanted is not None:
            batch += lifeline.encode(self._wanted)
            self._wanted = None
        if self._stopping:
            batch += lifeline.encode(lifeline.Stop())
            self._stopping = False
        return batch

    def _watch_for_room(self) -> None:
        if self._closed or bool(self._outgoing) == self._writing:
            return
        self._writing = bool(self._outgoing)
        if self._writing:
            self._loop.add_writer(self._socket, self._flush)
        else:
            self._loop.remove_writer(self._socket)

    def _read(self) -> None:
        try:
            data = self._socket.recv(_READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except ConnectionResetError:  # closed while news were on their way to it
            data = b""
        except OSError as error:
            self._end(f"its lifeline broke: {error.strerror}", garbled=False)
            return
        if not data:
            self._end("it closed its lifeline", garbled=False)
            return
        try:
            messages = self._reader.receive(data)
        except lifeline.LifelineError as error:
            self._hand_out(error.before)
            if not self._closed:  # by whoever heard what came before
                self._end(f"it sent garbage over its lifeline: {error}", garbled=True)
            return
        self._hand_out(messages)

    def _hand_out(self, messages: Iterable[lifeline.FromWorker]) -> None:
        for message in messages:
            self._received(message)

    def drain(self) -> None:
        """Hear what a dead worker said last; what makes no sense any more is nobody's business."""
        for _ in range(_DRAIN_READS):
            try:
                data = self._socket.recv(_READ_SIZE)
                messages = self._reader.receive(data)
            except lifeline.LifelineError as error:
                self._hand_out(error.before)
                return
            except OSError:
                return
            if not data:
                return
            self._hand_out(messages)

    def _end(self, reason: str, *, garbled: bool) -> None:
        self._reading = False
        self._loop.remove_reader(self._socket)
        self._ended(reason, garbled)
