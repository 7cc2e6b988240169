"""A storm over the control plane of one mesh: many clients, dying clients, and what is no client at all."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import zmq
from tests.outside.covered import uncovered

from meshvisor.shared.control.requests import Refused, decode_reply
from meshvisor.shared.errors import SupervisorError
from meshvisor.supervisor.client import Client, NotRunning

CLIENTS = 20
_PATIENCE = 30.0
_WINDOW = 32
"""Messages that wait for their answers: beyond its queue the supervisor drops answers that nobody takes."""


@dataclass(frozen=True, slots=True)
class Options:
    """What to run, and how much of it."""

    slots: int = 100
    requests: int = 1000
    kills: int = 40
    garbage: int = 10_000
    raw: int = 500
    half_open: int = 500
    seed: int = 0


@dataclass(slots=True)
class Outcome:
    """What has become of it. ``turns``: by part, the longest turn of the supervisor's loop, in seconds of its CPU."""

    options: Options
    answers: Counter[str] = field(default_factory=Counter)
    turns: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    most_descriptors: int = 0
    faults: list[str] = field(default_factory=list)


class Mesh:
    """The mesh that is stormed, in a process of its own."""

    def __init__(self, folder: Path, slots: int) -> None:
        self.folder = folder
        self._figures = folder / "figures"
        file = folder / "mesh.toml"
        file.write_text(
            f'[mesh]\nname = "storm"\n[supervisor]\nmax_restarts = 1000\nruntime_dir = "{folder / "run"}"\n'
            f'[workers.w]\ncommand = ["sleep", "600"]\nreplicas = {slots}\nbackoff = {{ max = "10ms" }}\n'
        )
        command = [sys.executable, "-m", "tests.control_storm.served", str(file), str(self._figures)]
        environment = uncovered()
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
        self._until(self._is_ready)

    @property
    def control(self) -> str:
        """The control socket."""
        return str(self.folder / "run" / "storm" / "control")

    def client(self) -> Client:
        """Return a new client."""
        return Client(self.folder / "run", "storm")

    def descriptors(self) -> int:
        """Return how many the supervisor has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def begin(self) -> None:
        """Begin to measure."""
        self.process.send_signal(signal.SIGUSR1)

    def longest_turn(self) -> float:
        """Return the longest turn since ``begin``, in seconds of CPU time."""
        self._figures.unlink(missing_ok=True)
        self.process.send_signal(signal.SIGUSR2)
        self._until(self._figures.exists)
        return float(json.loads(self._figures.read_text())["longest"])

    def close(self) -> int:
        """Stop it, and return its exit status."""
        self.process.terminate()
        try:
            return self.process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def _is_ready(self) -> bool:
        with suppress(NotRunning), self.client() as client:
            return all(worker.ready for worker in client.status().workers)
        return False

    def _until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not condition():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise AssertionError("the mesh is not as it should be, or gone")
            time.sleep(0.01)


def run(options: Options) -> Outcome:
    """Run the whole storm; nothing is left running."""
    outcome = Outcome(options)
    with tempfile.TemporaryDirectory(prefix="storm-") as name:
        mesh = Mesh(Path(name), options.slots)
        try:
            _run(mesh, outcome)
        finally:
            status = mesh.close()
        if status != 0:
            outcome.faults.append(f"the supervisor ended with status {status}")
    return outcome


def _run(mesh: Mesh, outcome: Outcome) -> None:
    _check_alive(mesh, outcome, "its start")  # the first death opens the log of incidents
    before = mesh.descriptors()
    for name, part in _PARTS.items():
        mesh.begin()
        begun = time.monotonic()
        part(mesh, outcome)
        _check_alive(mesh, outcome, name)
        outcome.seconds[name] = time.monotonic() - begun
        outcome.turns[name] = mesh.longest_turn()
    deadline = time.monotonic() + _PATIENCE
    while mesh.descriptors() > before and time.monotonic() < deadline:
        time.sleep(0.05)
    if (after := mesh.descriptors()) > before:
        outcome.faults.append(f"{after - before} descriptors are left")


def _check_alive(mesh: Mesh, outcome: Outcome, name: str) -> None:
    """After each part a death must be seen and answered, and an honest client served."""
    with mesh.client() as client:
        worker = client.status().workers[0]
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        deadline = time.monotonic() + _PATIENCE
        while (now := client.status().workers[0]).incarnation == worker.incarnation or not now.ready:
            if time.monotonic() > deadline:
                outcome.faults.append(f"after {name}: a killed slot did not come back")
                return
            time.sleep(0.01)


# The parts.


def _honest(mesh: Mesh, outcome: Outcome) -> None:
    """Many requests of many clients at once: each is answered."""
    each = outcome.options.requests // CLIENTS

    def ask(number: int) -> Counter[str]:
        rng = random.Random(f"{outcome.options.seed} {number}")
        answers: Counter[str] = Counter()
        with mesh.client() as client:
            asks: list[Callable[[], object]] = [
                client.status,
                client.names,
                client.recent,
                lambda: client.start(f"w-{rng.randrange(outcome.options.slots)}"),
                lambda: client.restart(f"w-{rng.randrange(outcome.options.slots)}", wait=False),
                lambda: client.stop("nobody"),
            ]
            for _ in range(each):
                try:
                    rng.choices(asks, [6, 2, 2, 4, 1, 1])[0]()
                    answers["done"] += 1
                except SupervisorError as error:
                    text = str(error)
                    answers["unanswered" if "did not answer" in text else "refused"] += 1
        return answers

    with ThreadPoolExecutor(CLIENTS) as pool:
        for answers in pool.map(ask, range(CLIENTS)):
            outcome.answers.update(answers)
    if outcome.answers["unanswered"] or outcome.answers.total() != each * CLIENTS:
        outcome.faults.append(f"not all requests were answered: {dict(outcome.answers)}")


_CHATTER = """
import sys
from pathlib import Path
from meshvisor.supervisor.client import Client
with Client(Path(sys.argv[1]), "storm") as client:
    print("up", flush=True)
    while True:
        client.status()
        client.recent()
        client.restart("w-1")
