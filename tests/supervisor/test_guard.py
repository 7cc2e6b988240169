"""What the guardian is told of."""

import asyncio
import errno
import os

import pytest

from meshvisor.supervisor import guard as guard_module
from meshvisor.supervisor.event import Event, describe
from meshvisor.supervisor.guard import Guard
from meshvisor.supervisor.leftovers import Mark
from meshvisor.workers.testing import run_virtual


def test_a_child_that_nobody_could_look_at_is_recorded_as_soon_as_somebody_can(monkeypatch: pytest.MonkeyPatch) -> None:
    starts: dict[int, int] = {}
    monkeypatch.setattr(guard_module, "start_time", starts.get)

    async def main() -> None:
        guard = Guard(asyncio.get_running_loop(), Mark.of_this_process("mesh"))
        guard.record(os.getpid())
        guard.record(1)
        guard.forget(1)
        await asyncio.sleep(5.0)
        assert guard._recorded == {}
        starts.update({os.getpid(): 70, 1: 10})
        await asyncio.sleep(1.0)
        assert guard._recorded == {os.getpid(): 70}
        await guard.close()

    run_virtual(main())


def test_a_guardian_that_cannot_be_started_again_is_missed_aloud(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(guard_module, "_execute", refuse)
    said: list[str] = []

    def hear(name: str, **facts: object) -> None:
        said.append(describe(Event(0.0, name, details=facts)))

    async def main() -> None:
        guard = Guard(asyncio.get_running_loop(), Mark.of_this_process("mesh"), hear)
        guard._start_later(4000)
        await asyncio.sleep(0.25)
        await guard.close()

    run_virtual(main())
    assert said == [
        "the guardian is gone; another one starts in 0 ms",
        "there is no guardian, and none can be started now: Too many open files; next try in 0 ms",
        "there is no guardian, and none can be started now: Too many open files; next try in 100 ms",
        "there is no guardian, and none can be started now: Too many open files; next try in 200 ms",
    ]
