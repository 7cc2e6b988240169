"""Changed code in a mesh whose workers are forked: when it runs, and what happens when it does not."""

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from meshvisor.shared.config.model import MeshConfig, RestartPolicy, StartMethod
from meshvisor.shared.errors import SupervisorError
from meshvisor.supervisor.event import describe

APPLICATION = """
from meshvisor import Worker

VERSION = {version}

class Says(Worker):
    async def on_start(self):
        {first}
        print("version", VERSION, self.settings.get("says", ""), flush=True)
"""


class Shop:
    """A mesh in the foreground's way, of workers of a module that the test writes."""

    def __init__(self, workshop: Any, replicas: int = 2) -> None:
        self.workshop = workshop
        self.worker = workshop.real_worker("a", "shop:Says", replicas=replicas, start_method=StartMethod.ZYGOTE)
        self.write(1)

    @property
    def file(self) -> Path:
        path: Path = self.workshop.directory / "shop.py"
        return path

    def write(self, version: int, first: str = "") -> None:
        """Write the module; each version has another size, since files are cached by size and second."""
        text = APPLICATION.format(version=version, first=first or "pass") + "#" * version
        self.file.write_text(text)

    def running(self, **options: Any) -> Any:
        return self.workshop.running(self.worker, adopt=True, **options)

    def config(self, **options: Any) -> MeshConfig:
        config: MeshConfig = self.workshop.mesh(replace(self.worker, **options))
        return config


@pytest.fixture
def shop(real_workshop: Any, adopting: None) -> Shop:
    return Shop(real_workshop)


def lines(mesh: Any, slot: str) -> list[str]:
    return [line for name, _, line in mesh.lines if name == slot]


def incarnations(mesh: Any) -> list[int]:
    return [worker.incarnation for worker in mesh.supervisor.status().workers]


def test_a_restart_by_hand_runs_the_code_on_disk(shop: Shop) -> None:
    async def main() -> None:
        async with shop.running() as mesh:
            await mesh.happened("mesh-ready")
            shop.write(2)
            await mesh.supervisor.restart("a-0")
            await mesh.printed("a-0", "version 2")
            changed = await mesh.happened("code-changed")
            assert changed.details == {"files": [str(shop.file)], "runs": True}
            assert describe(changed) == "the code on disk has changed (shop.py); what starts from now on runs it"
            os.kill(mesh.pid("a-1"), signal.SIGKILL)
            await mesh.printed("a-1", "version 2")
            assert mesh.names().count("zygote-started") == 2

    asyncio.run(main())


def test_what_is_started_by_hand_runs_the_code_on_disk(shop: Shop) -> None:
    async def main() -> None:
        async with shop.running(spares=0) as mesh:
            await mesh.happened("mesh-ready")
            await mesh.supervisor.stop("a")
            shop.write(2)
            await mesh.supervisor.start("a")
            for slot in ("a-0", "a-1"):
                await mesh.printed(slot, "version 2")

    asyncio.run(main())


