"""Memory limits: who is measured, when a limit is exceeded, and whether it was the kernel that killed."""

import asyncio
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from meshvisor.supervisor.child import Exit
from meshvisor.supervisor.memory import MemoryLimit, MemoryWatch, OomCounter, OomWatch, memory_of
from meshvisor.workers.testing import run_virtual

MIB = 1024 * 1024
KILLED = Exit(signal="SIGKILL")


class Machine:
    """Processes of which one can say how large they are."""

    def __init__(self) -> None:
        self.sizes: dict[int, int] = {}
        self.measured: list[tuple[float, int]] = []
        self.said: list[tuple[float, int, str, int]] = []
        self.loop = asyncio.get_running_loop()
        self.watch = MemoryWatch(self.loop, self.measure)

    def measure(self, pid: int, doubtful: int) -> int:
        self.measured.append((self.loop.time(), pid))
        return self.sizes[pid]

    def exceeded(self, pid: int, limit: MemoryLimit, size: int) -> None:
        self.said.append((self.loop.time(), pid, str(limit), size))

    def limit(self, pid: int, soft: int | None = None, hard: int | None = None) -> object:
        return self.watch.watch(pid, soft, hard, lambda limit, size: self.exceeded(pid, limit, size))


def test_only_slots_with_a_limit_are_measured_each_second() -> None:
    async def main() -> None:
        machine = Machine()
        machine.sizes = {1: 10, 2: 10}
        machine.limit(1)
        await asyncio.sleep(10.0)
        assert machine.measured == []
        machine.limit(2, soft=20)
        await asyncio.sleep(2.5)
        assert machine.measured == [(11.0, 2), (12.0, 2)]

    run_virtual(main())


def test_each_limit_is_told_of_once_and_only_above_it() -> None:
    async def main() -> None:
        machine = Machine()
        machine.sizes = {1: 100}
        machine.limit(1, soft=100, hard=200)
        await asyncio.sleep(1.5)
        machine.sizes[1] = 101
        await asyncio.sleep(2.0)
        machine.sizes[1] = 201
        await asyncio.sleep(10.0)
        assert machine.said == [(2.0, 1, "memory_soft", 101), (4.0, 1, "max_memory", 201)]
        assert machine.measured[-1] == (4.0, 1)

    run_virtual(main())


def test_beyond_both_limits_at_once_nobody_is_asked_any_more() -> None:
    async def main() -> None:
        machine = Machine()
        machine.sizes = {1: 300, 2: 300}
        machine.limit(1, soft=100, hard=200)
        machine.limit(2, soft=100)
        await asyncio.sleep(10.0)
        assert machine.said == [(1.0, 1, "max_memory", 300), (1.0, 2, "memory_soft", 300)]

    run_virtual(main())


def test_one_that_has_ended_is_measured_no_more_even_from_within_a_verdict() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        measured: list[int] = []

        def measure(pid: int, doubtful: int) -> int:
            measured.append(pid)
            return 1000

        watch = MemoryWatch(loop, measure)
        watch.watch(1, 1, None, lambda limit, size: unwatch())
        unwatch = watch.watch(2, 1, None, lambda limit, size: pytest.fail("it has ended"))
        await asyncio.sleep(5.0)
        assert measured == [1]

    run_virtual(main())


FAMILY = f"""if True:
    import os, sys
    size = {16 * MIB}
    own = bytearray(os.urandom(size))
    shared = own
    for _ in range(2):
        if not os.fork():
            mine = bytearray(os.urandom(size)) if sys.argv[1] == "own" else None
            os.write(1, b"there\\n")
            sys.stdin.read()
            os._exit(0)
    os.write(1, b"there\\n")
    sys.stdin.read()
"""


@pytest.mark.parametrize("kind", ["own", "shared"])
def test_descendants_count_and_what_they_share_counts_once_where_it_matters(kind: str) -> None:
    arguments = [sys.executable, "-c", FAMILY, kind]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(3):
            assert process.stdout.readline() == b"there\n"
        plain, exact = memory_of(process.pid, sys.maxsize), memory_of(process.pid)
        own = psutil.Process(process.pid).memory_info().rss
        process.communicate()
    assert plain > own + 32 * MIB
    assert own + 31 * MIB < exact < plain if kind == "own" else exact < own + 16 * MIB


def test_a_process_by_itself_is_its_resident_set_and_one_that_is_gone_is_nothing() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"?\n")
        process.stdin.flush()
        process.stdout.readline()
        found = memory_of(process.pid, 0), psutil.Process(process.pid).memory_info().rss
        process.stdin.close()
    assert found[0] == found[1] > 0
    assert memory_of(process.pid) == 0


# The kernel's doing.


class Kernel:
    def __init__(self, count: int | None = 7) -> None:
        self.now = 100.0
        self.count = count
        self.watch = OomWatch(lambda: self.now, lambda: self.count)

    def kill(self, number: int = 1) -> None:
        assert self.count is not None
        self.count += number


def test_a_kill_that_the_kernel_has_counted_is_its_own() -> None:
    kernel = Kernel()
    assert not kernel.watch.explains(KILLED)
    kernel.kill()
    assert kernel.watch.explains(KILLED)
    assert not kernel.watch.explains(KILLED)


def test_two_victims_at_once_are_two() -> None:
    kernel = Kernel()
    kernel.kill(2)
    assert [kernel.watch.explains(KILLED) for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize("exit", [Exit(code=137), Exit(signal="SIGTERM"), Exit(failure="no")])
def test_the_kernel_kills_by_sigkill_only(exit: Exit) -> None:
    kernel = Kernel()
    kernel.kill()
    assert not kernel.watch.explains(exit)
    assert kernel.watch.explains(KILLED)


def test_what_was_killed_long_before_explains_nothing() -> None:
    kernel = Kernel()
    kernel.kill()
    kernel.watch.note()
    kernel.now += 5.1
    assert not kernel.watch.explains(KILLED)


@pytest.mark.parametrize("count", [None, 3])
def test_a_count_that_is_missing_or_falls_explains_nothing(count: int | None) -> None:
    kernel = Kernel()
    kernel.count = count
    assert not kernel.watch.explains(KILLED)


def test_this_kernel_counts() -> None:
    counter = OomCounter()
    has_count = "oom_kill " in Path("/proc/vmstat").read_text()
    assert not has_count or isinstance(counter(), int)
    counter.close()
    assert counter() is None
