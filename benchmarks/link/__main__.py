"""One link between two processes beside other ways to pass messages, in one run: ``python -m benchmarks.link``.

For each contender a second process is the other end. Throughput: the sender sends ``count`` messages as fast as it
may and waits for one answer when the last has been taken. Round trip: ``count`` messages there and back, one at a
time. Contenders take turns, ``--rounds`` times; the table shows medians, and the ratio to plain pyzmq PAIR.

meshvisor delivers exactly once over any reconnect; none of the others does. ``pyzmq`` is PAIR with default settings
but for a high-water mark that is no limit, and bodies from 64 KiB on are not copied; ``streams`` frames by a four-byte
length; ``raw`` is one blocking socket, one ``sendall`` per message; ``grpc.aio`` is one stream each way, no protobuf.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
from collections.abc import Coroutine
from typing import Any

from .contest import CONTENDERS, amount, measure, present

ROWS = [("64 B", 64, False), ("1 KiB", 1024, False), ("1 MiB", 1 << 20, False), ("RTT 64 B", 64, True)]
BASE = "pyzmq PAIR"


def _run(main: Coroutine[Any, Any, float | None], fast: bool) -> float | None:
    if fast:
        import uvloop

        return uvloop.run(main)
    return asyncio.run(main)


def one_side(name: str, side: int, address: str, size: int, count: int, rtt: bool, fast: bool) -> float | None:
    result = CONTENDERS[name][side](address, size, count, rtt)
    return _run(result, fast) if asyncio.iscoroutine(result) else result  # type: ignore[return-value]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--uvloop", action="store_true")
    parser.add_argument("--transport", choices=["unix", "tcp"], action="append")
    for hidden, kind in (("name", str), ("address", str), ("size", int), ("count", int)):
        parser.add_argument(hidden, nargs="?", type=kind, help=argparse.SUPPRESS)
    parser.add_argument("--rtt", action=argparse.BooleanOptionalAction, default=False, help=argparse.SUPPRESS)
    parser.add_argument("--side", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--core", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.side is None:
        with tempfile.TemporaryDirectory() as folder:
            for transport in asked.transport or ["unix", "tcp"]:
                table(transport, asked.rounds, asked.uvloop, folder)
        return
    if asked.core is not None:
        os.sched_setaffinity(0, {asked.core})
    spent = one_side(asked.name, asked.side, asked.address, asked.size, asked.count, asked.rtt, asked.uvloop)
    if spent is not None:
        print(spent)


def table(transport: str, rounds: int, fast: bool, folder: str) -> None:
    """Measure and print the table of one transport."""
    results: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for row, size, rtt in ROWS:
            for name in present(tuple(CONTENDERS)):
                count = 5_000 if rtt else amount(name, size)
                value = measure(name, transport, size, count, rtt, folder, fast=fast)
                results.setdefault((row, name), []).append(value)
    loop = "uvloop" if fast else "asyncio"
    print(f"\n{transport}, {loop}, Python {sys.version.split()[0]}, {os.cpu_count()} cores, median of {rounds}")
    print(f"{'':28}" + "".join(f"{row:>24}" for row, *_ in ROWS))
    for name in present(tuple(CONTENDERS)):
        cells = []
        for row, _, rtt in ROWS:
            value = statistics.median(results[row, name])
            base = statistics.median(results[row, BASE])
            shown = f"{value:,.1f} us" if rtt else f"{value:,.0f}/s"
            cells.append(f"{shown:>15} {value / base:>5.2f}x ")
        print(f"{name:28}" + "".join(f"{cell:>24}" for cell in cells))


if __name__ == "__main__":
    main()