def test_a_restart_after_a_crash_runs_what_is_there_and_says_so_once(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshvisor.supervisor.renewal._LOOK_DELAY", 0.0)

    async def main() -> None:
        async with shop.running() as mesh:
            await mesh.happened("mesh-ready")
            shop.write(2)
            for incarnation in (2, 3):
                os.kill(mesh.pid("a-0"), signal.SIGKILL)
                await mesh.happened("slot-ready", "a-0", incarnation)
                await mesh.happened("code-changed")
            assert mesh.names().count("code-changed") == 1
            said = describe(await mesh.happened("code-changed"))
            assert said == "the code on disk has changed (shop.py); workers run the old one until a restart"
            await mesh.until(lambda: lines(mesh, "a-0") == ["version 1 "] * 3)

    asyncio.run(main())


def test_code_that_cannot_be_imported_changes_nothing(shop: Shop) -> None:
    async def main() -> None:
        async with shop.running() as mesh:
            await mesh.happened("mesh-ready")
            shop.file.write_text("from meshvisor import Nothing\n")
            error = "cannot be imported: shop: (ImportError|AttributeError): .*Nothing"
            with pytest.raises(SupervisorError, match=error):
                await mesh.supervisor.restart("a")
            with pytest.raises(SupervisorError, match=error):
                await mesh.supervisor.reload(shop.config(settings={"says": "more"}))
            assert incarnations(mesh) == [1, 1]
            os.kill(mesh.pid("a-0"), signal.SIGKILL)
            await mesh.happened("slot-ready", "a-0", 2)
            await mesh.until(lambda: lines(mesh, "a-0") == ["version 1 "] * 2)
            shop.write(2)
            await mesh.supervisor.reload(shop.config(settings={"says": "more"}))
            await mesh.printed("a-1", "version 2 more")

    asyncio.run(main())


def test_a_slot_that_does_not_become_ready_with_changed_code_goes_on_with_the_old(shop: Shop) -> None:
    async def main() -> None:
        async with shop.running() as mesh:
            await mesh.happened("mesh-ready")
            shop.write(2, first="raise ValueError('no luck')")
            with pytest.raises(SupervisorError, match="a-0 did not become ready: ValueError: no luck"):
                await mesh.supervisor.restart("a")
            states = {worker.name: str(worker.state) for worker in mesh.supervisor.status().workers}
            assert states == {"a-0": "ready", "a-1": "ready"}
            assert lines(mesh, "a-0")[-1] == "version 1 "
            assert incarnations(mesh)[1] == 1

    asyncio.run(main())


def test_a_reload_goes_over_to_changed_code_and_configuration_together(shop: Shop) -> None:
    async def main() -> None:
        async with shop.running() as mesh:
            await mesh.happened("mesh-ready")
            shop.write(2)
            await mesh.supervisor.reload(shop.config(settings={"says": "more"}))
            for slot in ("a-0", "a-1"):
                await mesh.printed(slot, "version 2 more")
            assert incarnations(mesh) == [2, 2]
            assert (await mesh.supervisor.reload(shop.config(settings={"says": "more"}))).is_empty

    asyncio.run(main())


def test_a_reload_that_fails_leaves_what_it_replaced_as_it_was(shop: Shop) -> None:
    async def main() -> None:
        async with shop.running() as mesh:
            await mesh.happened("mesh-ready")
            shop.write(2, first="assert self.name == 'a-0'")
            with pytest.raises(SupervisorError, match="a-1 did not become ready: AssertionError"):
                await mesh.supervisor.reload(shop.config(settings={"says": "more"}, start_timeout=7.0))
            assert lines(mesh, "a-0") == ["version 1 ", "version 2 more", "version 1 "]
            assert lines(mesh, "a-1")[-1] == "version 1 "
            worker = mesh.supervisor.config.workers[0]
            assert (worker.settings, worker.start_timeout) == ({}, 7.0)  # policy has gone over
            shop.write(3)
            await mesh.supervisor.reload(shop.config(settings={"says": "more"}))
            await mesh.printed("a-1", "version 3 more")

    asyncio.run(main())


def test_a_new_slot_that_does_not_become_ready_takes_nothing_back(shop: Shop) -> None:
    async def main() -> None:
        async with shop.running() as mesh:
            await mesh.happened("mesh-ready")
            shop.write(2, first="assert self.name != 'b'")
            changed = replace(shop.worker, settings={"says": "more"})
            added = replace(shop.worker, name="b", replicas=1, restart=RestartPolicy.NEVER)
            with pytest.raises(SupervisorError, match="b did not become ready: AssertionError"):
                await mesh.supervisor.reload(shop.workshop.mesh(changed, added))
            os.kill(mesh.pid("a-0"), signal.SIGKILL)
            await mesh.happened("slot-ready", "a-0", 3)
            await mesh.until(lambda: lines(mesh, "a-0") == ["version 1 ", "version 2 more", "version 2 more"])

    asyncio.run(main())


def test_a_reload_changes_spares_and_preloaded_modules(shop: Shop) -> None:
    async def main() -> None:
        async with shop.running(spares=2) as mesh:
            await mesh.happened("mesh-ready")
            nursery = mesh.supervisor._nursery
            while nursery.statistics().spares < 2:
                await asyncio.sleep(0.005)
            zygotes = mesh.names().count("zygote-started")
            await mesh.supervisor.reload(shop.workshop.mesh(shop.worker, spares=0))
            assert nursery.statistics().spares == 0
            assert mesh.names().count("zygote-started") == zygotes
            await mesh.supervisor.reload(shop.workshop.mesh(shop.worker, spares=0, preload=("json",)))
            assert mesh.names().count("zygote-started") == zygotes + 1
            assert incarnations(mesh) == [1, 1]

    asyncio.run(main())


DAEMON = """
import os, time
from meshvisor import Worker

class Leaves(Worker):
    async def on_start(self):
        reading, writing = os.pipe()
        if (child := os.fork()) == 0:
            os.setsid()
            if os.fork() == 0:
                {act}
            os._exit(0)
        os.waitpid(child, 0)
        os.close(writing)
        print("daemon", int(os.read(reading, 20)), flush=True)
"""
FORKED = "os.write(writing, b'%d' % os.getpid()); time.sleep(1000)"
EXECUTED = "os.write(writing, b'%d' % os.getpid()); os.execvp('sleep', ['sleep', '1000'])"


@pytest.mark.parametrize("act", [FORKED, EXECUTED], ids=["forked", "executed"])
@pytest.mark.parametrize("method", list(StartMethod))
def test_a_daemon_of_a_slot_ends_with_it_though_it_left_its_group(
    real_workshop: Any, adopting: None, witness: Any, act: str, method: StartMethod
) -> None:
    """supervisors.md B 10."""
    (real_workshop.directory / "leaves.py").write_text(DAEMON.format(act=act))
    worker = real_workshop.real_worker("a", "leaves:Leaves", start_method=method)

    async def main() -> None:
        async with real_workshop.running(worker, adopt=True) as mesh:
            daemon = witness(int(await mesh.printed("a", "daemon ")))
            await mesh.happened("mesh-ready")
            await mesh.supervisor.stop("a")
            assert daemon.saw_the_end(within=0)

    asyncio.run(main())


def test_the_daemons_of_a_crashed_worker_end_and_those_of_its_successor_do_not(
    real_workshop: Any, adopting: None, witness: Any
) -> None:
    (real_workshop.directory / "leaves.py").write_text(DAEMON.format(act=FORKED))
    worker = real_workshop.real_worker("a", "leaves:Leaves", start_method=StartMethod.ZYGOTE)

    async def main() -> None:
        async with real_workshop.running(worker, adopt=True) as mesh:
            first = witness(int(await mesh.printed("a", "daemon ")))
            await mesh.happened("mesh-ready")
            os.kill(mesh.pid("a"), signal.SIGKILL)
            await mesh.happened("slot-ready", "a", 2)
            second = witness(int(lines(mesh, "a")[-1].split()[1]))
            await mesh.supervisor._sweeps.finish()
            assert first.saw_the_end(within=0)
            assert not second.saw_the_end(within=0)

    asyncio.run(main())
