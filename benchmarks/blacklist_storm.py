"""What a shared blacklist is for, in one run: ``python -m benchmarks.blacklist_storm``.

Many worker processes prefer one endpoint that is bad: it accepts and closes at once, and counts. Each of them connects
again and again, as an application does that makes short sessions, and falls back to a good endpoint. First each knows
only what it has found out by itself, then all share one blacklist. Fewer dials of the bad endpoint are better; the
number of sessions says that nobody was held up by it. All begin at the same instant, when nobody can know anything
yet: dials are counted up to the end of the first penalty and from then on.

Then the wake-up: 50 subscribers spread over processes, how long after one ``set_penalty`` the last of them is called,
median and worst of several. The floor beside it are as many processes that wait on the same eventfd and look at the
clock, and nothing else: what the kernel needs to wake so many interpreters. Both take turns. CLOCK_MONOTONIC is the
same in all processes of a machine.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import json
import os
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from meshvisor.shared.memory.blacklist import SharedBlacklist

from .disciplines import DIALS
from .table import Row

PENALTY = 0.5
"""Seconds that the first failure bars an endpoint; short, so that a run of seconds sees several penalties end."""

REST = 0.2
"""Seconds between two sessions of a worker."""

BODY = b"x" * 64

PRINTS_AFTER = 0.05
"""Seconds until a listener prints: while one process writes, another one would wait for its processor."""


async def work(number: int, bad: str, good: str, seconds: float, memory: int, wake: int) -> None:
    """Be one of the workers: connect, send one message, disconnect, until the time is over; print the sessions."""
    from meshvisor import ConnectionManager, ConnectionOptions, Endpoint

    options = ConnectionOptions(
        node_id=f"worker-{number}",
        endpoints=[Endpoint.parse(bad, priority=0), Endpoint.parse(good, priority=1)],
        connect_timeout=None,
        attempt_timeout=30.0,
        endpoint_blacklist_duration=PENALTY,
        max_dials_per_minute_per_endpoint=0,
        enable_network_monitoring=False,
    )
    table = SharedBlacklist.attach(memory, source=options.node_id, wake_fd=wake) if memory >= 0 else None
    manager = ConnectionManager(options, blacklist=table)
    sessions = 0
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.readline)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        connection = await manager.connect()
        await connection.send(BODY)
        await manager.disconnect()
        sessions += 1
        await asyncio.sleep(REST)
    await manager.close()
    print(sessions, flush=True)


async def listen(memory: int, wake: int, count: int) -> None:
    """Be a process with ``count`` subscribers; print when the last of them was called, for each change."""
    loop, print_ = asyncio.get_running_loop(), functools.partial(print, flush=True)
    tables = [SharedBlacklist.attach(memory, wake_fd=wake) for _ in range(count)]
    called = 0

    def note(_: object) -> None:
        nonlocal called
        called += 1
        if called == count:
            called = 0
            loop.call_later(PRINTS_AFTER, print_, time.monotonic_ns())

    for table in tables:
        table.subscribe(note)
    print("ready", flush=True)
    await asyncio.Event().wait()


def wait(wake: int) -> None:
    """Be the floor of ``listen``: print when this process was woken, for each change."""
    poll = select.epoll()
    poll.register(wake, select.EPOLLIN | select.EPOLLET)
    poll.poll(0)
    print("ready", flush=True)
    while True:
        poll.poll()
        at = time.monotonic_ns()
        time.sleep(PRINTS_AFTER)
        print(at, flush=True)


class Endpoints:
    """A bad endpoint that counts its dials, and a good one."""

    def __init__(self) -> None:
        self.dials: list[float] = []

    async def __aenter__(self) -> Endpoints:
        from meshvisor import ConnectionHost, ConnectionHostOptions

        self._server = await asyncio.start_server(self._refuse, "127.0.0.1", 0, backlog=1024)
        self.bad = f"tcp:127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self._folder = tempfile.TemporaryDirectory()
        self.good = f"unix:{self._folder.name}/good.sock"
        self._host = ConnectionHost(ConnectionHostOptions(node_id="good", endpoints=[self.good], max_half_open=256))
        await self._host.__aenter__()
        self._serving = asyncio.create_task(self._serve())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._serving.cancel()
        await asyncio.gather(self._serving, return_exceptions=True)
        self._server.close()
        await self._host.close()
        self._folder.cleanup()

    async def _refuse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.dials.append(time.monotonic())
        writer.transport.abort()

    async def _serve(self) -> None:
        async for connection in self._host:
            with contextlib.suppress(Exception):
                await connection.receive()


async def storm(workers: int, seconds: float, table: SharedBlacklist | None) -> tuple[int, int, int]:
    """Return the connections to the bad endpoint (two for each dial) before and after, and all sessions."""
    descriptors = (-1, -1) if table is None else (table.fileno(), table.wake_fd)
    async with Endpoints() as endpoints:
        processes = [
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "benchmarks.blacklist_storm", "--role", "worker", "--number", str(number)),
                *("--bad", endpoints.bad, "--good", endpoints.good, "--seconds", str(seconds)),
                *("--descriptors", *map(str, descriptors)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=[descriptor for descriptor in descriptors if descriptor >= 0],
            )
            for number in range(workers)
        ]
        for process in processes:
            assert process.stdout is not None
            await process.stdout.readline()
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(b"go\n")
        answers = [(await process.communicate())[0] for process in processes]
        first = sum(at < min(endpoints.dials) + PENALTY * 0.9 for at in endpoints.dials)
        return first, len(endpoints.dials) - first, sum(int(answer or 0) for answer in answers)


@contextlib.contextmanager
def listeners(table: SharedBlacklist, role: str, processes: int, each: int) -> Iterator[list[IO[str]]]:
    """Run processes of ``role`` with ``each`` subscribers each; yield what they print."""
    descriptors = (table.fileno(), table.wake_fd)
    command = [sys.executable, "-m", "benchmarks.blacklist_storm", "--role", role]
    command += ["--workers", str(each), "--descriptors", *map(str, descriptors)]
    children = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, pass_fds=descriptors) for _ in range(processes)
    ]
    lines = [child.stdout for child in children if child.stdout is not None]
    for line in lines:
        assert line.readline() == "ready\n"
    yield lines
    for child in children:
        child.send_signal(signal.SIGTERM)
        child.wait()
        if child.stdout is not None:
            child.stdout.close()


def wake(processes: int, subscribers: int, rounds: int) -> dict[str, list[float]]:
    """Return how long after each change the last of all was called, or woken, in milliseconds."""
    latencies: dict[str, list[float]] = {"listener": [], "floor": []}
    with contextlib.ExitStack() as stack:
        each = subscribers // processes
        places = {}
        for role in latencies:
            table = stack.enter_context(SharedBlacklist.create(source="benchmark"))
            places[role] = table, stack.enter_context(listeners(table, role, processes, each))
        for number in range(rounds):
            for role, (table, lines) in places.items():
                time.sleep(0.02)
                at = time.monotonic_ns()
                table.set_penalty("memory:bad", "hard", 100.0 + number)
                latencies[role].append((max(int(line.readline()) for line in lines) - at) / 1e6)
    return latencies


def compare(workers: int, seconds: float, rounds: int) -> None:
    """Run both, and print them side by side."""
    rows = []
    for round_ in range(rounds):
        single = asyncio.run(storm(workers, seconds, None))
        with SharedBlacklist.create(source="benchmark") as table:
            rows.append((*single, *asyncio.run(storm(workers, seconds, table))))
        print(f"round {round_ + 1}: {json.dumps(rows[-1])}", file=sys.stderr)
    alone = [statistics.median(row[column] for row in rows) for column in range(3)]
    together = [statistics.median(row[column] for row in rows) for column in range(3, 6)]
    print(f"{workers} workers, {seconds:g} s, penalty {PENALTY:g} s x strikes, median of {rounds}")
    print(f"{'dials of the bad endpoint':28}{'at first':>10}{'later':>10}{'all':>10}{'sessions':>10}")
    for name, (first, later, sessions) in (("each for itself", alone), ("one shared blacklist", together)):
        print(f"{name:28}{first / 2:>10,.0f}{later / 2:>10,.0f}{(first + later) / 2:>10,.0f}{sessions:>10,.0f}")
    ratios = (
        alone[0] / max(1, together[0]),
        alone[1] / max(1, together[1]),
        (alone[0] + alone[1]) / max(1, together[0] + together[1]),
        together[2] / max(1, alone[2]),
    )
    print(f"{'ratio':28}" + "".join(f"{ratio:>9.1f}x" for ratio in ratios))


def rows(quick: bool) -> Iterator[Row]:
    """Have 20 workers dial a bad endpoint for some seconds, each for itself and then with one blacklist."""
    seconds = 1.5 if quick else 4.0
    first, later, _ = asyncio.run(storm(20, seconds, None))
    yield Row(DIALS, "each for itself", [(first + later) / 2], unit="dials")
    with SharedBlacklist.create(source="benchmark") as table:
        first, later, _ = asyncio.run(storm(20, seconds, table))
    yield Row(DIALS, "meshvisor, one shared blacklist", [(first + later) / 2], unit="dials")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--workers", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--role", choices=["worker", "listener", "floor"], help=argparse.SUPPRESS)
    parser.add_argument("--number", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--bad", default="", help=argparse.SUPPRESS)
    parser.add_argument("--good", default="", help=argparse.SUPPRESS)
    parser.add_argument("--descriptors", type=int, nargs=2, default=(-1, -1), help=argparse.SUPPRESS)
    given = parser.parse_args()
    memory, wake_fd = given.descriptors
    if given.role == "worker":
        asyncio.run(work(given.number, given.bad, given.good, given.seconds, memory, wake_fd))
    elif given.role == "listener":
        asyncio.run(listen(memory, wake_fd, given.workers))
    elif given.role == "floor":
        wait(wake_fd)
    else:
        os.chdir(Path(__file__).resolve().parents[1])
        compare(given.workers, given.seconds, given.rounds)
        for processes in (5, 50):
            for role, latencies in wake(processes, 50, 100).items():
                latencies.sort()
                what = (
                    f"50 subscribers in {processes} processes"
                    if role == "listener"
                    else f"floor, {processes} processes"
                )
                print(
                    f"{what + ':':32} the last one after {statistics.median(latencies):.2f} ms "
                    f"(p99 {latencies[-2]:.2f}, worst {latencies[-1]:.2f})"
                )


if __name__ == "__main__":
    main()
