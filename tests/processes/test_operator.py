"""What an operator does to a running mesh: start, stop, restart, scale, reload."""

import asyncio
import os
import signal
from dataclasses import replace
from typing import Any

import pytest

from meshvisor.shared.config.model import Backoff, RestartPolicy
from meshvisor.shared.errors import SupervisorError

FOREVER = "exec sleep 1000"


def states(mesh: Any) -> dict[str, str]:
    return {worker.name: str(worker.state) for worker in mesh.supervisor.status().workers}


def incarnations(mesh: Any) -> dict[str, int]:
    return {worker.name: worker.incarnation for worker in mesh.supervisor.status().workers}


def test_what_was_stopped_by_hand_stays_down_until_it_is_started(workshop: Any) -> None:
    async def main() -> None:
        async with workshop.running(workshop.shell("a", FOREVER), workshop.shell("b", FOREVER)) as mesh:
            await mesh.happened("mesh-ready")
            await mesh.supervisor.stop("a")
            assert states(mesh) == {"a": "stopped", "b": "ready"}
            await mesh.supervisor.start("a")
            assert states(mesh) == {"a": "ready", "b": "ready"}
            assert [worker.restarts for worker in mesh.supervisor.status().workers] == [0, 0]

    asyncio.run(main())


def test_a_mesh_whose_last_slot_was_stopped_by_hand_goes_on(workshop: Any) -> None:
    async def main() -> None:
        async with workshop.running(workshop.shell("a", FOREVER)) as mesh:
            await mesh.happened("mesh-ready")
            await mesh.supervisor.stop("a")
            assert mesh.supervisor.status().state == "running"
            await mesh.supervisor.start("a")

    asyncio.run(main())


def test_a_restart_by_hand_is_never_against_the_limit_and_goes_slot_by_slot(workshop: Any) -> None:
    """systemd 10529 (supervisors.md B 19)."""

    async def main() -> None:
        async with workshop.running(workshop.worker("a", replicas=2), max_restarts=0) as mesh:
            await mesh.happened("mesh-ready")
            for _ in range(3):
                await mesh.supervisor.restart("a")
            assert incarnations(mesh) == {"a-0": 4, "a-1": 4}
            order = [(event.event, event.slot, event.incarnation) for event in mesh.events]
            assert order.index(("slot-ready", "a-0", 2)) < order.index(("slot-stopping", "a-1", 1))
            await mesh.supervisor.restart("a-1", at_once=True)
            assert incarnations(mesh) == {"a-0": 4, "a-1": 5}

    asyncio.run(main())


def test_a_restart_ends_at_the_first_slot_that_does_not_become_ready(workshop: Any) -> None:
    async def main() -> None:
        script = "test -e broken && exit 3; echo up; exec sleep 1000"
        patient = Backoff(initial=0.01, max=0.01)
        worker = workshop.shell("a", script, replicas=2, start_timeout=0.5, backoff=patient)
        async with workshop.running(worker, max_restarts=1000) as mesh:
            await mesh.happened("mesh-ready")
            (workshop.directory / "broken").touch()
            with pytest.raises(SupervisorError, match="a-0 did not become ready"):
                await mesh.supervisor.restart("a")
            assert incarnations(mesh)["a-1"] == 1

    asyncio.run(main())


def test_an_unknown_name_is_refused_with_what_may_have_been_meant(workshop: Any) -> None:
    async def main() -> None:
        async with workshop.running(workshop.shell("counter", FOREVER, replicas=2)) as mesh:
            with pytest.raises(SupervisorError, match=r'no slot called \'countr\' \(did you mean "counter"\?\)'):
                await mesh.supervisor.stop("countr")

    asyncio.run(main())


def test_a_worker_is_scaled_up_and_down_without_touching_the_others(workshop: Any) -> None:
    """Supervisor 177 (supervisors.md B 11)."""

    async def main() -> None:
        async with workshop.running(workshop.worker("a"), workshop.worker("watcher")) as mesh:
            await mesh.happened("mesh-ready")
            await mesh.supervisor.scale("a", 3)
            assert states(mesh) == {"a": "ready", "a-1": "ready", "a-2": "ready", "watcher": "ready"}
            await mesh.printed("watcher", "news a-2 ready 1")
            await mesh.supervisor.scale("a", 1)
            assert incarnations(mesh) == {"a": 1, "watcher": 1}
            await mesh.printed("watcher", "news a-2 removed 1")
            await mesh.supervisor.scale("a", 0)
            assert incarnations(mesh) == {"watcher": 1}
            with pytest.raises(ValueError, match="replicas must be a number from 0 to 1000, not -1"):
                await mesh.supervisor.scale("a", -1)

    asyncio.run(main())


def test_a_reload_replaces_only_what_is_made_of_something_else(workshop: Any) -> None:
    async def main() -> None:
        keep, change, gone = (workshop.worker(name) for name in ("keep", "change", "gone"))
        async with workshop.running(keep, change, gone) as mesh:
            await mesh.happened("mesh-ready")
            patient = replace(keep, restart=RestartPolicy.NEVER)
            other = replace(change, env={"X": "1"})
            config = workshop.mesh(patient, other, workshop.worker("new"))
            changes = await mesh.supervisor.reload(config)
            assert (changes.added, changes.removed, changes.replaced) == (("new",), ("gone",), ("change",))
            assert incarnations(mesh) == {"keep": 1, "change": 2, "new": 1}
            os.kill(mesh.pid("keep"), signal.SIGKILL)
            await mesh.happened("slot-failed", "keep")
            assert (await mesh.supervisor.reload(config)).is_empty

    asyncio.run(main())


def test_a_reload_that_cannot_be_done_does_nothing(workshop: Any) -> None:
    async def main() -> None:
        async with workshop.running(workshop.shell("a", FOREVER)) as mesh:
            await mesh.happened("mesh-ready")
            with pytest.raises(SupervisorError, match=r"supervisor\.log_dir cannot change while the mesh runs"):
                await mesh.supervisor.reload(workshop.mesh(log_dir=workshop.directory))
            assert states(mesh) == {"a": "ready"}

    asyncio.run(main())
