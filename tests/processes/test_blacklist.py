"""One blacklist for all processes: of a mesh, and of whoever asks at its attach.sock."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from meshvisor.shared.memory.blacklist import SharedBlacklist
from meshvisor.supervisor.attach import attach_blacklist

KEY = "tcp:127.0.0.1:4500"

_MODULE = f"""
import asyncio

from meshvisor import Worker

KEY = "{KEY}"


class Node(Worker):
    async def on_start(self):
        penalties = self._node._mesh._dialer.penalties
        now = asyncio.get_running_loop().time()
        if self.settings.get("reports") and self.incarnation == 1:
            penalties.fail(KEY, now)
        print("barred", penalties.remaining(KEY, now) > 0, flush=True)
"""


async def supervise(shop: Any, *arguments: str) -> Any:
    """Give a command as an operator would, and return its JSON."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "meshvisor.supervisor", *arguments, "--name", "testmesh", "--json"),
        env={**os.environ, "MESHVISOR_RUNTIME_DIR": str(shop.runtime)},
        stdout=subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out
    return json.loads(out)


def test_a_penalty_holds_for_all_workers_and_outlives_the_one_that_set_it(real_workshop: Any) -> None:
    (real_workshop.directory / "app.py").write_text(_MODULE)
    reporter = real_workshop.real_worker("reporter", "app:Node", settings={"reports": True})
    other = real_workshop.real_worker("other", "app:Node", depends_on=("reporter",))

    async def restarted(mesh: Any, slot: str, incarnation: int) -> str:
        """Kill the worker in ``slot``; return what its next incarnation finds."""
        mesh.lines.clear()
        os.kill(mesh.pid(slot), signal.SIGKILL)
        await mesh.happened("slot-ready", slot, incarnation)
        return str(await mesh.printed(slot, "barred "))

    async def main() -> None:
        async with real_workshop.running(reporter, other) as mesh:
            assert await mesh.printed("reporter", "barred ") == "True"
            # A worker that is started later sees it.
            assert await mesh.printed("other", "barred ") == "True"
            # The one that set it is dead, the other one is replaced.
            assert await restarted(mesh, "reporter", 2) == "True"
            assert await restarted(mesh, "other", 2) == "True"
            penalty = next(one for one in mesh.supervisor.status().blacklist if one.key == KEY)
            assert (penalty.severity, penalty.source, penalty.strikes) == ("hard", "reporter", 1)
            # An operator lifts it, and bars it again: the workers know at once.
            assert await supervise(real_workshop, "blacklist", "clear", KEY) == {"cleared": [KEY]}
            assert await restarted(mesh, "reporter", 3) == "False"
            added = await supervise(real_workshop, "blacklist", "add", KEY, "--severity", "fatal", "--duration", "2m")
            assert (added["severity"], 119 < added["remaining"] <= 120) == ("fatal", True)
            assert await restarted(mesh, "other", 3) == "True"
            listed = {one["key"]: one for one in await supervise(real_workshop, "blacklist", "list")}
            assert (listed[KEY]["source"], listed[KEY]["reporters"]) == ("operator", 1)

    asyncio.run(main())


def test_what_another_process_has_attached_outlives_the_mesh(real_workshop: Any) -> None:
    async def main() -> None:
        async with real_workshop.running(real_workshop.shell("sleeper", "exec sleep 600")) as mesh:
            with await asyncio.to_thread(attach_blacklist, real_workshop.runtime, "testmesh", "guest") as guest:
                guest.set_penalty(KEY, "soft", 60.0, retry_after=True)
                (penalty,) = mesh.supervisor.status().blacklist
                assert (penalty.source, penalty.retry_after) == ("guest", True)
                mesh.supervisor.request_kill()
                await mesh.supervisor.wait()
                assert mesh.supervisor.status().blacklist == ()
                assert guest.get_penalty(KEY) is not None
        assert not (real_workshop.runtime / "testmesh").exists()

    asyncio.run(main())


def test_fifty_subscribers_in_five_processes_hear_of_one_change(tmp_path: Path) -> None:
    script = """
        import asyncio, sys
        from meshvisor.shared.memory.blacklist import SharedBlacklist

        async def main(memory, wake):
            tables = [SharedBlacklist.attach(memory, wake_fd=wake) for _ in range(10)]
            heard = [asyncio.Event() for _ in tables]
            for table, event in zip(tables, heard):
                table.subscribe(lambda penalty, event=event: event.set())
            print("ready", flush=True)
            await asyncio.gather(*(event.wait() for event in heard))
            print({table.get_penalty("memory:a").source for table in tables}, flush=True)

        asyncio.run(main(*map(int, sys.argv[1:])))
    """
    with SharedBlacklist.create(source="test") as table:
        descriptors = (table.fileno(), table.wake_fd)
        command = [sys.executable, "-c", textwrap.dedent(script), *map(str, descriptors)]
        processes = [
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True, pass_fds=descriptors) for _ in range(5)
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        table.set_penalty("memory:a", "hard", 10.0)
        assert [process.communicate()[0] for process in processes] == ["{'test'}\n"] * 5
