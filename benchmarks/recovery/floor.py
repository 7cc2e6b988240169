"""What this machine needs for a death and a fork, without any framework: ``python -m benchmarks.recovery.floor``.

A process and 16 forks of it that sleep, each with 6 MB of its own, know each other as parent and children only. One is
killed by yet another process; its parent waits for nothing but the pidfd. How long until it reads that (*notice*),
until a fork that waits on a pipe reads what it is then told (*waiting*), and until a fork that is made then begins
(*forked*). No supervisor is faster on this machine, and its figures are read beside these: they vary by a factor of
three between machines, and of two from one hour to the next on a virtual one.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import BinaryIO, cast

from ..disciplines import TO_START
from ..table import Row

_OWN = 6_000_000
_CALM = 0.05
WAYS = ("notice", "waiting", "forked")
_NAMES = {
    "notice": "the floor: a parent reads the pidfd of a bare fork",
    "waiting": "the floor: a bare fork that waited begins",
    "forked": "the floor: a bare fork made then begins",
}


def rows(count: int, rounds: int) -> Iterator[Row]:
    """Measure in a process of its own, which is as small as ours is not; ``count`` siblings, ``rounds`` kills a way."""
    command = [sys.executable, "-m", "benchmarks.recovery.floor", str(count), str(rounds)]
    found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    yield from (Row(TO_START, _NAMES[way], found[way]) for way in WAYS)


def measure(count: int, rounds: int) -> dict[str, list[float]]:
    """Return milliseconds from SIGKILL, by way."""
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    gc.collect()
    gc.freeze()
    siblings = [_sibling() for _ in range(count)]
    try:
        for number in range(2 * rounds):
            siblings.append(_sibling())
            time.sleep(_CALM)
            way = WAYS[1 + number % 2]
            killed, noticed, begun = _replace(siblings.pop(0), is_waiting=way == "waiting")
            found["notice"].append((noticed - killed) / 1e6)
            found[way].append((begun - killed) / 1e6)
    finally:
        for pid in siblings:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    return found


def _sibling() -> int:
    pid = os.fork()
    if pid == 0:
        own = b"x" * _OWN
        signal.pause()
        os._exit(len(own) & 0)
    return pid


def _replace(victim: int, *, is_waiting: bool) -> tuple[int, int, int]:
    """Have ``victim`` killed; return when that was, when it was noticed, and when a successor began (ns)."""
    told, tell = (_file(fd, mode) for fd, mode in zip(os.pipe(), ("rb", "wb"), strict=True))
    heard, say = (_file(fd, mode) for fd, mode in zip(os.pipe(), ("rb", "wb"), strict=True))
    with told, tell, heard, say:
        spare = _successor(told, say) if is_waiting else 0
        time.sleep(_CALM)
        pidfd = os.pidfd_open(victim)
        death = select.epoll()
        death.register(pidfd, select.EPOLLIN)
        killer = _killer(victim, say)
        death.poll()
        noticed = time.monotonic_ns()
        tell.write(b"\n")
        spare = spare or _successor(told, say)
        killed, begun = (int(heard.read(20)) for _ in range(2))
        death.close()
        os.close(pidfd)
        for pid in (victim, killer, spare):
            os.waitpid(pid, 0)
    return min(killed, begun), noticed, max(killed, begun)


def _file(descriptor: int, mode: str) -> BinaryIO:
    return cast(BinaryIO, open(descriptor, mode, buffering=0))


def _successor(told: BinaryIO, say: BinaryIO) -> int:
    pid = os.fork()
    if pid == 0:
        told.read(1)
        say.write(b"%20d" % time.monotonic_ns())
        os._exit(0)
    return pid


def _killer(victim: int, say: BinaryIO) -> int:
    pid = os.fork()
    if pid == 0:
        time.sleep(_CALM / 5)
        at = time.monotonic_ns()
        os.kill(victim, signal.SIGKILL)
        say.write(b"%20d" % at)
        os._exit(0)
    return pid


if __name__ == "__main__":
    asked = [int(word) for word in sys.argv[1:]] or [16, 20]
    print(json.dumps(measure(*asked)))
