"""A worker's slot on the liveness board, from its assignment to its end; without a board, nothing at all."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from ..shared.control.lifeline import Assignment, Failure, FromWorker, Links, Listening, Ready
from ..shared.errors import SegmentError
from ..shared.memory.board import LivenessBoard, Stage
from .pulse import Pulse, PulsedLoop

log = logging.getLogger("meshvisor.worker")


_UNWATCHED = "no liveness board, so that a hang of this worker will not be noticed: %s"


def open_board(descriptors: Mapping[str, int]) -> LivenessBoard | None:
    """Return the board that is among the ``descriptors`` of a lifeline; None, which is logged, if it is no board."""
    try:
        return LivenessBoard.attach(descriptors["board"]) if "board" in descriptors else None
    except SegmentError as error:
        log.error(_UNWATCHED, error)
        return None


class Presence:
    """Says on the board what the worker tells its supervisor, and keeps its pulse, from ``begin`` on.

    Without a ``board`` (see ``open_board``), or a place on it, which is logged, this does nothing.
    """

    def __init__(self, board: LivenessBoard | None, loop: asyncio.AbstractEventLoop) -> None:
        self._board = board
        self._loop = loop
        self._pulse: Pulse | None = None

    def begin(self, assignment: Assignment) -> None:
        """Take the place on the board that ``assignment`` names."""
        board, loop = self._board, self._loop
        if board is None:
            return
        selector = loop.pulsed.fileno() if isinstance(loop, PulsedLoop) else -1
        try:
            writer = board.claim(
                assignment.board_index, assignment.name, assignment.incarnation, assignment.epoch, selector=selector
            )
        except SegmentError as error:
            log.error(_UNWATCHED, error)
            return
        self._pulse = Pulse(writer, loop, beat=assignment.beat)
        self._pulse.start()

    def count_messages(self, count: Callable[[], tuple[int, int]]) -> None:
        """Have ``count`` asked from now on how many messages came and went."""
        if self._pulse is not None:
            self._pulse.count_messages = count

    def heard(self, message: FromWorker) -> None:
        """Take note of what the supervisor is told."""
        if self._pulse is None:
            return
        if isinstance(message, Links):
            self._pulse.links_up = message.up
        elif isinstance(message, Listening):
            self._pulse.writer.set_endpoints(message.endpoints)
            self._pulse.writer.set_stage(Stage.LISTENING)
        elif isinstance(message, Ready):
            self._pulse.writer.set_stage(Stage.READY)
        elif isinstance(message, Failure):
            self.stopping()

    def stopping(self) -> None:
        """Say that the worker is on its way out: from now on it is not judged by its turns."""
        if self._pulse is not None:
            self._pulse.writer.set_stage(Stage.STOPPING)

    def end(self) -> None:
        """Stamp no more, and forget the board."""
        if self._pulse is not None:
            self._pulse.stop()
        self._pulse = self._board = None

    def lag_of(self, name: str) -> float | None:
        """Return how far the loop of node ``name`` is behind, in seconds; None if that is not known."""
        entry = self._board.find(name) if self._board is not None else None
        return entry.lateness(time.monotonic()) if entry is not None else None
