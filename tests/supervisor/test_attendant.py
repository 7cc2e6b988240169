"""Who looks after an incarnation: what is judged when."""

import asyncio
from pathlib import Path
from typing import Any

from meshvisor.shared.config.model import Health, Ready, WorkerConfig
from meshvisor.supervisor.attendant import Attendant, Verdicts
from meshvisor.supervisor.memory import MemoryWatch
from meshvisor.workers.testing import run_virtual


class Room:
    """An attendant, what it is shown, and what it says."""

    def __init__(self, **options: Any) -> None:
        self.loop = asyncio.get_running_loop()
        self.size = 0
        self.said: list[tuple[float, str]] = []
        config = WorkerConfig("a", Path("/"), **options)
        memory = MemoryWatch(self.loop, lambda pid, doubtful: self.size)
        verdicts = Verdicts(
            became_ready=lambda: self.say("ready"),
            condemned=lambda cause, why: self.say(f"{cause}: {why}"),
            retired=lambda why: self.say(f"retired: {why}"),
        )
        self.attendant = Attendant(self.loop, config, {"A": "1"}, Path("/nowhere"), memory, verdicts)

    def say(self, text: str) -> None:
        self.said.append((round(self.loop.time(), 3), text))


def test_nobody_is_asked_to_make_room_before_it_is_ready_and_everybody_is_killed_beyond_the_limit() -> None:
    async def main() -> None:
        room = Room(class_path="a:B", memory_soft=1024, max_memory=4096)
        room.size = 2048
        room.attendant.begin(1)
        await asyncio.sleep(5.5)
        assert room.said == []
        room.attendant.ready()
        await asyncio.sleep(5.0)
        assert room.said == [(6.5, "retired: it used 2 KiB of memory, more than its memory_soft of 1 KiB")]
        room.size = 8192
        await asyncio.sleep(5.0)
        assert room.said[1:] == [(11.5, "memory: it used 8 KiB of memory, more than its max_memory of 4 KiB")]

    run_virtual(main())


def test_a_command_is_checked_from_ready_until_it_is_to_stop() -> None:
    async def main() -> None:
        health = Health(exec=("no-such-program",), period=1.0, failures=2)
        room = Room(command=("x",), health=health)
        room.attendant.begin(1)
        await asyncio.sleep(10.0)
        room.attendant.executed()
        await asyncio.sleep(10.0)
        assert room.said == [(10.1, "ready")]
        room.attendant.ready()
        await asyncio.sleep(0.5)
        room.attendant.stopping()
        await asyncio.sleep(10.0)
        room.attendant.ended()
        assert len(room.said) == 1

    run_virtual(main())


def test_after_the_end_nothing_is_said() -> None:
    async def main() -> None:
        room = Room(command=("x",), ready=Ready(log="up"), max_memory=1)
        room.size = 2
        room.attendant.begin(1)
        room.attendant.ended()
        room.attendant.ended()
        room.attendant.printed("up")
        room.attendant.executed()
        await asyncio.sleep(10.0)
        assert room.said == []
        assert room.attendant.complaint == 'waited for "up" in its output'

    run_virtual(main())


def test_other_limits_and_another_check_apply_at_once() -> None:
    async def main() -> None:
        room = Room(command=("x",))
        room.size = 2048
        room.attendant.begin(1)
        room.attendant.ready()
        await asyncio.sleep(5.0)
        room.attendant.reconfigure(WorkerConfig("a", Path("/"), command=("x",), memory_soft=1024))
        await asyncio.sleep(1.5)
        assert [at for at, _ in room.said] == [6.0]
        room.attendant.stopping()
        room.attendant.reconfigure(WorkerConfig("a", Path("/"), command=("x",), max_memory=1024))
        await asyncio.sleep(5.0)
        assert len(room.said) == 1

    run_virtual(main())


def test_another_health_check_applies_at_once_unless_it_is_for_another_program() -> None:
    async def main() -> None:
        nowhere = Path("/nowhere/at/all")  # where no check can be run
        health = Health(exec=("true",), period=1.0, failures=2)
        room = Room(command=("x",))
        room.attendant.begin(1)
        room.attendant.ready()
        room.attendant.reconfigure(WorkerConfig("a", nowhere, command=("y",), health=health))
        await asyncio.sleep(5.0)
        assert room.said == []
        room.attendant.reconfigure(WorkerConfig("a", nowhere, command=("x",), health=health))
        await asyncio.sleep(1.5)
        room.attendant.reconfigure(WorkerConfig("a", nowhere, command=("x",), health=health, max_memory=1))
        await asyncio.sleep(5.0)
        assert [at for at, _ in room.said] == [7.0]
        assert room.said[0][1].startswith("hung: its health check failed 2 times in a row: cannot enter the directory")

    run_virtual(main())
