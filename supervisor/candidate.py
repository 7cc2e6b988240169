"""A process that prepares itself to take the place of another one, which goes on meanwhile (a rolling restart).

It is forked or started, imports its class and makes an instance of it. That may fail, or take too long, and harms
nobody then: it has no name, and the slot has not changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from .child import Exit
from .identity import Identity
from .snapshot import ExitCause

if TYPE_CHECKING:
    from .life import Life

_PATIENCE = 5.0


class Candidate:
    """The owner of such a life, until a slot takes it. ``changed`` is called when it is prepared, or has ended.

    It is over when it was taken, or its process is dead.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, changed: Callable[[], None]) -> None:
        self.is_prepared = False
        self.trouble = ""  # why it ended
        self.life: Life
        self._loop = loop
        self._changed = changed
        self._began_at = loop.time()
        self._over = asyncio.Event()
        self._reason = ""  # why it is to end

    @property
    def is_over(self) -> bool:
        """Whether it is no candidate any more."""
        return self._over.is_set()

    @property
    def age(self) -> float:
        """Seconds since it was ordered."""
        return self._loop.time() - self._began_at

    def begin(self, life: Life, patience: float) -> None:
        """Order it; it may take ``patience`` seconds to be prepared."""
        self.life = life
        self._alarm = self._loop.call_later(patience, self._is_late, patience)
        life.begin()

    def take(self) -> Life:
        """Give its life away, to whoever calls ``take`` of that."""
        self._alarm.cancel()
        self._over.set()
        return self.life

    async def dismiss(self) -> None:
        """End it, unless it was taken, and wait until it is dead; what the kernel keeps longer is left to it."""
        if not self.is_over:
            self._end("it is not needed")
            with suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE):
                    await self._over.wait()

    def _is_late(self, patience: float) -> None:
        self._end(f"it was not prepared within {patience:g} s")

    def _end(self, reason: str) -> None:
        self._reason = self._reason or reason
        self.life.kill()

    # Told by its life.

    def born(self, pid: int) -> None:
        """See ``Owner.born``."""

    def recognised(self, identity: Identity) -> None:
        """See ``Owner.recognised``."""

    def listening(self, endpoints: tuple[str, ...]) -> None:
        """See ``Owner.listening``."""

    def prepared(self) -> None:
        """See ``Owner.prepared``."""
        self._alarm.cancel()
        self.is_prepared = True
        self._changed()

    def became_ready(self) -> None:
        """See ``Owner.became_ready``; what was not told to begin does not."""

    def condemned(self, fault: ExitCause | None, reason: str) -> None:
        """See ``Owner.condemned``."""
        self._end(reason)

    def hangs(self, reason: str) -> None:
        """See ``Owner.hangs``; nobody watches it yet."""

    def is_late(self, late: bool) -> None:
        """See ``Owner.is_late``."""

    def retired(self, reason: str) -> None:
        """See ``Owner.retired``; that is for who is ready."""

    def ended(self, exit: Exit) -> None:
        """See ``Owner.ended``."""
        self._alarm.cancel()
        how = f"it was killed by {exit.signal}" if exit.signal else f"it ended with status {exit.code}"
        self.trouble = exit.failure or self._reason or self.life.trouble or how
        self._over.set()
        self._changed()
