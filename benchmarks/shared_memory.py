"""The shared blacklist beside other tables that processes share, in one run: ``python -m benchmarks.shared_memory``.

All are asked from one process, for one of ``KEYS`` keys, ``--count`` times in a row; contenders take turns,
``--rounds`` times; the table shows medians, and ratios to LMDB. LMDB is as fast as it can be told to be (no syncing, a
writable map); the ``multiprocessing`` dict and Redis (over a Unix socket) are other processes, and every access is a
round trip. What is not installed is left out, and said so.

    check            is this endpoint barred? Nobody has written since the last time (``remaining``)
    slot read        the same when somebody has written something else since
    record read      the same when the record itself has been written, by whomever
    update           a penalty becomes longer (``set_penalty``: arguments checked, merged, locked, written)
    - without news   a penalty that changes nothing
    - and wake       with an eventfd for subscribers, as in a mesh
    - without lock   the same without ``flock``, which is two system calls: what is left is ours
    raw record       a record written, and nothing else: no key, no rules, no lock
    raw lock         ``flock``, twice: with the record, the least that an update can take
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock
from itertools import count, cycle
from pathlib import Path

from meshvisor.shared.memory import entry as entries
from meshvisor.shared.memory.blacklist import SharedBlacklist
from meshvisor.shared.memory.table import _tag

from .disciplines import CHECK, READ, UPDATE
from .table import Row

KEYS = [f"tcp:127.0.0.1:{4500 + number}" for number in range(64)]
FREE = "tcp:127.0.0.1:9999"

Operation = Callable[[], object]
Contender = dict[str, Operation]
ROWS = (
    "check, free",
    "check, barred",
    "slot read, free",
    "slot read, barred",
    "record read",
    "update",
    "update without news",
    "update and wake",
    "update without lock",
    "raw record",
    "raw lock",
)
# What the others' two operations stand beside.
READS, WRITES = ROWS[:5], ROWS[5:]


@contextmanager
def ours() -> Iterator[Contender]:
    """The shared blacklist, opened twice: once with, once without a wake-up."""
    with SharedBlacklist.create(source="benchmark") as waking, SharedBlacklist.attach(waking.fileno()) as blacklist:
        for key in KEYS:
            blacklist.set_penalty(key, "hard", 60.0)
        table, by = blacklist._table, blacklist._reporter
        turn, longer = cycle(KEYS).__next__, count(100_000_000_000, 100).__next__
        locked = blacklist._segment._locked
        slot = table._search(KEYS[0], _tag(KEYS[0].encode()))
        payload = table._records.read(slot)[1]  # type: ignore[index]

        def record_read() -> None:
            record = table._records.read(slot)
            assert record is not None
            entries.decode(record[1], time.monotonic_ns())

        def without_lock() -> None:
            key, now = turn(), time.monotonic_ns()
            old = table.find(key)
            new = entries.penalised(old, key, 1, entries.nanoseconds(longer() / 1e9), now, by)
            if new is not old:
                table.store(old, new, now)

        def raw_lock() -> None:
            flock(locked, LOCK_EX | LOCK_NB)
            flock(locked, LOCK_UN)

        yield {
            "check, free": lambda: blacklist.remaining(FREE),
            "check, barred": lambda: blacklist.remaining(turn()),
            "slot read, free": lambda: blacklist._look(FREE),
            "slot read, barred": lambda: blacklist._look(turn()),
            "record read": record_read,
            "update": lambda: blacklist.set_penalty(turn(), "hard", longer() / 1e9),
            "update without news": lambda: blacklist.set_penalty(turn(), "hard", 1.0),
            "update and wake": lambda: waking.set_penalty(turn(), "hard", longer() / 1e9),
            "update without lock": without_lock,
            "raw record": lambda: table._records.write(slot, payload),
            "raw lock": raw_lock,
        }


@contextmanager
def lmdb_table() -> Iterator[Contender]:
    """LMDB, one transaction for each access."""
    import lmdb

    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        environment = lmdb.open(folder, sync=False, metasync=False, writemap=True, map_size=1 << 24)
        turn, number = cycle(key.encode() for key in KEYS).__next__, count().__next__

        def get() -> object:
            with environment.begin() as transaction:
                return transaction.get(turn())

        def put() -> None:
            with environment.begin(write=True) as transaction:
                transaction.put(turn(), number().to_bytes(60, "little"))

        for _ in KEYS:
            put()
        yield dict.fromkeys(READS, get) | dict.fromkeys(WRITES, put)
        environment.close()


@contextmanager
def manager_dict() -> Iterator[Contender]:
    """The dict of a multiprocessing manager."""
    with multiprocessing.get_context("spawn").Manager() as manager:
        table = manager.dict(dict.fromkeys(KEYS, 60.0))
        turn = cycle(KEYS).__next__
        yield dict.fromkeys(READS, lambda: table[turn()]) | dict.fromkeys(
            WRITES, lambda: table.__setitem__(turn(), 60.0)
        )


@contextmanager
def redis_table() -> Iterator[Contender]:
    """A Redis server of our own on a Unix socket."""
    import redis

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "redis.sock"
        command = ["redis-server", "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", folder]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            _until_accepting(path, server)
            client = redis.Redis(unix_socket_path=str(path))
            turn = cycle(KEYS).__next__
            for key in KEYS:
                client.set(key, b"x" * 60)
            yield dict.fromkeys(READS, lambda: client.get(turn())) | dict.fromkeys(
                WRITES, lambda: client.set(turn(), b"x" * 60, px=60_000)
            )
            client.close()
        finally:
            server.terminate()
            server.wait()


def _until_accepting(path: Path, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 10.0
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with socket.socket(socket.AF_UNIX) as attempt:
                attempt.connect(str(path))
                return
        except OSError:
            time.sleep(0.01)
    raise RuntimeError("redis-server did not come up")


def _nothing() -> None:
    pass


def _missing() -> dict[str, str]:
    missing = {}
    if importlib.util.find_spec("lmdb") is None:
        missing["LMDB"] = "pip install lmdb"
    if importlib.util.find_spec("redis") is None or shutil.which("redis-server") is None:
        missing["Redis"] = "pip install redis, and the package redis-server"
    return missing


PEERS = {"meshvisor": ours, "LMDB": lmdb_table, "Manager": manager_dict, "Redis": redis_table}
SLOW = {"Manager", "Redis"}


def _time(operation: Operation, times: int) -> float:
    """Return nanoseconds for one of ``times`` operations, without the loop around them and the call of a lambda."""
    begin = time.perf_counter_ns()
    for _ in range(times):
        _nothing()
    empty = time.perf_counter_ns()
    for _ in range(times):
        operation()
    return (time.perf_counter_ns() - empty - (empty - begin)) / times


def measure(rounds: int, times: int) -> dict[tuple[str, str], list[float]]:
    """Return what each contender took in each row, round by round, in nanoseconds."""
    samples: dict[tuple[str, str], list[float]] = {}
    with ExitStack() as stack:
        contenders = {name: stack.enter_context(make()) for name, make in PEERS.items() if name not in _missing()}
        for _ in range(rounds):
            for row in ROWS:
                for name, contender in contenders.items():
                    few = max(1, times // 100) if name in SLOW else times
                    samples.setdefault((name, row), []).append(_time(contender[row], few))
    return samples


ASKED = {"check, free": CHECK, "slot read, barred": READ, "update": UPDATE}
"""The disciplines that a row of ours stands for."""
TITLES = {"Manager": "multiprocessing Manager dict", "Redis": "Redis, Unix socket"}


def rows(quick: bool) -> Iterator[Row]:
    """Measure all, and return what the disciplines are about."""
    for name, how in _missing().items():
        yield from (Row(discipline, name, note=f"not installed ({how})") for discipline in ASKED.values())
    for (name, row), samples in measure(5 if quick else 31, 1_000).items():
        if name == "meshvisor" or row in ASKED:
            title = TITLES.get(name, name)
            discipline = ASKED.get(row, f"blacklist: {row}")
            yield Row(discipline, title, samples, unit="ns")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shared_memory", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--count", type=int, default=1_000)
    arguments = parser.parse_args()
    for name, how in _missing().items():
        print(f"{name} is left out: not installed ({how})")
    samples = measure(arguments.rounds, arguments.count)
    names = [name for name in PEERS if name not in _missing()]
    print(f"{'ns, median':<22}" + "".join(f"{name:>12}" for name in names) + f"{'x LMDB':>10}{'our best':>10}")
    for row in ROWS:
        medians = {name: statistics.median(samples[name, row]) for name in names}
        ratio = f"{medians['LMDB'] / medians['meshvisor']:.2f}" if "LMDB" in names else ""
        figures = "".join(f"{median:>12,.0f}" for median in medians.values())
        print(f"{row:<22}{figures}{ratio:>10}{min(samples['meshvisor', row]):>10,.0f}")


if __name__ == "__main__":
    main()
