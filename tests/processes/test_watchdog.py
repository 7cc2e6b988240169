"""Each kind of trouble once, in a real process, found by the watchdog over a real board."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from meshvisor import LivenessBoard
from meshvisor.supervisor.traces import make_traces, read_traces, request_traces
from meshvisor.supervisor.verdict import Verdict
from meshvisor.supervisor.watchdog import Watchdog

PROGRAM = str(Path(__file__).with_name("hanging_worker.py"))
PATIENCE = 30.0


class Kennel:
    """A board, a watchdog, and the processes it watches; slot n is that of ``processes[n]``."""

    def __init__(self, board: LivenessBoard) -> None:
        self.board = board
        self.processes: list[subprocess.Popen[bytes]] = []
        self.traces: list[int] = []
        self.suspects: dict[int, list[bool]] = {}
        self.judged: dict[int, tuple[Verdict, str]] = {}
        self._news = asyncio.Event()
        self.dog = Watchdog(asyncio.get_running_loop(), board, 0.025, self._judge, self._suspect)

    def _judge(self, index: int, verdict: Verdict, text: str) -> None:
        assert index not in self.judged
        self.judged[index] = verdict, text
        self._news.set()

    def _suspect(self, index: int, is_late: bool) -> None:
        self.suspects.setdefault(index, []).append(is_late)
        self._news.set()

    def start(self) -> None:
        """Start one more process and wait until it is ready."""
        index = len(self.processes)
        self.traces.append(make_traces())
        handed = [self.board.fileno(), self.traces[index]]
        command = [sys.executable, PROGRAM, str(handed[0]), str(index), "1", str(handed[1])]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=handed)
        self.processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"

    def watch(self, index: int, hang: float | None = 0.2, busy: float | None = 30.0) -> None:
        self.dog.watch(index, self.processes[index].pid, 1, hang_timeout=hang, busy_timeout=busy)

    def tell(self, index: int, act: str) -> None:
        stdin = self.processes[index].stdin
        assert stdin is not None
        stdin.write(act.encode() + b"\n")
        stdin.flush()

    async def verdict(self, index: int) -> tuple[Verdict, str]:
        async with asyncio.timeout(PATIENCE):
            while index not in self.judged:
                self._news.clear()
                await self._news.wait()
        return self.judged[index]

    def close(self) -> None:
        self.dog.close()
        for process in self.processes:
            process.kill()
            process.communicate()
        for descriptor in self.traces:
            os.close(descriptor)
        self.board.close()


@asynccontextmanager
async def kennel(count: int = 1) -> AsyncIterator[Kennel]:
    made = Kennel(LivenessBoard.create(count))
    try:
        for _ in range(count):
            made.start()
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("act", ["sleep", "deadlock"])
def test_a_callback_that_blocks_is_found_and_the_worker_says_where(act: str) -> None:
    async def main() -> None:
        async with kennel() as dogs:
            dogs.watch(0)
            dogs.tell(0, act)
            verdict, text = await dogs.verdict(0)
            assert verdict is Verdict.BLOCKED
            assert text.startswith("its event loop made no turn for 0.")
            assert dogs.suspects == {0: [True]}
            pidfd = os.pidfd_open(dogs.processes[0].pid)
            request_traces(pidfd)
            os.close(pidfd)
            async with asyncio.timeout(PATIENCE):
                while f"in {act}\n" not in (said := read_traces(dogs.traces[0])):
                    await asyncio.sleep(0.01)
            assert said.startswith("Main thread, most recent call first:\n")

    asyncio.run(main())


def test_a_callback_that_computes_is_not_hung_before_its_busy_time_out() -> None:
    async def main() -> None:
        async with kennel() as dogs:
            dogs.watch(0, busy=0.4)
            dogs.tell(0, "spin")
            verdict, text = await dogs.verdict(0)
            assert verdict is Verdict.RUNNING
            assert "s and computed for 0." in text

    asyncio.run(main())


def test_a_thread_that_keeps_the_gil_in_c_code_is_computing() -> None:
    async def main() -> None:
        async with kennel() as dogs:
            dogs.watch(0, busy=0.4)
            dogs.tell(0, "gil")
            assert (await dogs.verdict(0))[0] is Verdict.RUNNING

    asyncio.run(main())


def test_a_stopped_process_is_found_in_a_turn_at_once() -> None:
    async def main() -> None:
        async with kennel() as dogs:
            dogs.watch(0, hang=25.0)
            dogs.tell(0, "spin")
            while not dogs.suspects:
                await asyncio.sleep(0.01)
            dogs.processes[0].send_signal(signal.SIGSTOP)
            verdict, text = await dogs.verdict(0)
            assert verdict is Verdict.STOPPED
            assert "(state T, by SIGSTOP)" in text

    asyncio.run(main())


@pytest.mark.slow
def test_a_process_stopped_while_it_waits_is_found_by_its_beat() -> None:
    async def main() -> None:
        async with kennel() as dogs:
            dogs.watch(0)
            dogs.processes[0].send_signal(signal.SIGSTOP)
            assert (await dogs.verdict(0))[0] is Verdict.STOPPED

    asyncio.run(main())


def hog() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "while True: pass"])


@pytest.mark.slow
def test_idle_and_starved_workers_are_left_alone() -> None:
    # Two of five compete with more spinning processes than there are cores, with the lowest priority of all.
    async def main() -> None:
        async with kennel(5) as dogs:
            hogs = [hog() for _ in range(2 * (os.cpu_count() or 1))]
            try:
                for index in range(5):
                    dogs.watch(index, hang=0.1)
                for index in (0, 1):
                    os.setpriority(os.PRIO_PROCESS, dogs.processes[index].pid, 19)
                    dogs.tell(index, "spin")
                await asyncio.sleep(2.5)
                assert dogs.judged == {}
            finally:
                for process in hogs:
                    process.kill()
                    process.wait()

    asyncio.run(main())
