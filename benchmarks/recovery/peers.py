"""The others: each as it comes and as fast as it can sensibly be configured, with a worker that imports nothing and
one that imports about what a worker of ours does.

A worker says that it runs by a line with its pid and the time (monotonic ns) in a pipe. Everything is ended by pid.
"""

from __future__ import annotations

import os
import random
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tests.outside.proc import Identity, descendants, identity, wait_gone

from ..disciplines import FROM_STOP, ORPHANS, TO_START
from ..table import Row

PROGRAMS = Path(__file__).with_name("programs")
_WORKER = str(PROGRAMS / "worker.py")
_PATIENCE = 40.0
_NEVER = 3.0
"""Seconds after which something that nothing configured would bring about is called never."""
_CALM = 0.15


class Missing(Exception):
    """A peer that cannot be run here; the text says why."""


ABSENT = (PackageNotFoundError, Missing)


@dataclass(frozen=True, slots=True)
class Setup:
    """How to start a peer: ``command`` in ``folder`` with ``env`` added. ``young``: seconds for which a worker must
    have lived before its death counts as that of a healthy one."""

    command: Sequence[str]
    folder: Path
    env: dict[str, str] = field(default_factory=dict)
    young: float = 0.0


Prepare = Callable[[Path, str, int, bool], Setup]
"""Writes what a peer needs into a folder; takes folder, path of the pipe, number of workers, whether they import."""


