"""Which of the children that nobody here waits for are reaped, and when."""

import asyncio
import errno
import os
import signal
import subprocess

import pytest

from meshvisor.supervisor.leftovers import Mark
from meshvisor.supervisor.subreaper import Subreaper


def wait_for_death(process: subprocess.Popen[bytes]) -> None:
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


def test_only_dead_strangers_are_reaped_and_none_while_something_is_being_forked() -> None:
    """supervisord 11 (reliability.md 4.3): several at once; who waits for its own child gets it."""
    dead, own = (subprocess.Popen(["true"]) for _ in range(2))
    alive = subprocess.Popen(["sleep", "1000"])
    for process in (dead, own):
        wait_for_death(process)
    is_forking = True

    async def main() -> None:
        nonlocal is_forking
        subreaper = Subreaper(
            asyncio.get_running_loop(),
            Mark.of_this_process("mesh"),
            own=lambda: {own.pid},
            is_forking=lambda: is_forking,
        )
        assert subreaper.reap() == []
        is_forking = False
        assert subreaper.reap() == [dead.pid]
        subreaper.close()

    asyncio.run(main())
    assert own.wait() == 0
    alive.kill()
    assert alive.wait() == -signal.SIGKILL
    assert dead.wait() == 0  # subprocess finds nobody to wait for, and takes it for a success


def test_what_could_not_be_reaped_during_a_fork_is_reaped_after_it() -> None:
    dead = subprocess.Popen(["true"])
    wait_for_death(dead)
    answers = iter([True])

    async def main() -> None:
        reaped = asyncio.Event()

        def own() -> set[int]:
            reaped.set()  # asked for just before the reaping, in the same turn
            return set()

        loop, mark = asyncio.get_running_loop(), Mark.of_this_process("mesh")
        subreaper = Subreaper(loop, mark, own=own, is_forking=lambda: next(answers, False))
        assert subreaper.reap() == []
        await reaped.wait()

    asyncio.run(main())
    assert dead.wait() == 0


def test_only_the_orphans_of_one_incarnation_are_swept() -> None:
    mark = Mark.of_this_process("mesh")

    def start(slot: str, incarnation: int) -> subprocess.Popen[bytes]:
        environment = {"MESHVISOR_SLOT": slot, "MESHVISOR_INCARNATION": str(incarnation), "MESHVISOR_MESH": str(mark)}
        return subprocess.Popen(["/bin/sleep", "1000"], env=environment, start_new_session=True)

    victim, later, other = start("a", 1), start("a", 2), start("b", 1)

    async def main() -> None:
        subreaper = Subreaper(asyncio.get_running_loop(), mark, own=set, is_forking=lambda: False)
        assert await subreaper.sweep("a", 1, pid=2**22) == [victim.pid]
        assert await subreaper.sweep("c", 1, pid=later.pid) == [later.pid]  # known by its session

    asyncio.run(main())
    assert other.poll() is None
    other.kill()
    other.wait()
    for process in (victim, later):
        process.wait()


def test_without_a_descriptor_to_look_with_it_looks_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    dead = subprocess.Popen(["true"])
    wait_for_death(dead)

    def refuse(path: str) -> list[str]:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async def main() -> None:
        loop, mark = asyncio.get_running_loop(), Mark.of_this_process("mesh")
        subreaper = Subreaper(loop, mark, own=set, is_forking=lambda: False)
        with monkeypatch.context() as patch:
            patch.setattr(os, "listdir", refuse)
            assert subreaper.reap() == []
        assert subreaper._timer is not None
        assert subreaper._timer.when() - loop.time() > 0.5
        assert subreaper.reap() == [dead.pid]
        assert subreaper._timer is None

    asyncio.run(main())
    dead.wait()


def test_many_notices_are_one_look() -> None:
    """supervisord 11 (reliability.md 4.3): no recursion, however many signals."""
    looks = 0

    async def main() -> None:
        looked = asyncio.Event()

        def own() -> set[int]:
            nonlocal looks
            looks += 1
            looked.set()
            return set()

        loop, mark = asyncio.get_running_loop(), Mark.of_this_process("mesh")
        subreaper = Subreaper(loop, mark, own=own, is_forking=lambda: False)
        for _ in range(10):
            subreaper.notice()
        assert looks == 0
        await looked.wait()
        assert looks == 1
        subreaper.notice()
        subreaper.close()

    asyncio.run(main())
    assert looks == 1
