"""The supervisor and real workers together: they link, they fail, they come back."""

import asyncio
import os
import signal
from typing import Any

import pytest

from meshvisor.shared.config.model import Backoff
from meshvisor.supervisor.event import describe

_MODULE = """
from meshvisor import Worker


class Node(Worker):
    async def on_peer_up(self, peer):
        print("up", peer, flush=True)


class Failing(Worker):
    async def on_start(self):
        raise ValueError("not today")


class Crashing(Worker):
    async def run(self):
        raise KeyError("gone")


class Finished(Worker):
    async def run(self):
        print("settings", self.settings, flush=True)
"""

SLOW = Backoff(initial=1000.0, max=1000.0, jitter=0.0)


@pytest.fixture
def shop(real_workshop: Any) -> Any:
    (real_workshop.directory / "app.py").write_text(_MODULE)
    (real_workshop.directory / "broken.py").write_text("import no_such_module\n")
    return real_workshop


def test_workers_link_and_link_again_after_a_crash(shop: Any) -> None:
    async def main() -> None:
        async with shop.running(shop.real_worker("node", "app:Node", replicas=4)) as mesh:
            await mesh.happened("mesh-ready")
            for slot in ("node-1", "node-2", "node-3"):
                await mesh.printed(slot, "up node-0")
            mesh.lines.clear()
            os.kill(mesh.pid("node-0"), signal.SIGKILL)
            for slot in ("node-1", "node-2", "node-3"):
                await mesh.printed(slot, "up node-0")
            mesh.supervisor.request_stop()
            assert await mesh.supervisor.wait() == 0
            assert {worker.last_exit.cause for worker in mesh.supervisor.status().workers} == {"stopped"}
            assert {worker.last_exit.code for worker in mesh.supervisor.status().workers} == {0}

    asyncio.run(main())


@pytest.mark.parametrize(
    ("class_path", "text", "ready"),
    [
        ("broken:Node", "could not start: ModuleNotFoundError: No module named 'no_such_module' (exit ", False),
        ("app:Nod", "could not start: AttributeError: module 'app' has no 'Nod' (did you mean 'Node'?) (exit", False),
        ("app:Failing", "could not start: ValueError: not today (exit status 1)", False),
        ("app:Crashing", "ended with status 1 after ", True),
    ],
)
def test_a_class_that_fails_says_why_and_leaves_the_rest_running(
    shop: Any, class_path: str, text: str, ready: bool
) -> None:
    async def main() -> None:
        workers = (shop.real_worker("good", "app:Node"), shop.real_worker("bad", class_path, backoff=SLOW))
        async with shop.running(*workers) as mesh:
            await mesh.happened("slot-ready", "good")
            await mesh.happened("slot-backoff", "bad", incarnation=2)
            ended = await mesh.happened("slot-exited", "bad")
            assert describe(ended).startswith(f"bad {text}")
            assert ended.details["ready"] is ready
            assert ("bad", "stderr", ended.details["traceback"].strip().splitlines()[-1]) in mesh.lines
            assert [worker.state for worker in mesh.supervisor.status().workers] == ["ready", "backoff"]

    asyncio.run(main())


def test_a_mesh_ends_with_its_significant_worker(shop: Any) -> None:
    source = shop.real_worker(
        "source", "app:Finished", significant=True, restart="on-failure", settings={"files": ["a", "b"]}
    )
    status, mesh = shop.outcome(source, shop.real_worker("sink", "app:Node", replicas=2))
    assert status == 0
    assert ("source", "stdout", "settings {'files': ['a', 'b']}") in mesh.lines
