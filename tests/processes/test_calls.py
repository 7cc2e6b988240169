"""Calls between real processes: what becomes of those under way when a process is killed or stopped."""

import asyncio
import json
import os
import signal
from collections import Counter
from typing import Any

import pytest

_MODULE = """
import asyncio, json, os, time
from meshvisor import Worker, every, rpc


class Service(Worker):
    async def on_start(self):
        self.journal = os.open(self.settings["journal"], os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        self.begun = 0

    @rpc
    async def work(self, number: int) -> str:
        os.write(self.journal, f"{self.incarnation} {number}\\n".encode())
        self.begun += 1
        if self.begun == self.settings["calls"]:
            print("all begun", flush=True)
        if self.incarnation == 1:
            await asyncio.sleep(self.settings["seconds"])
        return f"life {self.incarnation}"


class Caller(Worker):
    async def run(self):
        self.calls = [asyncio.create_task(self.one(number)) for number in range(self.settings["calls"])]
        await asyncio.wait(self.calls)
        outcomes = [call.result() for call in self.calls]
        print("outcomes", json.dumps(outcomes), flush=True)
        await asyncio.sleep(3600)

    async def one(self, number):
        try:
            return await self.call("service", "work", number, retry=number % 2 == 1)
        except Exception as error:
            return type(error).__name__

    async def on_peer_down(self, peer, reason):
        await asyncio.sleep(0)
        print("open", sum(not call.done() for call in self.calls[::2]), flush=True)


class Alone(Worker):
    count = 0

    @every("10ms")
    async def tick(self):
        self.count += 1

    async def run(self):
        await self.run_blocking(time.sleep, 0.05)
        while self.count < 5:
            await asyncio.sleep(0.01)
        print("threads", len(os.listdir("/proc/self/task")), flush=True)
        asyncio.create_task(self.run_blocking(time.sleep, 3600))  # Nobody waits for it.
        await asyncio.sleep(0)
"""

CALLS = 200


@pytest.fixture
def shop(real_workshop: Any) -> Any:
    (real_workshop.directory / "app.py").write_text(_MODULE)
    return real_workshop


def pair(shop: Any, seconds: float) -> list[Any]:
    settings = {"journal": str(shop.directory / "journal"), "calls": CALLS, "seconds": seconds}
    service = shop.real_worker("service", "app:Service", settings=settings)
    return [service, shop.real_worker("caller", "app:Caller", settings=settings, depends_on=("service",))]


@pytest.mark.slow
def test_calls_under_way_to_a_killed_process_end_in_peer_lost_or_in_its_next_life(shop: Any) -> None:
    async def main() -> None:
        async with shop.running(*pair(shop, seconds=3600)) as mesh:
            await mesh.printed("service", "all begun")
            os.kill(mesh.pid("service"), signal.SIGKILL)
            outcomes = json.loads(await mesh.printed("caller", "outcomes "))
            assert Counter(outcomes[::2]) == {"PeerLost": CALLS // 2}
            assert Counter(outcomes[1::2]) == {"life 2": CALLS // 2}
            # All had ended by the time that the worker heard of it.
            assert await mesh.printed("caller", "open ") == "0"

    asyncio.run(main())
    runs = Counter((shop.directory / "journal").read_text().splitlines())
    assert set(runs.values()) == {1}
    assert len(runs) == CALLS + CALLS // 2


@pytest.mark.slow
def test_calls_under_way_to_a_stopped_process_are_finished_and_their_replies_arrive(shop: Any) -> None:
    async def main() -> None:
        async with shop.running(*pair(shop, seconds=0.3)) as mesh:
            await mesh.printed("service", "all begun")
            os.kill(mesh.pid("service"), signal.SIGTERM)
            outcomes = json.loads(await mesh.printed("caller", "outcomes "))
            assert Counter(outcomes) == {"life 1": CALLS}

    asyncio.run(main())


def test_timers_and_threads_run_in_a_real_worker_and_hold_nothing_up(shop: Any) -> None:
    status, mesh = shop.outcome(shop.real_worker("alone", "app:Alone", restart="never"))
    assert status == 0
    assert ("alone", "stdout", "threads 2") in mesh.lines
