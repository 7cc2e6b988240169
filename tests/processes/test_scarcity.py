"""A supervisor that runs out of something: it goes on supervising, says what is wrong, and recovers by itself.

Limits are lowered from outside, while it runs (prlimit(2)).
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.outside import proc
from tests.outside.mesh import OutsideMesh, hit

pytestmark = pytest.mark.slow

SECTIONS: dict[str, dict[str, Any]] = {
    "supervisor": {"max_restarts": 5, "spares": 1},
    "workers.node": {"class": "probe:Probe"},
    "workers.sleeper": {"command": ["sleep", "1000"]},
}
_TICK = 1.0 / os.sysconf("SC_CLK_TCK")
_TOO_MUCH = 0.3
"""Of a core: what a supervisor that has nothing to do must not use. One that spins uses all of it."""


class Scarce:
    """A mesh of a worker and a command, and its supervisor's limits."""

    def __init__(self, mesh: OutsideMesh) -> None:
        self.mesh = mesh
        self.prefix: tuple[str, ...] = ()

    def start(self, *prefix: str, **options: Any) -> None:
        self.prefix = prefix
        self.mesh.start(prefix, **options)
        self.until_ready("the first start")
        # What the worker says of itself comes on another way than what its supervisor says.
        self.mesh.until(lambda: "node" in self.mesh.lives, 20, "the first report")

    def until_ready(self, what: str) -> None:
        def is_ready() -> bool:
            workers = self._workers()
            return bool(workers) and all(worker["ready"] for worker in workers)

        self.mesh.until(is_ready, 20, what, often=True)

    def _workers(self) -> list[dict[str, Any]]:
        """Ask for the status as its own user: nobody else is told, not even root."""
        command = [
            *self.prefix,
            sys.executable,
            "-m",
            "meshvisor.supervisor",
            "status",
            "--json",
            "-f",
            str(self.mesh.file),
        ]
        done = subprocess.run(command, capture_output=True, check=False)
        return json.loads(done.stdout)["workers"] if done.returncode in (0, 1) else []

    @contextmanager
    def limited(self, kind: int, most: int, *others: int) -> Iterator[None]:
        """Have the supervisor (and ``others``) make do with ``most``, but not for ever."""
        pids = [self.mesh.pid, *others]
        before = {pid: self._limit(pid, kind) for pid in pids}
        for pid in pids:
            self._limit(pid, kind, most)
        yield
        for pid in pids:
            if proc.identity(pid) is not None:
                self._limit(pid, kind, before[pid])

    def _limit(self, pid: int, kind: int, most: int | None = None) -> int:
        """Set the soft limit, if ``most`` is given; return what it was. Only its own user may do that."""
        if not self.prefix:
            soft, hard = resource.prlimit(pid, kind)
            if most is not None:
                resource.prlimit(pid, kind, (most, hard))
            return soft
        script = (
            "import resource, sys; pid, kind, *most = map(int, sys.argv[1:]); old = resource.prlimit(pid, kind);"
            "most and resource.prlimit(pid, kind, (most[0], old[1])); print(old[0])"
        )
        words = [str(pid), str(kind)] if most is None else [str(pid), str(kind), str(most)]
        command = [*self.prefix, sys.executable, "-c", script, *words]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    def pid(self, slot: str) -> int | None:
        return next((worker["pid"] for worker in self._workers() if worker["name"] == slot), None)

    def said(self, text: str, slot: str | None = None) -> int:
        return sum(text in line.text and slot in (None, line.slot) for line in self.mesh.lines)

    def cpu_in_a_second(self) -> float:
        """Return how much of a core the supervisor used while nothing happened to it."""
        before, began = self._cpu(), time.monotonic()
        self.mesh.rest(1.0)
        return (self._cpu() - before) / (time.monotonic() - began)

    def _cpu(self) -> float:
        with open(f"/proc/{self.mesh.pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * _TICK

    def ends_well(self) -> None:
        assert self.mesh.stop() == 0
        assert self.mesh.remaining() == []
        assert not self.said("Traceback")


@pytest.fixture
def scarce(tmp_path: Path) -> Iterator[Scarce]:
    with OutsideMesh(tmp_path, f"scarce{os.getpid()}", SECTIONS) as mesh:
        yield Scarce(mesh)


def test_without_descriptors_it_waits_and_can_still_be_asked(scarce: Scarce) -> None:
    mesh = scarce.mesh
    scarce.start()
    victims = [scarce.pid("sleeper"), mesh.lives["node"].pid]
    # The two that die give some back, and a spare needs none.
    with scarce.limited(resource.RLIMIT_NOFILE, len(os.listdir(f"/proc/{mesh.pid}/fd")) - 10):
        for victim in victims:
            assert victim is not None
            hit(victim)
        mesh.until(lambda: scarce.said("Too many open files", "sleeper"), 10, "what is wrong")
        assert scarce.cpu_in_a_second() < _TOO_MUCH
        assert scarce.said("cannot start a process: Too many open files; trying until there is enough", "sleeper") == 1
        # A client that comes anew takes a descriptor of the supervisor's.
        asked = subprocess.run(
            [sys.executable, "-m", "meshvisor.supervisor", "status", "-f", str(mesh.file)],
            check=False,
            capture_output=True,
            text=True,
        )
        assert asked.returncode == 0, asked.stderr
        assert "backoff" in asked.stdout
    scarce.until_ready("the recovery from a lack of descriptors")
    scarce.ends_well()


def test_with_little_memory_left_it_goes_on(scarce: Scarce) -> None:
    mesh = scarce.mesh
    scarce.start()
    with open(f"/proc/{mesh.pid}/statm") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    with scarce.limited(resource.RLIMIT_AS, size + 64 * 1024):
        for incarnation in (2, 3):
            hit(mesh.lives["node"].pid)
            mesh.until(lambda: mesh.find("ready", "node", incarnation), 20, "another incarnation")  # noqa: B023
        assert scarce.cpu_in_a_second() < _TOO_MUCH
    scarce.until_ready("the recovery from a lack of memory")
    scarce.ends_well()


def spares_of(mesh: OutsideMesh) -> list[int]:
    return [pid for pid in proc.children(mesh.pid) if proc.command_line(pid).endswith("spare")]


def unprivileged() -> tuple[str, ...]:
    """Return how to run a command as somebody whose processes are counted; nothing if we are that already."""
    if os.getuid() != 0:
        return ()
    if shutil.which("setpriv") is None:
        pytest.skip("root has no limit of processes, and there is no setpriv to become somebody else")
    # Allowed to read whatever we may: the interpreter may be in our own home.
    own = "+dac_read_search"
    return ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", f"--inh-caps={own}", f"--ambient-caps={own}")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Return a folder that anybody may use."""
    with tempfile.TemporaryDirectory(prefix="scarce") as folder:
        os.chmod(folder, 0o777)
        yield Path(folder)


def test_without_processes_it_waits(open_folder: Path) -> None:
    prefix = unprivileged()
    with OutsideMesh(open_folder, f"scarce{os.getpid()}", SECTIONS) as mesh:
        scarce = Scarce(mesh)
        for path in (open_folder / "orders", open_folder / "reports"):
            os.chmod(path, 0o777)
        scarce.start(*prefix)
        zygotes = proc.zygotes_of(mesh.pid)
        mesh.until(lambda: spares_of(mesh), 10, "a spare", often=True)
        victims = [scarce.pid("sleeper"), mesh.lives["node"].pid]
        with scarce.limited(resource.RLIMIT_NPROC, 1, *zygotes):
            for zygote in zygotes:  # what has been forked ahead has the old limit
                for child in proc.children(zygote):
                    hit(child)
            for victim in victims:
                assert victim is not None
                hit(victim)
            mesh.until(lambda: scarce.said("no more processes are allowed here", "sleeper"), 10, "what is wrong")
            mesh.until(lambda: mesh.find("ready", "node", 2), 10, "the spare")
            hit(mesh.lives["node"].pid)
            mesh.until(lambda: scarce.said("no more processes are allowed here", "node"), 10, "what is wrong")
            assert scarce.cpu_in_a_second() < _TOO_MUCH
        scarce.until_ready("the recovery from a lack of processes")
        scarce.ends_well()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a folder on a file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], check=False).returncode != 0:
        pytest.skip("only who may mount a file system can have one that is full")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_on_a_full_disk_it_goes_on_and_says_how_many_lines_were_lost(small_disk: Path) -> None:
    folder = small_disk
    talker = ["sh", "-c", "while echo a line that is written down; do sleep 0.02; done"]
    sections = {**SECTIONS, "workers.talker": {"command": talker}}
    with OutsideMesh(folder, f"scarce{os.getpid()}", sections) as mesh:
        scarce = Scarce(mesh)
        scarce.start()
        ballast = folder / "ballast"
        with open(ballast, "wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(1024))
        mesh.until(lambda: scarce.said("No space left on device"), 10, "what is wrong")
        hit(mesh.lives["node"].pid)
        mesh.until(lambda: mesh.find("ready", "node", 2), 20, "the next incarnation")
        assert scarce.cpu_in_a_second() < _TOO_MUCH
        ballast.unlink()
        mesh.until(lambda: scarce.said("can be written again"), 10, "the good news")
        scarce.ends_well()


def test_where_files_may_not_grow_it_goes_on(scarce: Scarce) -> None:
    mesh = scarce.mesh
    scarce.start()
    with scarce.limited(resource.RLIMIT_FSIZE, 0):
        hit(mesh.lives["node"].pid)
        mesh.until(lambda: scarce.said("cannot be written: File too large"), 10, "what is wrong")
        mesh.until(lambda: mesh.find("ready", "node", 2), 20, "the next incarnation")
    hit(mesh.lives["node"].pid)
    mesh.until(lambda: scarce.said("can be written again"), 10, "the good news")
    scarce.ends_well()


def test_where_its_stdout_is_always_full_it_goes_on(scarce: Scarce) -> None:
    mesh = scarce.mesh
    with open("/dev/full", "wb") as device:
        scarce.start(stdout=device, stderr=device)
    hit(mesh.lives["node"].pid)
    mesh.until(lambda: mesh.find("ready", "node", 2), 20, "the next incarnation")
    assert scarce.cpu_in_a_second() < _TOO_MUCH
    scarce.ends_well()
