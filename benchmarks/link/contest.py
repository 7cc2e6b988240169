"""The contest: who takes part, one measurement of one of them, and all of them in turn."""

from __future__ import annotations

import functools
import importlib.util
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence

from ..disciplines import PYTHON, messages, round_trip
from ..interpreters import other_python
from ..table import Row
from . import others, ours

CONTENDERS: dict[str, tuple[Callable[..., object], Callable[..., object]]] = {
    "meshvisor callback": (ours.callback_source, ours.callback_sink),
    "meshvisor await": (ours.link_source, ours.link_sink),
    "pyzmq PAIR": (others.zmq_source, others.zmq_sink),
    "pyzmq PAIR, asyncio": (others.azmq_source, others.azmq_sink),
    "asyncio streams": (others.streams_source, others.streams_sink),
    "raw sockets, 1 MiB buffers": (others.raw_source, others.raw_sink),
    "raw sockets": (
        functools.partial(others.raw_source, buffer=0),
        functools.partial(others.raw_sink, buffer=0),
    ),
    "grpc.aio stream": (others.grpc_source, others.grpc_sink),
}
SLOW = {"pyzmq PAIR, asyncio": 20, "asyncio streams": 4, "raw sockets": 2, "grpc.aio stream": 80}
"""How many times fewer small messages a contender gets, so that its turn takes no longer than another's."""

ONE_WAY = {
    64: tuple(name for name in CONTENDERS if name != "raw sockets"),
    1024: tuple(name for name in CONTENDERS if name not in ("raw sockets", "grpc.aio stream")),
    1 << 20: tuple(name for name in CONTENDERS if name not in ("pyzmq PAIR, asyncio", "grpc.aio stream")),
}
"""Who is measured with messages of which size."""
_ON_THE_OTHER_PYTHON = tuple(CONTENDERS)[:4]
SIZES = tuple(4**power for power in range(13))
"""1 B to 16 MiB."""
_CURVE = ("meshvisor callback", "meshvisor await", "pyzmq PAIR", "asyncio streams", "raw sockets, 1 MiB buffers")
_ROUND_TRIPS = ("meshvisor await", "raw sockets, 1 MiB buffers", "pyzmq PAIR, asyncio", "asyncio streams")
_BYTES = 1_500_000_000
"""So many are sent of large messages."""


def present(names: Sequence[str]) -> list[str]:
    """Return those of ``names`` that can take part here."""
    lacking = {"grpc.aio stream"} if importlib.util.find_spec("grpc") is None else set()
    return [name for name in names if name not in lacking]


def _free_address(transport: str, folder: str) -> str:
    if transport == "unix":
        return f"unix:{folder}/{time.monotonic_ns()}"
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"tcp:127.0.0.1:{probe.getsockname()[1]}"


def measure(
    name: str,
    transport: str,
    size: int,
    count: int,
    rtt: bool,
    folder: str,
    *,
    fast: bool = False,
    cores: Sequence[int] = (),
    python: str = sys.executable,
) -> float:
    """Return messages a second, or microseconds for a round trip. ``fast``: on uvloop; ``cores``: one for each end."""
    address = _free_address(transport, folder)
    if name.startswith("grpc") and transport == "tcp":
        address = address.removeprefix("tcp:")
    common = [name, address, str(size), str(count), "--rtt" if rtt else "--no-rtt", *(["--uvloop"] if fast else [])]
    command = [python, "-m", "benchmarks.link", *common, "--side"]
    pins = [["--core", str(core)] for core in cores] or [[], []]
    sink = subprocess.Popen([*command, "1", *pins[1]])
    try:
        done = subprocess.run([*command, "0", *pins[0]], capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            raise RuntimeError(f"{name} failed:\n{done.stderr}")
        sink.wait(20)
    finally:
        sink.kill()
        sink.wait()
    seconds = float(done.stdout)
    return 1e6 * seconds / count if rtt else count / seconds


def amount(name: str, size: int, scale: float = 1.0) -> int:
    """Return how many messages of ``size`` a contender is given: a good half second of them on a machine of 2020."""
    slower = SLOW.get(name, 1) if size < 1 << 14 else min(4, SLOW.get(name, 1))
    return max(16, int(scale * min(400_000, _BYTES // size) / slower))


def one_way(
    size: int, names: Sequence[str], rounds: int, folder: str, scale: float = 1.0, python: str = sys.executable
) -> Iterator[Row]:
    """Have each of ``names`` send messages of ``size`` bytes, in turns."""
    version = PYTHON if python == sys.executable else other_python().version
    for _ in range(rounds):
        for name in present(names):
            value = measure(name, "unix", size, amount(name, size, scale), False, folder, python=python)
            yield Row(messages(size, version), name, [value], unit="/s")


def there_and_back(rounds: int, count: int, folder: str) -> Iterator[Row]:
    """Have 64 B go there and back, with both ends on one core and, where there are, on two."""
    cores = sorted(os.sched_getaffinity(0))
    placed = {"one core": (cores[0], cores[0])} | ({"across cores": (cores[0], cores[-1])} if cores[1:] else {})
    for _ in range(rounds):
        for where, pins in placed.items():
            for name in _ROUND_TRIPS:
                for loop in ("asyncio", "uvloop") if name == "meshvisor await" else ("",):
                    title = f"{name}, {loop}" if loop else name
                    value = measure(name, "unix", 64, count, True, folder, fast=loop == "uvloop", cores=pins)
                    yield Row(round_trip(where), title, [value], unit="us")


def rows(quick: bool) -> Iterator[Row]:
    """Measure messages of three sizes, those of 64 B on another Python, too, and round trips."""
    rounds, scale = (2, 0.5) if quick else (5, 1.0)
    with tempfile.TemporaryDirectory() as folder:
        for size, names in ONE_WAY.items():
            yield from one_way(size, names, rounds, folder, scale)
        if (other := other_python()).path:
            yield from one_way(64, _ON_THE_OTHER_PYTHON, rounds, folder, scale, other.path)
        else:
            yield Row(messages(64, other.version), "meshvisor await", note=other.why)
        yield from there_and_back(rounds, 800 if quick else 3000, folder)


def sizes(quick: bool) -> Iterator[Row]:
    """Measure messages of all other sizes, in one round."""
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES[::4] if quick else SIZES:
            if size not in ONE_WAY:
                yield from one_way(size, _CURVE, 1, folder, 0.3 if quick else 0.7)
