"""Stopping: asked first, bounded always, complete in the end."""

import asyncio
import os
import signal
from typing import Any

from meshvisor.shared.config.model import Backoff

FOREVER = "exec sleep 1000"
STUBBORN = "trap '' TERM INT; echo deaf; while :; do sleep 1000; done"


def test_a_stop_asks_with_the_configured_signal(workshop: Any) -> None:
    async def main() -> None:
        script = "trap 'echo bye; exit 0' USR1; echo set; while :; do sleep 0.01; done"
        async with workshop.running(workshop.shell("a", script, stop_signal="SIGUSR1")) as mesh:
            await mesh.printed("a", "set")
            mesh.supervisor.request_stop()
            assert await mesh.supervisor.wait() == 0
            assert ("a", "stdout", "bye") in mesh.lines
            last = mesh.supervisor.status().workers[0].last_exit
            assert (last.cause, last.code, last.signal) == ("stopped", 0, None)

    asyncio.run(main())


def test_a_stop_escalates_to_the_whole_group_after_its_timeout(workshop: Any, witness: Any) -> None:
    """supervisord 5 and 9 (reliability.md 4.3): SIGKILL, and to the whole group."""

    async def main() -> None:
        script = "trap '' TERM; sleep 1000 & echo pid $!; " + STUBBORN
        async with workshop.running(workshop.shell("a", script, stop_timeout=0.05)) as mesh:
            grandchild = witness(int(await mesh.printed("a", "pid ")))
            await mesh.printed("a", "deaf")
            mesh.supervisor.request_stop()
            assert await mesh.supervisor.wait() == 0
            assert grandchild.saw_the_end()
            last = mesh.supervisor.status().workers[0].last_exit
            assert (last.cause, last.signal) == ("stopped", "SIGKILL")

    asyncio.run(main())


def test_a_worker_that_ignores_every_request_is_killed(workshop: Any) -> None:
    async def main() -> None:
        async with workshop.running(workshop.worker("a", "stubborn", stop_timeout=0.05)) as mesh:
            await mesh.happened("slot-ready", "a")
            mesh.supervisor.request_stop()
            assert await mesh.supervisor.wait() == 0

    asyncio.run(main())


def test_without_a_stop_timeout_nobody_is_asked(workshop: Any) -> None:
    async def main() -> None:
        async with workshop.running(workshop.shell("a", STUBBORN, stop_timeout=0.0)) as mesh:
            await mesh.printed("a", "deaf")
            mesh.supervisor.request_stop()
            assert await mesh.supervisor.wait() == 0

    asyncio.run(main())


def test_a_second_request_stops_at_once_with_1(workshop: Any) -> None:
    async def main() -> None:
        async with workshop.running(workshop.shell("a", STUBBORN, stop_timeout=1000.0)) as mesh:
            await mesh.printed("a", "deaf")
            mesh.supervisor.request_stop()
            mesh.supervisor.request_stop()
            mesh.supervisor.request_kill()
            mesh.supervisor.request_kill()
            assert await mesh.supervisor.wait() == 1

    asyncio.run(main())


def test_a_frozen_process_is_stopped_too(workshop: Any) -> None:
    async def main() -> None:
        async with workshop.running(workshop.worker("a", stop_timeout=0.05)) as mesh:
            await mesh.happened("slot-ready", "a")
            os.kill(mesh.pid("a"), signal.SIGSTOP)
            mesh.supervisor.request_stop()
            assert await mesh.supervisor.wait() == 0

    asyncio.run(main())


def test_nothing_is_started_again_after_a_stop_was_asked_for(workshop: Any) -> None:
    """supervisord 4 (reliability.md 4.3): starting, ready and backing-off slots alike."""

    async def main() -> None:
        workers = (
            workshop.shell("top", STUBBORN, depends_on=("bottom",), stop_timeout=0.2),
            workshop.shell("bottom", FOREVER),
            workshop.shell("waiting", FOREVER, depends_on=("failing",)),
            workshop.shell("failing", "exit 1", backoff=Backoff(initial=1000, max=1000, jitter=0)),
        )
        async with workshop.running(*workers) as mesh:
            await mesh.happened("slot-backoff", "failing")
            await mesh.printed("top", "deaf")
            mesh.supervisor.request_stop()
            os.kill(mesh.pid("bottom"), signal.SIGKILL)
            assert await mesh.supervisor.wait() == 0
            assert mesh.names("bottom").count("slot-starting") == 1
            assert mesh.names("waiting") == ["slot-stopped"]
            assert mesh.names("failing")[-1] == "slot-stopped"
            states = {worker.name: worker.state for worker in mesh.supervisor.status().workers}
            assert states == {"top": "stopped", "bottom": "failed", "waiting": "stopped", "failing": "stopped"}

    asyncio.run(main())


def test_a_stop_that_comes_before_anything_has_begun_ends_with_0(workshop: Any) -> None:
    async def main() -> None:
        async with workshop.running(workshop.shell("a", FOREVER)) as mesh:
            mesh.supervisor.request_stop()
            assert await mesh.supervisor.wait() == 0

    asyncio.run(main())


def test_a_stop_leaves_no_file_behind(workshop: Any) -> None:
    async def main() -> None:
        async with workshop.running(workshop.worker("a")) as mesh:
            await mesh.happened("slot-ready", "a")
            assert {entry.name for entry in (workshop.runtime / "testmesh").iterdir()} == {
                "lock",
                "attach.sock",
                "a.1.sock",
            }
            (workshop.runtime / "testmesh" / "control").touch()
        assert list(workshop.runtime.iterdir()) == []

    asyncio.run(main())
