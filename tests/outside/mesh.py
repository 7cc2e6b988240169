"""A mesh as its user runs it, ``supervise run`` in a process of its own, watched and hurt from outside.

What the workers report (see ``probe``) and what the supervisor prints is read by ``pump`` and ``until``, in the thread
that calls them; a report carries the time at which it was made, a line of output that at which it was read.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from tests.outside.covered import uncovered

from meshvisor.shared.config import load_config
from meshvisor.shared.errors import ConfigError, SupervisorError
from meshvisor.supervisor.client import Client
from meshvisor.supervisor.snapshot import MeshStatus

from .proc import Identity, identity, marked, wait_gone

PROBES = str(Path(__file__).parent)
"""The ``cwd`` of workers whose class is one of ``probe``."""

T = TypeVar("T")
Table = dict[str, Any]
_PIPE_SIZE = 1 << 20
_BATCH = 0.0005
"""Seconds to let reports gather: a reader that wakes for each of them would be a load of its own."""


class Stuck(Exception):
    """What was waited for did not come; the text says what was, and what the supervisor said last."""


@dataclass(frozen=True, slots=True)
class Report:
    """One line of a probe; ``at`` is in nanoseconds of the monotonic clock."""

    kind: str
    slot: str
    incarnation: int
    peer: str
    peer_incarnation: int
    at: int
    pid: int

    @classmethod
    def parse(cls, line: str) -> Report:
        """Read a line as a probe writes it."""
        kind, slot, incarnation, peer, peer_incarnation, at, pid = line.split()
        return cls(kind, slot, int(incarnation), peer, int(peer_incarnation), int(at), int(pid))


@dataclass(frozen=True, slots=True)
class Line:
    """One line that the supervisor printed: about ``slot`` (empty: the mesh), read ``at`` (monotonic ns)."""

    at: int
    slot: str
    text: str


def table(values: Mapping[str, Any]) -> str:
    """Return ``values`` as an inline table of TOML."""
    return "{ " + ", ".join(f"{key} = {_value(value)}" for key, value in values.items()) + " }"


def _value(value: Any) -> str:
    return table(value) if isinstance(value, Mapping) else json.dumps(value)


def write_file(file: Path, sections: Mapping[str, Table]) -> None:
    """Write a ``mesh.toml``: ``{"mesh": {...}, "workers.NAME": {...}}``."""
    lines = []
    for section, values in sections.items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {_value(value)}" for key, value in values.items()]
    file.write_text("\n".join(lines) + "\n")


def refused(folder: Path, sections: Mapping[str, Table]) -> list[str]:
    """Return the keys (``supervisor.spares``) that are part of the format and not supported by this version yet.

    Raises:
        ConfigError: If anything else is wrong with it.
    """
    file = folder / "tried.toml"
    write_file(file, sections)
    try:
        load_config(file)
    except ConfigError as error:
        keys = [fault.path for fault in error.faults if "not supported" in fault.message]
        if len(keys) < len(error.faults):
            raise
        return keys
    return []


class OutsideMesh:
    """One mesh in one folder; it may be run several times, one after the other.

    What has happened since the latest start (``started_at``, ns): ``reports`` and ``lines``; ``lives``, the latest
    start of each slot; ``links``, when each end of each link came up, by slot, incarnation, peer and its incarnation.
    ``on_report`` is called with each report as it is read.

    ``sections`` are those of ``mesh.toml``; runtime_dir and log_dir are put into the folder, reports and orders into
    the settings of each worker that is a class.
    """

    def __init__(self, folder: Path, name: str, sections: Mapping[str, Table]) -> None:
        self.folder = folder
        self.name = name
        self.file = folder / "mesh.toml"
        self.runtime = folder / "run"
        self.orders = folder / "orders"
        self.reports: list[Report] = []
        self.lines: list[Line] = []
        self.lives: dict[str, Report] = {}
        self.links: dict[tuple[str, int, str, int], int] = {}
        self.on_report: Callable[[Report], None] | None = None
        self.started_at = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._client: Client | None = None
        self._rest = {"reports": b"", "lines": b""}
        self.orders.mkdir()
        pipe = folder / "reports"
        os.mkfifo(pipe)
        self._pipe = os.open(pipe, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)  # held for writing too: it never ends
        fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
        self.write(sections)

    def write(self, sections: Mapping[str, Table]) -> None:
        """Write the file anew, for the next start or a reload."""
        write_file(self.file, self._complete(sections, str(self.folder / "reports")))

    def _complete(self, sections: Mapping[str, Table], pipe: str) -> dict[str, Table]:
        complete: dict[str, Table] = {"mesh": {"name": self.name}, "supervisor": {}}
        for section, values in sections.items():
            complete[section] = {**complete.get(section, {}), **values}
            if "class" in values:
                settings = {"reports": pipe, "orders": str(self.orders), **values.get("settings", {})}
                complete[section] |= {"cwd": PROBES, "settings": settings}
        complete["supervisor"] |= {"runtime_dir": str(self.runtime), "log_dir": str(self.folder / "log")}
        return complete

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()
        os.close(self._pipe)

    # Running it.

    def start(self, prefix: Sequence[str] = (), **options: Any) -> None:
        """Execute ``supervise run``, by the command ``prefix`` and with ``options`` of ``Popen`` if there are any."""
        self.pump(0)  # what the run before has left in the pipe
        self.reports, self.lines, self.lives, self.links = [], [], {}, {}
        self.started_at = time.monotonic_ns()
        self._process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "meshvisor.supervisor", "run", str(self.file)],
            # Coverage measured in there, of what other tests cover, would only make it slow.
            env=uncovered(),
            **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, **options},
        )
        if self._process.stdout is not None:
            fcntl.fcntl(self._output, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
            os.set_blocking(self._output, False)

    @property
    def pid(self) -> int:
        """The process of the supervisor."""
        assert self._process is not None, "the mesh was not started"
        return self._process.pid

    @property
    def _output(self) -> int:
        assert self._process is not None, "the mesh was not started"
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor, if it lives."""
        assert self._process is not None, "the mesh was not started"
        self._process.send_signal(number)

    def wait(self, within: float) -> int:
        """Wait for the end of the supervisor and return its exit status (negative: the signal that killed it)."""
        assert self._process is not None, "the mesh was not started"
        process = self._process
        self.until(lambda: process.poll() is not None, within, "the end of the supervisor", often=True)
        self._hang_up()
        return process.returncode

    def stop(self, within: float = 30.0) -> int:
        """Ask for the end and wait for it; return the exit status."""
        self.signal(signal.SIGTERM)
        return self.wait(within)

    def kill(self) -> None:
        """Kill the supervisor and whatever there is of the mesh; it is all gone on return."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            self._process.wait()
        self._hang_up()
        while left := marked(self.name):
            for process in left:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
            wait_gone(left, 10)

    def _hang_up(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
        if self._process is not None and self._process.stdout is not None:
            self._read(self._output, "lines", self._take_line)
            self._process.stdout.close()
            self._process.stdout = None

    # Listening.

    def pump(self, seconds: float) -> None:
        """Read what there is; wait for something, up to ``seconds``."""
        poll = select.poll()
        poll.register(self._pipe, select.POLLIN)
        if self._process is not None and self._process.stdout is not None:
            poll.register(self._output, select.POLLIN)
        if poll.poll(max(0.0, seconds) * 1000):
            time.sleep(_BATCH)
        self._read(self._pipe, "reports", self._take_report)
        if self._process is not None and self._process.stdout is not None:
            self._read(self._output, "lines", self._take_line)

    def rest(self, seconds: float) -> None:
        """Leave the mesh in peace, and read what comes meanwhile."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.pump(left)

    def until(self, condition: Callable[[], T | None], within: float, what: str, *, often: bool = False) -> T:
        """Read until ``condition`` returns something true, and return it. ``often``: it needs no news to become true.

        Raises:
            Stuck: If that takes longer than ``within`` seconds.
        """
        deadline = time.monotonic() + within
        while not (value := condition()):
            left = deadline - time.monotonic()
            if left <= 0:
                raise Stuck(f"{what} did not come within {within:g} s; last of the mesh:\n{self.last_lines()}")
            self.pump(min(left, 0.005) if often else left)
        return value

    def last_lines(self, count: int = 12) -> str:
        """Return the end of what the supervisor printed."""
        return "\n".join(f"  {line.slot or 'mesh'}: {line.text}" for line in self.lines[-count:])

    def _read(self, descriptor: int, kind: str, take: Callable[[str], None]) -> None:
        data = self._rest[kind]
        with suppress(BlockingIOError):
            while piece := os.read(descriptor, _PIPE_SIZE):
                data += piece
        *lines, self._rest[kind] = data.split(b"\n")
        for line in lines:
            take(line.decode(errors="replace"))

    def _take_report(self, text: str) -> None:
        report = Report.parse(text)
        self.reports.append(report)
        if self.on_report is not None:
            self.on_report(report)
        if report.kind == "start":
            self.lives[report.slot] = report
        elif report.kind == "up":
            self.links[report.slot, report.incarnation, report.peer, report.peer_incarnation] = report.at

    def _take_line(self, text: str) -> None:
        label, _, rest = text.partition(" ")
        mark, _, said = rest.lstrip().partition(" ")
        is_event = mark in ("•", "*")
        self.lines.append(Line(time.monotonic_ns(), "" if label == "mesh" else label, said if is_event else text))

    # What has happened.

    def find(self, kind: str, slot: str, incarnation: int = 0) -> Report | None:
        """Return the latest report of a slot (of one of its lives), if there is one."""
        for report in reversed(self.reports):
            if report.kind == kind and report.slot == slot and incarnation in (0, report.incarnation):
                return report
        return None

    def meshed(self, slot: str | None, count: int) -> int | None:
        """Return when the last link of ``slot`` (None: of all) to ``count - 1`` others came up, at both ends (ns).

        None while one is missing.
        """
        lives = {name: life.incarnation for name, life in self.lives.items()}
        if len(lives) < count:
            return None
        ends = [self.links.get(end) for end in _ends(lives, slot)]
        return max(end for end in ends if end is not None) if None not in ends else None

    def incidents(self, slot: str) -> list[dict[str, Any]]:
        """Return what ``incidents.jsonl`` says of a slot; a last line that is not complete yet is left out."""
        with suppress(FileNotFoundError):
            lines = (self.folder / "log" / "incidents.jsonl").read_text().split("\n")[:-1]
            return [incident for line in lines if (incident := json.loads(line))["slot"] == slot]
        return []

    def status(self) -> MeshStatus | None:
        """Ask the supervisor; None when it is not there (yet, any more)."""
        try:
            if self._client is None:
                self._client = Client(self.runtime, self.name)
            return self._client.status()
        except SupervisorError:
            if self._client is not None:
                self._client.close()
            self._client = None
            return None

    # Hurting it.

    def order(self, slot: str, text: str) -> None:
        """Have a worker misbehave: ``sleep``, ``deadlock`` or ``spin`` in a callback of its loop."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as orders:
            orders.sendto(text.encode(), str(self.orders / slot))

    def remaining(self, within: float = 1.0) -> list[Identity]:
        """Return what is left of the mesh after ``within`` seconds."""
        deadline = time.monotonic() + within
        while left := marked(self.name):
            if time.monotonic() >= deadline:
                return left
            wait_gone(left, deadline - time.monotonic())
        return []


def _ends(lives: Mapping[str, int], slot: str | None) -> Iterator[tuple[str, int, str, int]]:
    for one in lives:
        for other in lives:
            if one != other and slot in (None, one, other):
                yield one, lives[one], other, lives[other]


def hit(pid: int, number: signal.Signals = signal.SIGKILL) -> int | None:
    """Send a signal to a process; return when, right before that (monotonic ns), or None if it is gone."""
    if identity(pid) is None:
        return None
    now = time.monotonic_ns()
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return None
    return now
