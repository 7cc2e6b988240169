"""Rolling restarts of real processes under load; ``python -m tests.rolls`` is the long version of the first two."""

import asyncio
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.rolls.run import Options, Spoil, run

from meshvisor.shared.config.model import StartMethod
from meshvisor.shared.errors import SupervisorError


@pytest.mark.slow
def test_a_thousand_calls_a_second_do_not_notice_that_every_worker_is_replaced(tmp_path: Path, adopting: None) -> None:
    outcome = asyncio.run(run(tmp_path, Options(seconds=1.0)))
    assert outcome.faults == []
    assert outcome.account.lives.total() >= 24  # each of the eight was replaced by a restart, and by a reload
    assert len(outcome.account.done) > 300


@pytest.mark.slow
def test_code_that_does_not_work_is_taken_back_and_callers_do_not_notice(tmp_path: Path, adopting: None) -> None:
    outcome = asyncio.run(run(tmp_path, Options(seconds=0.0, spoils=list(Spoil))))
    assert outcome.faults == []
    not_imported, *others = outcome.refusals.values()
    assert re.fullmatch(
        f"the code in {tmp_path} cannot be imported: application: NameError: name 'no_such_name' is not defined "
        rf"\({tmp_path}/application\.py:\d+\)",
        not_imported,
    )
    assert others == [
        "server-0 was not replaced: ValueError: spoilt constructor",
        "server-0 did not become ready: ValueError: spoilt on_start",
        "server-0 did not become ready: its start took longer than 1.5 s",
    ]


SPAWNED = """
from meshvisor import Worker, rpc

VERSION = {version}

class Says(Worker):
    def __init__(self):
        print("made", VERSION, self.name, self.incarnation, flush=True)

    async def on_start(self):
        print("started", VERSION, flush=True)
"""


@pytest.mark.slow
def test_what_is_started_anew_rolls_too(real_workshop: Any) -> None:
    """As a library, without a subreaper: no zygotes, no spares."""
    file = real_workshop.directory / "says.py"
    file.write_text(SPAWNED.format(version=1))
    worker = real_workshop.real_worker("a", "says:Says", replicas=2, start_method=StartMethod.SPAWN)

    async def main() -> None:
        async with real_workshop.running(worker) as mesh:
            await mesh.happened("mesh-ready")
            old = mesh.pid("a-0")
            file.write_text(SPAWNED.format(version=2))
            await mesh.supervisor.restart("a-0")
            await mesh.printed("a-0", "made 2 a-0 2")
            await mesh.printed("a-0", "started 2")
            assert mesh.pid("a-0") not in (None, old)
            file.write_text("import nothing_of_that_name\n")
            with pytest.raises(SupervisorError, match=r"a-0 was not replaced: ModuleNotFoundError"):
                await mesh.supervisor.restart("a-0")
            failed = await mesh.happened("slot-candidate-failed", "a-0")
            assert "nothing_of_that_name" in failed.details["traceback"]
            assert [worker.incarnation for worker in mesh.supervisor.status().workers] == [2, 1]

    asyncio.run(main())


def test_a_candidate_ends_with_a_mesh_that_stops(real_workshop: Any, witness: Any) -> None:
    (real_workshop.directory / "slow.py").write_text(
        "import os, time\nfrom meshvisor import Worker\n\n\nclass Slow(Worker):\n    def __init__(self):\n"
        "        if self.incarnation > 1:\n            print('candidate', os.getpid(), flush=True)\n"
        "            time.sleep(100)\n"
    )
    worker = real_workshop.real_worker("a", "slow:Slow", start_method=StartMethod.SPAWN)

    async def main() -> None:
        async with real_workshop.running(worker) as mesh:
            await mesh.happened("mesh-ready")
            roll = asyncio.create_task(mesh.supervisor.restart("a"))
            candidate = int(await mesh.printed("a", "candidate "))
            watch = witness(candidate)
            mesh.supervisor.request_stop()
            with pytest.raises(SupervisorError, match="as requested"):
                await roll
            assert await mesh.supervisor.wait() == 0
            assert watch.saw_the_end(within=0)

    asyncio.run(main())


def test_a_process_that_is_killed_while_it_hands_over_is_followed_by_its_successor(real_workshop: Any) -> None:
    (real_workshop.directory / "stays.py").write_text(
        "import asyncio\nfrom meshvisor import Worker\n\n\nclass Stays(Worker):\n    async def on_stop(self):\n"
        "        print('stops', flush=True)\n        await asyncio.sleep(100)\n"
    )
    worker = real_workshop.real_worker("a", "stays:Stays", start_method=StartMethod.SPAWN)

    async def main() -> None:
        async with real_workshop.running(worker, max_restarts=0) as mesh:
            await mesh.happened("mesh-ready")
            old = mesh.pid("a")
            roll = asyncio.create_task(mesh.supervisor.restart("a"))
            await mesh.printed("a", "stops")
            os.kill(old, signal.SIGKILL)
            await roll
            assert [worker.incarnation for worker in mesh.supervisor.status().workers] == [2]

    asyncio.run(main())
