"""The mesh that is soaked: sixteen workers on two levels, and commands, run by ``supervise run``."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO

import msgspec
from tests.outside.mesh import OutsideMesh, Table

from meshvisor.supervisor.incidents import FILE, Incident

HUB = "hub"
"""The one worker that nothing lethal is done to: it shows what grows in a worker that lives long."""
NODES = {HUB: 1, "store": 3, "node": 8, "writer": 4}
"""Replicas of the workers."""
COMMANDS = ("talker", "keeper")
BASE = "store"
DEPENDANTS = ("node", "writer")
SOFT, HARD = 100, 200
"""MiB that a ``node`` may have."""
PENALTY = 1.0
"""``blacklist_duration``."""
HANG, BUSY = 1.0, 1.0
MORE_NODES = 2
"""By how many replicas ``node`` is scaled up."""
MOST_FILES = 2 * (sum(NODES.values()) + MORE_NODES + len(COMMANDS) + 1)
"""The log and one before it, for each slot, and for the incidents."""
ROOT = Path(__file__).resolve().parents[2]
"""Where ``tests`` is found."""
_KEPT = 200
_CHATTER = "all is well and nothing happens%.0s\\n"
_TIMES = " ".join("x" * 12)
_PR_SET_PDEATHSIG = 1
_OWN_LINES = frozenset({"sent", "unsent", "got", "damaged", "lost", "left", "call", "twice", "tick"})


def group_of(slot: str) -> str:
    """Return the worker that a slot belongs to."""
    return slot.partition("-")[0]


def sections(folder: Path, transport: str, seed: int, version: int) -> dict[str, Table]:
    """Return the configuration; each ``version`` has other settings for the writers."""
    common: Table = {
        "backoff": {"max": "100ms"},
        "start_timeout": "20s",
        "log": {"max_size": "32KiB", "keep": 1},
    }
    member: Table = {
        **common,
        "class": "tests.soak.application:Member",
        "busy_timeout": f"{BUSY}s",
        "hang_timeout": f"{HANG}s",
        "env": {"PYTHONPATH": str(ROOT)},
        "settings": {"seed": seed, "pace": 0.5},
    }
    well, up = folder / "well", folder / "up"
    return {
        "mesh": {"transport": transport, "blacklist_duration": f"{PENALTY}s"},
        "supervisor": {"max_restarts": 1_000_000},
        "workers.hub": member,
        "workers.store": {**member, "replicas": NODES["store"]},
        "workers.node": {
            **member,
            "replicas": NODES["node"],
            "depends_on": [BASE],
            "memory_soft": f"{SOFT}MiB",
            "max_memory": f"{HARD}MiB",
        },
        "workers.writer": {
            **member,
            "replicas": NODES["writer"],
            "depends_on": [BASE],
            "settings": {**member["settings"], "version": version},
        },
        "workers.talker": {
            **common,
            "command": ["sh", "-c", f"echo listening; while sleep 0.2; do printf '{_CHATTER}' {_TIMES}; done"],
            "ready": {"log": "listening"},
        },
        "workers.keeper": {
            **common,
            "command": ["sh", "-c", f"touch {well} {up}; sleep 100000 & wait"],
            "ready": {"file": str(up)},
            "health": {"exec": ["test", "-e", str(well)], "period": "1500ms", "failures": 3},
        },
    }


class SoakMesh(OutsideMesh):
    """One mesh, run again and again; keeps the latest of what it hears, and writes all of it to ``supervisor.log``.

    ``on_words`` hears the lines of ``application``, in words.
    """

    def __init__(self, folder: Path, name: str, configuration: dict[str, Table]) -> None:
        super().__init__(folder, name, configuration)
        self.on_words: Callable[[list[str]], None] = lambda words: None
        self.on_line: Callable[[str, str], None] = lambda slot, text: None
        self._printed = open(folder / "supervisor.log", "w", buffering=1)  # noqa: SIM115
        self._incidents: IO[bytes] | None = None
        self._unread = b""

    def begin(self) -> None:
        """Start the supervisor; it ends when this process does."""
        self.start(preexec_fn=partial(_die_with, os.getpid()))

    def kill(self) -> None:
        """See ``OutsideMesh.kill``."""
        super().kill()
        self._printed.flush()

    def _take_report(self, text: str) -> None:
        words = text.split()
        if words[0] in _OWN_LINES:
            self.on_words(words)
            return
        super()._take_report(text)
        if len(self.reports) > 2 * _KEPT:
            del self.reports[:_KEPT]

    def _take_line(self, text: str) -> None:
        super()._take_line(text)
        line = self.lines[-1]
        if line.slot != "talker":
            self._printed.write(f"{line.at / 1e9:.3f} {text}\n")
        self.on_line(line.slot, line.text)
        if len(self.lines) > 2 * _KEPT:
            del self.lines[:_KEPT]

    def forget(self) -> set[str]:
        """Forget the links of lives that are over, and slots that are no more; return those."""
        status = self.status()
        names = {slot.name for slot in status.workers} if status is not None else set(self.lives)
        gone = set(self.lives) - names
        self.lives = {name: life for name, life in self.lives.items() if name in names}
        lives = {name: life.incarnation for name, life in self.lives.items()}
        self.links = {
            end: at for end, at in self.links.items() if lives.get(end[0]) == end[1] and lives.get(end[2]) == end[3]
        }
        return gone

    def new_incidents(self) -> list[Incident]:
        """Return what has been written since the last time."""
        path = self.folder / "log" / FILE
        found: list[Incident] = []
        while True:
            if self._incidents is None:
                with suppress(FileNotFoundError):
                    self._incidents = open(path, "rb")  # noqa: SIM115
            if self._incidents is None:
                return found
            *lines, self._unread = (self._unread + self._incidents.read()).split(b"\n")
            for line in lines:
                with suppress(msgspec.MsgspecError):  # cut off where there was no more room
                    found.append(msgspec.json.decode(line, type=Incident))
            try:
                if os.stat(path).st_ino == os.fstat(self._incidents.fileno()).st_ino:
                    return found
            except FileNotFoundError:
                return found
            self._incidents.close()
            self._incidents, self._unread = None, b""

    def close(self) -> None:
        """Close the files."""
        self._printed.close()
        if self._incidents is not None:
            self._incidents.close()


_libc = ctypes.CDLL(None, use_errno=True)


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends: a closed stdout would not stop it, and rightly so."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