class Peer:
    """One running peer and its workers."""

    def __init__(self, setup: Setup, pipe: Path) -> None:
        os.mkfifo(pipe)
        self.folder = setup.folder
        self._pipe = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
        self._rest = b""
        self.workers: list[Identity] = []
        self.seen: list[Identity] = []
        self._log = (setup.folder / "log").open("wb")
        self._master = subprocess.Popen(
            setup.command,
            cwd=setup.folder,
            env={**os.environ, **setup.env},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )

    @property
    def pid(self) -> int:
        """The process that supervises."""
        return self._master.pid

    def born(self, within: float) -> list[tuple[int, int]]:
        """Wait for news of workers; return their pids and times, none if there was no news within that long."""
        poll = select.poll()
        poll.register(self._pipe, select.POLLIN)
        if not poll.poll(within * 1000):
            return []
        *lines, self._rest = (self._rest + os.read(self._pipe, 65536)).split(b"\n")
        news = [(int(pid), int(at)) for pid, at in (line.split() for line in lines)]
        for pid, _ in news:
            if (one := identity(pid)) is not None:
                self.workers.append(one)
                self.seen.append(one)
        return news

    def gather(self, count: int) -> None:
        """Wait for the first ``count`` workers."""
        deadline = time.monotonic() + _PATIENCE
        while len(self.workers) < count:
            left = deadline - time.monotonic()
            if left <= 0 or self._master.poll() is not None:
                raise Missing(f"only {len(self.workers)} of {count} workers came up: {self._last_words()}")
            self.born(min(left, 0.5))

    def hurt(self, number: signal.Signals, within: float) -> float | None:
        """Signal the oldest worker; return after how many ms another one runs, None: not ``within`` seconds."""
        victim = self.workers.pop(0)
        self.born(0)
        at = time.monotonic_ns()
        os.kill(victim.pid, number)
        deadline = time.monotonic() + within
        while (left := deadline - time.monotonic()) > 0:
            for pid, born_at in self.born(left):
                if pid != victim.pid and born_at > at:
                    return (born_at - at) / 1e6
        with suppress(ProcessLookupError):
            os.kill(victim.pid, signal.SIGKILL)
        return None

    def rest(self, seconds: float) -> None:
        """Leave it in peace, and take note of what it does meanwhile."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.born(left)

    def orphan(self) -> tuple[float, int]:
        """Kill the master; return after how many ms the last worker was gone, or how many never were."""
        self.seen += descendants(self._master.pid)
        at = time.monotonic_ns()
        self._master.kill()
        left = wait_gone(self.workers, _NEVER)
        return (time.monotonic_ns() - at) / 1e6, len(left)

    def close(self) -> None:
        """End everything, the helpers that a peer has beside its workers included."""
        self.seen += descendants(self._master.pid)
        if self._master.poll() is None:
            self._master.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._master.wait(5)
        self._master.kill()
        self._master.wait()
        while self.born(0.2):
            pass
        for process in self.seen:
            if process.is_alive:
                os.kill(process.pid, signal.SIGKILL)
        wait_gone(self.seen, 5)
        os.close(self._pipe)
        self._log.close()

    def _last_words(self) -> str:
        self._log.flush()
        lines = Path(self._log.name).read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit status {self._master.poll()}"


def _worker_command(pipe: str, imports: bool) -> list[str]:
    """Return the command of a worker; one that imports nothing starts as bare as Python can."""
    return [sys.executable, _WORKER, pipe, "imports"] if imports else [sys.executable, "-I", "-S", _WORKER, pipe]


def _pool(folder: Path, pipe: str, count: int, imports: bool) -> Setup:
    words = ["imports"] if imports else []
    return Setup([sys.executable, str(PROGRAMS / "pool.py"), pipe, str(count), *words], folder)


def _gunicorn(*options: str, preload: bool) -> Prepare:
    def prepare(folder: Path, pipe: str, count: int, imports: bool) -> Setup:
        env = {"STAMPS": pipe, "HOME": str(folder), "PYTHONSAFEPATH": "1"}
        env |= {"IMPORTS": "1"} if imports else {}
        env |= {"PRELOADED": "1"} if preload else {}
        command = [sys.executable, "-P", "-m", "gunicorn", "--bind", f"unix:{folder}/socket", "--workers", str(count)]
        command += ["--chdir", str(PROGRAMS), *options, "site_app:app"]
        return Setup(command, folder, env | {"PYTHONPATH": str(PROGRAMS)})

    return prepare


def _circus(check_delay: float, *, watchdog: bool = False) -> Prepare:
    def prepare(folder: Path, pipe: str, count: int, imports: bool) -> Setup:
        worker = _worker_command(pipe, imports)
        lines = ["[circus]", f"check_delay = {check_delay}", "statsd = false"]
        lines += [f"endpoint = ipc://{folder}/control", f"pubsub_endpoint = ipc://{folder}/events"]
        if watchdog:
            port = _free_udp_port()
            worker += ["beat", str(port)]
            lines += ["[plugin:dog]", "use = circus.plugins.watchdog.WatchDog", "watchers_regex = ^worker$"]
            lines += ["loop_rate = 0.1", "max_count = 3", f"port = {port}", "watchers_stop_signal = 9"]
        lines += ["[watcher:worker]", f"cmd = {' '.join(worker)}", f"numprocesses = {count}", "warmup_delay = 0"]
        (folder / "circus.ini").write_text("\n".join(lines) + "\n")
        command = [sys.executable, "-P", "-c", "from circus.circusd import main; main()", str(folder / "circus.ini")]
        return Setup(command, folder)

    return prepare


def _supervisord(startsecs: int) -> Prepare:
    def prepare(folder: Path, pipe: str, count: int, imports: bool) -> Setup:
        lines = ["[supervisord]", "nodaemon = true", f"pidfile = {folder}/pid", "logfile = /dev/null"]
        lines += ["logfile_maxbytes = 0", f"childlogdir = {folder}"]
        lines += ["[unix_http_server]", f"file = {folder}/control", "[supervisorctl]"]
        lines += [f"serverurl = unix://{folder}/control", "[rpcinterface:supervisor]"]
        lines += ["supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface"]
        lines += ["[program:worker]"]
        lines += [f"command = {' '.join(_worker_command(pipe, imports))}", f"numprocs = {count}"]
        lines += ["process_name = worker_%(process_num)d", "autorestart = true", f"startsecs = {startsecs}"]
        lines += ["startretries = 1000000", "stdout_logfile = NONE", "stderr_logfile = NONE"]
        (folder / "supervisord.conf").write_text("\n".join(lines) + "\n")
        # Elsewhere than in the checkout, whose own folder of that name would be taken for the package.
        start = "from supervisor.supervisord import main; main()"
        return Setup(
            [sys.executable, "-P", "-c", start, "-n", "-c", str(folder / "supervisord.conf")],
            folder,
            young=startsecs + 0.2,
        )

    return prepare


def _free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class Contender:
    """One peer in one configuration.

    ``heals``: what it does about a process that stands still, "" if nothing. ``phase``: the period (s) of what it does
    on a clock; it is hurt at any moment of that.
    """

    name: str
    package: str | None
    prepare: Prepare
    slow: bool = False
    heals: str = ""
    phase: float = 0.0


CONTENDERS: dict[str, list[Contender]] = {
    "pool": [Contender("multiprocessing.Pool (fork)", None, _pool)],
    "gunicorn": [
        Contender("gunicorn sync", "gunicorn", _gunicorn(preload=False), heals="30 s: --timeout 30 is the default"),
        Contender(
            "gunicorn sync, --preload, --timeout 1",
            "gunicorn",
            _gunicorn(
                "--preload",
                "--config",
                "python:site_app",
                "--timeout",
                "1",
                "--worker-tmp-dir",
                "/dev/shm",
                preload=True,
            ),
            heals="measure",
            phase=1.0,
        ),
    ],
    "circus": [
        Contender("circus", "circus", _circus(5), slow=True, phase=5.0),
        Contender("circus, check_delay = 10 ms", "circus", _circus(0.01)),
        Contender(
            "circus, check_delay = 10 ms, watchdog plugin at 0.1 s x 3",
            "circus",
            _circus(0.01, watchdog=True),
            heals="measure",
            phase=0.1,
        ),
    ],
    "supervisord": [
        Contender("supervisord", "supervisor", _supervisord(1), slow=True, phase=1.0),
        Contender("supervisord, startsecs = 0", "supervisor", _supervisord(0), slow=True, phase=1.0),
    ],
}


@contextmanager
def running(contender: Contender, count: int, imports: bool) -> Iterator[Peer]:
    with tempfile.TemporaryDirectory(prefix="peer-") as name:
        folder = Path(name)
        pipe = folder / "stamps"
        setup = contender.prepare(folder, str(pipe), count, imports)
        peer = Peer(setup, pipe)
        try:
            peer.gather(count)
            time.sleep(max(_CALM, setup.young))
            yield peer
        finally:
            peer.close()


def title_of(contender: Contender, imports: bool) -> str:
    """Return what a row calls it: with its version, and what its workers do."""
    release = f" {version(contender.package)}" if contender.package else ""
    what = "with imports" if imports else "bare"
    first, *rest = contender.name.split(",", 1)
    return f"{first}{release}{',' + rest[0] if rest else ''}, {what}"


def excuse(why: Exception) -> str:
    """Return in words why a peer takes no part (one of ``ABSENT``)."""
    if isinstance(why, PackageNotFoundError):
        return "not installed: pip install 'meshvisor[bench]'"
    return f"does not run here: {why}"


def measure(name: str, count: int, rounds: int, *, brief: bool = False) -> Iterator[Row]:
    """Put one peer, in all its configurations, through what it can do; ``brief``: only what it is compared by."""
    quickest = [each for each in CONTENDERS[name] if not each.slow] or CONTENDERS[name][:1]
    for contender in quickest if brief else CONTENDERS[name]:
        for imports in (True,) if brief else (False, True):
            try:
                title = title_of(contender, imports)
                yield from _measure(contender, title, count, rounds, imports, brief)
            except ABSENT as why:
                yield Row(TO_START, contender.name, note=excuse(why))
                if isinstance(why, PackageNotFoundError):
                    return


def _measure(contender: Contender, title: str, count: int, rounds: int, imports: bool, brief: bool) -> Iterator[Row]:
    few = max(3, rounds // 8)
    with running(contender, count, imports) as peer:
        yield _repeat(TO_START, contender, peer, title, signal.SIGKILL, few if contender.slow else rounds)
        if brief and contender.heals == "measure":
            yield _freeze(contender, peer, title, few)
        if not imports:
            yield _freeze(contender, peer, title, few)
            took, left = peer.orphan()
            note = f"{left} of {count} live on after {_NEVER:g} s" if left else ""
            yield Row(ORPHANS, f"{title}, N = {count}", () if left else (took,), note=note)


def _repeat(discipline: str, contender: Contender, peer: Peer, title: str, number: signal.Signals, rounds: int) -> Row:
    rng = random.Random(contender.name)
    samples: list[float] = []
    for _ in range(rounds):
        peer.rest(_CALM + rng.uniform(0, contender.phase))
        took = peer.hurt(number, _PATIENCE)
        if took is None:
            return Row(discipline, title, samples, note=f"one was not replaced within {_PATIENCE:g} s")
        samples.append(took)
    return Row(discipline, title, samples)


def _freeze(contender: Contender, peer: Peer, title: str, rounds: int) -> Row:
    if contender.heals == "measure":
        return _repeat(FROM_STOP, contender, peer, title, signal.SIGSTOP, rounds)
    if contender.heals:
        return Row(FROM_STOP, title, note=f"not measured: {contender.heals}")
    took = peer.hurt(signal.SIGSTOP, _NEVER)
    peer.rest(contender.phase + 1)  # until the victim, which was killed, is replaced
    note = f"never: nothing looks (not within {_NEVER:g} s)" if took is None else "contrary to expectation"
    return Row(FROM_STOP, title, () if took is None else (took,), note=note)
