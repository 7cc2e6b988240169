"""Files that change, told by the kernel through watchfiles (an extra), which watches in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..shared.errors import SupervisorError

QUIET = 150
"""Milliseconds without another change that end a batch: an editor writes a file in several steps."""
LONGEST = 1500
"""Milliseconds after which a batch is told although changes go on."""

_IGNORED = frozenset({"__pycache__", ".git", ".hg", ".venv", "venv", "node_modules", "site-packages", ".meshvisor"})


class Sources:
    """Tells ``changed`` of files that have changed, in the loop of whoever starts it, until it is closed.

    Those are the Python files below ``folders``, except in folders that hold no sources, and ``files``. ``failed`` is
    called once with the reason, if the kernel has no watch to give.

    Raises:
        SupervisorError: If watchfiles is not installed.
    """

    def __init__(
        self,
        folders: Collection[Path],
        files: Collection[Path],
        changed: Callable[[frozenset[Path]], None],
        failed: Callable[[str], None],
    ) -> None:
        try:
            import watchfiles
        except ImportError:
            text = "--watch needs watchfiles, which is not installed: pip install 'meshvisor[watch]'"
            raise SupervisorError(text) from None
        self._watch: Any = watchfiles.watch
        self._folders = folders
        self._files = frozenset(files)
        self._changed = changed
        self._failed = failed
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._ended = asyncio.Event()

    def start(self) -> None:
        """Begin to watch."""
        loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, args=(loop,), name="meshvisor-sources", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """Watch no more: the thread, and that of watchfiles, have ended when this returns."""
        self._stopping.set()
        if self._thread is not None:
            await self._ended.wait()
            self._thread.join()

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        places = {*self._folders, *(file.parent for file in self._files)}
        # Of two folders of which one is in the other, the outer one is enough.
        outer = [place for place in places if not places & set(place.parents)]
        try:
            for batch in self._watch(
                *outer,
                watch_filter=self._is_wanted,
                debounce=LONGEST,
                step=QUIET,
                stop_event=self._stopping,
                raise_interrupt=False,
                ignore_permission_denied=True,
            ):
                self._tell(loop, self._changed, frozenset(Path(path) for _, path in batch))
        except Exception as error:  # of several kinds, and whatever it is, the mesh runs on without it
            self._tell(loop, self._failed, str(error))
        finally:
            self._tell(loop, self._ended.set)

    def _is_wanted(self, change: object, path: str) -> bool:
        file = Path(path)
        if file in self._files:
            return True
        if file.suffix != ".py":
            return False
        folder = next((folder for folder in self._folders if file.is_relative_to(folder)), None)
        return folder is not None and not _IGNORED & set(file.relative_to(folder).parts)

    @staticmethod
    def _tell(loop: asyncio.AbstractEventLoop, callback: Callable[..., object], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(callback, *arguments)
