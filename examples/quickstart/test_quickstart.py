"""How an application is tested: its workers in one process and on virtual time, killed and hung at will.

python -m pytest examples/quickstart
"""

import asyncio

import pytest
from quickstart import Greeter, Guest

from meshvisor import PeerLost, RemoteError, Worker, rpc
from meshvisor.testing import LocalMesh


async def test_greeters_take_turns(local_mesh: LocalMesh) -> None:
    local_mesh.add("greeter", Greeter, replicas=2)
    for number in (1, 1, 2, 2):
        assert f"guest {number}" in await local_mesh.call("greeter", "greet", "Ada")


async def test_a_guest_ends_well_whatever_happens_to_the_greeters(local_mesh: LocalMesh) -> None:
    local_mesh.add("greeter", Greeter, replicas=2)
    await local_mesh.ready()
    local_mesh.add("guest", Guest)
    local_mesh.kill("greeter-0")  # as SIGKILL does; its next incarnation starts by itself
    local_mesh.hang("greeter-1", 0.5)  # makes no step for half a second
    assert await local_mesh.ended("guest") == 0


async def test_an_argument_of_the_wrong_type_is_the_callers_mistake(local_mesh: LocalMesh) -> None:
    local_mesh.add("greeter", Greeter)
    with pytest.raises(RemoteError, match="times"):
        await local_mesh.call("greeter", "greet", "Ada", times="twice")


class Slow(Worker):
    @rpc
    async def sleep(self) -> None:
        await asyncio.sleep(3600)  # takes no time: the clock is virtual


async def test_a_call_to_a_worker_that_dies_ends_at_once(local_mesh: LocalMesh) -> None:
    local_mesh.add("slow", Slow)
    call = asyncio.create_task(local_mesh.call("slow", "sleep", timeout=None))
    await asyncio.sleep(60)
    local_mesh.kill("slow")
    with pytest.raises(PeerLost):
        await call
    await local_mesh.ready()
    assert local_mesh.worker("slow").incarnation == 2
