"""What liveness costs, and how soon a hang is found: ``python -m benchmarks.liveness``.

    stamp      what stamping adds to a turn of the loop
    scan       the watchdog's copy of all stamps, and its look at all beats
    idle       CPU of N idle workers that stamp their turns, beside N that beat each 25 ms; and of their watchdog
    hang       from the beginning of a blocking callback to the verdict, at ``hang_timeout`` = 100 ms, idle and busy
    false      verdicts about healthy workers under the same load (there must be none)

Workers are forks of this process without links or user code. ``busy`` is 8 spinning processes beside the workers.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import selectors
import signal
import statistics
import sys
import time
import timeit
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from meshvisor import LivenessBoard
from meshvisor.shared.memory.board import Stage
from meshvisor.supervisor.verdict import Verdict
from meshvisor.supervisor.watchdog import Watchdog
from meshvisor.workers.pulse import Pulse, PulsedLoop, PulsedSelector

from .disciplines import FALSE, STAMP
from .table import Row

BEAT = 0.025
HOGS = 8
VARIABLE = "MESHVISOR_FALSE_VERDICTS"
"""Seconds for which the common runner waits for false verdicts."""


def best(function: Callable[[], object], number: int) -> float:
    """Return the microseconds of one call, the best of seven rounds."""
    return min(timeit.repeat(function, number=number, repeat=7)) / number * 1e6


def stamp_cost() -> tuple[float, float]:
    """Return the microseconds of a turn of the loop's selector without and with stamps."""
    board = LivenessBoard.create()
    plain, pulsed = selectors.EpollSelector(), PulsedSelector()
    pulsed.attach(board.claim(0, "a", 1, 1), lambda late, is_idle: True)
    bare, stamped = (best(partial(selector.select, 0), 200_000) for selector in (plain, pulsed))
    for each in (plain, pulsed, board):
        each.close()
    return bare, stamped


def scan_cost() -> None:
    async def main() -> None:
        for count in (20, 100):
            board = LivenessBoard.create()
            dog = Watchdog(asyncio.get_running_loop(), board, BEAT, lambda *_: None)
            for index in range(count):
                writer = board.claim(index, "a", 1, 1)
                writer.words[writer.stamp_at] = writer.waiting
                dog.watch(index, os.getpid(), 1, hang_timeout=1.0, busy_timeout=30.0)
            beats = best(partial(scan_beats, dog), 2_000)
            copy = best(partial(board.scan, count), 200_000)
            print(
                f"scan     {count} slots: copy {copy:.2f} us; each worker's beat, four times a second: {beats:.0f} us"
            )
            dog.close()
            board.close()

    asyncio.run(main())


def scan_beats(dog: Watchdog) -> None:
    dog._beats_due = 0.0
    dog._examine_all(dog._board.scan(dog._count), 0.0)


# Workers.


def be_worker(board: LivenessBoard, index: int, kind: str, release: int) -> None:
    """Be worker ``index`` for ever; SIGUSR1 makes it block in a callback until a byte comes from ``release``."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        selector = loop.pulsed.fileno() if isinstance(loop, PulsedLoop) else -1
        writer = board.claim(index, f"worker-{index}", 1, 1, selector=selector)
        Pulse(writer, loop, beat=BEAT).start()
        writer.set_stage(Stage.READY)
        loop.add_signal_handler(signal.SIGUSR1, os.read, release, 1)
        await loop.create_future()

    if kind == "uvloop":
        import uvloop

        uvloop.run(main())
    factory = PulsedLoop if kind == "stamps" else asyncio.SelectorEventLoop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


def fork(function: Callable[..., None], *arguments: Any) -> int:
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            function(*arguments)
        finally:
            os._exit(0)
    return pid


@contextmanager
def workers(count: int, kind: str, hogs: int = 0) -> Iterator[tuple[LivenessBoard, list[int], int]]:
    """Fork workers, and processes that only spin; wait until the workers are ready. The last is what releases one."""
    board = LivenessBoard.create()
    read, write = os.pipe()
    pids = [fork(be_worker, board, index, kind, read) for index in range(count)]
    busy = [fork(spin) for _ in range(hogs)]
    try:
        for index in range(count):
            while (entry := board.read(index)) is None or entry.stage is not Stage.READY:
                time.sleep(0.01)
        yield board, pids, write
    finally:
        for pid in pids + busy:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(read)
        os.close(write)
        board.close()


def spin() -> None:
    while True:
        pass


def cpu_of(pids: list[int]) -> float:
    """Return the CPU seconds that processes have used, by the scheduler's account."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/schedstat") as file:
            total += int(file.read().split()[0])
    return total / 1e9


