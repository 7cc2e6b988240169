"""A process with a pulse on a board, and without a supervisor: becomes ready, then does what it is told on stdin.

sleep     blocks in a callback           deadlock    waits for a lock that nobody gives back
spin      computes in a callback         gil         another thread computes in C code that holds the GIL
idle      goes on waiting
"""

import asyncio
import hashlib
import itertools
import os
import sys
import threading
import time

from meshvisor import LivenessBoard
from meshvisor.shared.memory.board import Stage
from meshvisor.workers.pulse import Pulse, PulsedLoop
from meshvisor.workers.traces import register


def sleep() -> None:
    time.sleep(3600)


def deadlock() -> None:
    lock = threading.Lock()
    with lock, lock:
        pass


def spin() -> None:
    while True:
        hashlib.sha256(b"x").digest()


def gil() -> None:
    # all() over an endless iterator is C code that never lets go.
    threading.Thread(target=all, args=(itertools.repeat(1),), daemon=True).start()


def idle() -> None:
    pass


ACTS = {act.__name__: act for act in (sleep, deadlock, spin, gil, idle)}


async def main(board: LivenessBoard, index: int, incarnation: int, traces: int) -> None:
    register(traces)
    loop = asyncio.get_running_loop()
    selector = loop.pulsed.fileno() if isinstance(loop, PulsedLoop) else -1
    writer = board.claim(index, f"worker-{index}", incarnation, 1, selector=selector)
    Pulse(writer, loop).start()
    writer.set_stage(Stage.READY)

    def told() -> None:
        if not (text := os.read(0, 100).decode()):
            sys.exit()
        ACTS[text.strip()]()

    loop.add_reader(0, told)
    os.write(1, b"ready\n")
    await loop.create_future()


if __name__ == "__main__":
    descriptor, index, incarnation, traces = map(int, sys.argv[1:])
    with asyncio.Runner(loop_factory=PulsedLoop) as runner:
        runner.run(main(LivenessBoard.attach(descriptor), index, incarnation, traces))