"""


def _killed(mesh: Mesh, outcome: Outcome) -> None:
    """Clients that are killed in the middle of a request."""
    rng = random.Random(outcome.options.seed)
    for _ in range(0, outcome.options.kills, 4):
        command = [sys.executable, "-c", _CHATTER, str(mesh.folder / "run")]
        clients = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for _ in range(4)]
        for client in clients:
            assert client.stdout is not None
            client.stdout.readline()
        for client in clients:
            time.sleep(rng.random() * 0.02)
            client.kill()
            client.communicate()


def _garbage(mesh: Mesh, outcome: Outcome) -> None:
    """What is no request, in messages of ZeroMQ: refused one by one."""
    rng = random.Random(outcome.options.seed)
    with zmq.Context() as context, context.socket(zmq.DEALER) as peer:
        peer.set(zmq.LINGER, 0)
        peer.set(zmq.RCVTIMEO, 10_000)
        peer.connect(f"ipc://{mesh.control}")
        flying = 0
        for _ in range(outcome.options.garbage):
            peer.send_multipart(_nonsense(rng))
            flying += 1
            while flying == _WINDOW or (flying and peer.poll(0)):
                _count(outcome, peer.recv_multipart())
                flying -= 1
        for _ in range(flying):
            _count(outcome, peer.recv_multipart())
    if outcome.answers["garbage refused"] != outcome.options.garbage:
        outcome.faults.append("not all garbage was refused")


def _nonsense(rng: random.Random) -> list[bytes]:
    templates = [
        lambda: [rng.randbytes(rng.randrange(200))],
        lambda: [b"{" * rng.randrange(1, 5000)],
        lambda: [b'{"version": 1, "id": 1, "deadline": 1e300, "body": {"type": "stop", "names": [""]}}'],
        lambda: [b'{"version": 1, "id": 1, "deadline": 1e300, "body": {"type": "scale", "replicas": {"w": -1}}}'],
        lambda: [b'{"version": 9, "id": 1, "deadline": 1e300, "body": {"type": "status"}}'],
        lambda: [b'{"version": 1, "id": 1, "deadline": NaN, "body": {"type": "status"}}'],
        lambda: [rng.randbytes(8) for _ in range(rng.randrange(1, 7))],
        lambda: [b"[" * 60_000],
        lambda: [b"x" * 100_000],
    ]
    return rng.choices(templates, [20, 5, 5, 5, 5, 5, 5, 1, 1])[0]()


def _count(outcome: Outcome, frames: list[bytes]) -> None:
    is_refused = isinstance(decode_reply(frames[-1]).body, Refused)
    outcome.answers["garbage refused" if is_refused else "garbage obeyed"] += 1


def _raw(mesh: Mesh, outcome: Outcome) -> None:
    """Bytes that are not even ZeroMQ."""
    rng = random.Random(outcome.options.seed)
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48)
    for _ in range(outcome.options.raw):
        with _dialled(mesh) as peer:
            kinds = [
                rng.randbytes(rng.randrange(1, 400)),
                greeting + rng.randbytes(rng.randrange(1, 400)),
                greeting[: rng.randrange(1, 64)],
                greeting + b"\x02" + (2**62).to_bytes(8, "big") + rng.randbytes(100),
                b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            ]
            with suppress(OSError):
                peer.send(rng.choice(kinds))


def _half_open(mesh: Mesh, outcome: Outcome) -> None:
    """Connections that are kept and say nothing: an honest client gets in all the same."""
    with ExitStack() as stack:
        kept = 0
        for _ in range(outcome.options.half_open):
            peer = socket.socket(socket.AF_UNIX)
            stack.callback(peer.close)
            peer.setblocking(False)
            with suppress(OSError):
                peer.connect(mesh.control)
                kept += 1
        outcome.answers["half-open kept"] += kept
        outcome.most_descriptors = max(outcome.most_descriptors, mesh.descriptors())
        try:
            with mesh.client() as client:
                client.status()
        except SupervisorError as error:
            outcome.faults.append(f"an honest client among half-open connections: {error}")


@contextmanager
def _dialled(mesh: Mesh) -> Iterator[socket.socket]:
    deadline = time.monotonic() + _PATIENCE
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(_PATIENCE)
        while True:
            try:
                peer.connect(mesh.control)
                break
            except (FileNotFoundError, ConnectionRefusedError, BlockingIOError):  # too many are in
                assert time.monotonic() < deadline
                time.sleep(0.005)
        yield peer


_PARTS = {"honest": _honest, "killed": _killed, "garbage": _garbage, "raw": _raw, "half-open": _half_open}
