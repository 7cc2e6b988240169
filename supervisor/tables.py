"""What a running mesh keeps in shared memory, and who gets at it.

The memory is the supervisor's, so it outlives every worker. Workers get the descriptors with their assignment, other
processes of the same user over ``attach.sock``; there is no file that could stay behind.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress

import msgspec

from ..shared.core.penalties import FailureSeverity
from ..shared.errors import BlacklistError
from ..shared.memory.blacklist import SharedBlacklist
from ..shared.memory.board import CAPACITY, LivenessBoard
from ..shared.memory.entry import Penalty
from .attach import AttachServer
from .figures import BlacklistFigures


class Tables:
    """The shared memory of the mesh ``name``, which begins with ``workers`` of them.

    ``directory`` is a descriptor of its runtime directory.

    Raises:
        SegmentError: If there is no memory to be had.
        SupervisorError: If ``attach.sock`` cannot be bound.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, directory: int, name: str, workers: int = 0) -> None:
        self.blacklist = SharedBlacklist.create(source=name)
        try:
            self.board = LivenessBoard.create(max(CAPACITY, 2 * workers))
        except BaseException:
            self.blacklist.close()
            raise
        try:
            self._server = AttachServer(loop, directory, self._for_everybody)
        except BaseException:
            self._release()
            raise

    @property
    def descriptors(self) -> dict[str, int]:
        """What a worker needs, by the names that an ``Assignment`` has for it; they stay ours."""
        return {**self._for_everybody, "board": self.board.fileno()}

    @property
    def _for_everybody(self) -> dict[str, int]:
        return {"blacklist": self.blacklist.fileno(), "wake": self.blacklist.wake_fd}

    def penalties(self) -> tuple[Penalty, ...]:
        """Return what is barred now, the first to be free first."""
        with suppress(BlacklistError):  # it is closed
            found = sorted(self.blacklist.active(), key=lambda penalty: penalty.remaining)
            return tuple(msgspec.structs.replace(penalty, remaining=round(penalty.remaining, 3)) for penalty in found)
        return ()

    def figures(self) -> BlacklistFigures | None:
        """Return how the blacklist is doing; None if it is closed."""
        with suppress(BlacklistError):
            facts, found = self.blacklist.statistics(), Counter(one.severity for one in self.blacklist.active())
            entries = {severity: found[severity] for severity in FailureSeverity}
            return BlacklistFigures(entries, facts.capacity, facts.evictions, facts.contended)
        return None

    def close(self) -> None:
        """Serve nobody any more and let the memory go; those who have it mapped keep it."""
        self._server.close()
        self._release()

    def _release(self) -> None:
        self.blacklist.close()
        self.board.close()
