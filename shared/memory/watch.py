"""How a process hears that others have changed something in shared memory.

Whoever changes something adds 1 to an eventfd that all share, which nobody ever reads. Each process has it in an
``epoll`` of its own, edge-triggered, so that each of them sees every change, whoever else does, and the one who
changes makes one system call however many there are. That ``epoll`` is a descriptor like any other: the running event
loop watches it, or a thread of ours does where there is no loop.

Without that eventfd (a file that others find by its path) there is nothing to be woken by, and a watcher looks every
``INTERVAL`` seconds.
"""

from __future__ import annotations

import asyncio
import os
import select
import threading
from collections.abc import Callable

from ..errors import BlacklistError

INTERVAL = 0.1
"""How often a watcher looks that nothing wakes, in seconds."""


def eventfd_of(wake_fd: int | None, *, new: bool = False) -> int:
    """Return a descriptor of our own for the eventfd ``wake_fd``; without one, of a new one, or -1.

    Raises:
        BlacklistError: If it is not an eventfd.
    """
    if wake_fd is None or wake_fd < 0:
        return os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) if new else -1
    name = f"wake-up (descriptor {wake_fd})"
    try:
        if os.readlink(f"/proc/self/fd/{wake_fd}") != "anon_inode:[eventfd]":
            raise BlacklistError(name, "not an eventfd")
        own = os.dup(wake_fd)
    except OSError as error:
        raise BlacklistError(name, f"cannot be used: {error.strerror}") from error
    os.set_blocking(own, False)
    return own


def ring(wake_fd: int) -> None:
    """Wake every watcher of an eventfd, in all processes."""
    try:
        os.eventfd_write(wake_fd, 1)
    except BlockingIOError:  # somebody has counted up to the end: begin anew
        os.eventfd_read(wake_fd)
        os.eventfd_write(wake_fd, 1)


class Watcher:
    """Calls ``look`` whenever something may have changed, until it is stopped."""

    def __init__(self, look: Callable[[], None], wake_fd: int) -> None:
        self._look = look
        self._patience = None if wake_fd >= 0 else INTERVAL
        # Re-entrant: a signal handler may change something, too.
        self._guard = threading.RLock()
        self._poke = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll = select.epoll()
        for descriptor in (self._poke, wake_fd):
            if descriptor >= 0:
                self._epoll.register(descriptor, select.EPOLLIN | select.EPOLLET)

    def poke(self) -> None:
        """Have it look soon; from any thread."""
        with self._guard:
            if not self._epoll.closed:
                os.eventfd_write(self._poke, 1)

    def stop(self) -> None:
        """Look no more; from any thread."""
        raise NotImplementedError

    def abandon(self) -> None:
        """Let go of what a forked child has inherited; the parent's watcher goes on."""
        self._guard = threading.RLock()
        self._release()

    def _release(self) -> None:
        with self._guard:
            if not self._epoll.closed:
                self._epoll.close()
                os.close(self._poke)


class LoopWatcher(Watcher):
    """Looks on the event loop that runs where it is made."""

    def __init__(self, look: Callable[[], None], wake_fd: int) -> None:
        super().__init__(look, wake_fd)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._loop.add_reader(self._epoll.fileno(), self._woken)
        self._wait()

    def stop(self) -> None:
        """Look no more."""
        if not self._loop.is_running() or current_loop() is self._loop:
            self._stop()
        else:
            self._loop.call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        if self._epoll.closed:
            return
        if self._timer is not None:
            self._timer.cancel()
        if not self._loop.is_closed():
            self._loop.remove_reader(self._epoll.fileno())
        self._release()

    def _woken(self) -> None:
        self._epoll.poll(0)
        self._look()

    def _wait(self) -> None:
        if self._patience is not None:
            self._timer = self._loop.call_later(self._patience, self._late)

    def _late(self) -> None:
        self._wait()
        self._look()


class ThreadWatcher(Watcher):
    """Looks in a thread of its own, which ends with it."""

    def __init__(self, look: Callable[[], None], wake_fd: int) -> None:
        super().__init__(look, wake_fd)
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="meshvisor-blacklist", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more, and end the thread (it has ended on return, unless a function that it calls does this)."""
        self._stopping = True
        self.poke()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._epoll.poll(self._patience)
                if not self._stopping:
                    self._look()
        finally:
            self._release()


def watch(look: Callable[[], None], wake_fd: int) -> Watcher:
    """Call ``look`` on the running event loop, or in a thread if there is none, when something may have changed."""
    return ThreadWatcher(look, wake_fd) if current_loop() is None else LoopWatcher(look, wake_fd)


def current_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs in this thread, if there is one."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