def idle_cost(seconds: float) -> None:
    for kind in ("stamps", "beats", "uvloop"):
        for count in (20, 30, 100):
            with workers(count, kind) as (board, pids, _):
                time.sleep(0.5)
                theirs, ours, verdicts = asyncio.run(watch(board, pids, seconds, hang_timeout=1.0))
            each = " (beats each 25 ms)" if kind != "stamps" else ""
            print(
                f"idle     {count:3} workers, {kind}{each}: {theirs:.2f} % of a core, "
                f"watchdog {ours:.2f} %, verdicts {verdicts}"
            )


async def watch(board: LivenessBoard, pids: list[int], seconds: float, hang_timeout: float) -> tuple[float, float, int]:
    """Watch workers; return the percent of a core that they, and we, have used, and the number of verdicts."""
    verdicts: list[object] = []
    dog = Watchdog(asyncio.get_running_loop(), board, BEAT, lambda *verdict: verdicts.append(verdict))
    for index, pid in enumerate(pids):
        dog.watch(index, pid, 1, hang_timeout=hang_timeout, busy_timeout=30.0)
    began, before, own = time.monotonic(), cpu_of(pids), time.process_time()
    await asyncio.sleep(seconds)
    elapsed = time.monotonic() - began
    theirs, ours = cpu_of(pids) - before, time.process_time() - own
    dog.close()
    return 100 * theirs / elapsed, 100 * ours / elapsed, len(verdicts)


def hangs(rounds: int, hogs: int) -> None:
    with workers(4, "stamps", hogs) as (board, pids, release):
        took, wrong = asyncio.run(time_hangs(board, pids, release, rounds))
    took.sort()
    load = f"{hogs} busy processes" if hogs else "idle"
    print(
        f"hang     {load}: p50 {statistics.median(took) * 1000:.0f} ms, "
        f"p90 {took[int(len(took) * 0.9)] * 1000:.0f} ms, max {took[-1] * 1000:.0f} ms, n {len(took)}, wrong {wrong}"
    )


async def time_hangs(board: LivenessBoard, pids: list[int], release: int, rounds: int) -> tuple[list[float], int]:
    """Make worker 0 hang again and again; return the times to the verdicts, and how many were not as they should be."""
    told: asyncio.Queue[tuple[float, int, Verdict]] = asyncio.Queue()
    dog = Watchdog(
        asyncio.get_running_loop(),
        board,
        BEAT,
        lambda index, verdict, text: told.put_nowait((time.monotonic(), index, verdict)),
    )
    for index, pid in enumerate(pids[1:], 1):
        dog.watch(index, pid, 1, hang_timeout=0.1, busy_timeout=30.0)
    took: list[float] = []
    wrong = 0
    for number in range(rounds):
        await asyncio.sleep(0.3 + BEAT * (number % 7) / 7)
        dog.watch(0, pids[0], 1, hang_timeout=0.1, busy_timeout=30.0)
        await asyncio.sleep(0.1)
        os.kill(pids[0], signal.SIGUSR1)
        at, index, verdict = await told.get()
        entry = board.read(0)
        if (index, verdict) == (0, Verdict.BLOCKED) and entry is not None and entry.turn_started_at is not None:
            took.append(at - entry.turn_started_at)
        else:
            wrong += 1
        dog.unwatch(0)
        os.write(release, b"x")
    dog.close()
    return took, wrong


def false_verdicts(seconds: float) -> int:
    """Return how many verdicts there were about healthy workers beside busy processes."""
    with workers(8, "stamps", HOGS) as (board, pids, _):
        _, _, count = asyncio.run(watch(board, pids, seconds, hang_timeout=0.1))
    return count


def rows(quick: bool) -> Iterator[Row]:
    """Measure what a stamp costs, and wait for false verdicts; for 10 minutes if ``VARIABLE`` says 600."""
    bare, stamped = stamp_cost()
    yield Row(STAMP, "meshvisor", [stamped - bare], unit="us")
    seconds = float(os.environ.get(VARIABLE) or (5 if quick else 30))
    yield Row(FALSE, "meshvisor", [false_verdicts(seconds)], f"watched for {seconds:.0f} s", unit="verdicts")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long to measure each idle mesh")
    parser.add_argument("--rounds", type=int, default=15, help="how many hangs to time")
    parser.add_argument("--false", type=float, default=20.0, help="how many seconds to wait for false verdicts")
    arguments = parser.parse_args()
    bare, stamped = stamp_cost()
    print(f"stamp    {stamped - bare:.2f} us a turn ({bare:.2f} us without)")
    scan_cost()
    idle_cost(arguments.seconds)
    for hogs in (0, HOGS):
        hangs(arguments.rounds, hogs)
    count = false_verdicts(arguments.false)
    print(f"false    {HOGS} busy processes, 8 healthy workers at 100 ms for {arguments.false:.0f} s: {count} verdicts")


if __name__ == "__main__":
    main()
