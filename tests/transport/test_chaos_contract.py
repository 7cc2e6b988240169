"""Quiet chaos is no chaos: what every transport promises holds through it, over each of them."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from tests.transport import test_contract as contract

from meshvisor.shared.transport.base import HasSocket
from meshvisor.shared.transport.chaos import ChaosOptions, ChaosTransportAdapter

CHECKS = [check for name, check in vars(contract).items() if name.startswith("test_")]


@pytest.fixture
def quiet(rig: Any) -> Any:
    return dataclasses.replace(rig, adapter=ChaosTransportAdapter(rig.adapter))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("test_"))
def test_quiet_chaos_keeps_the_contract(
    check: Callable[..., None], quiet: Any, open_files: Callable[[], set[str]]
) -> None:
    wanted = inspect.signature(check).parameters
    check(quiet, **({"open_files": open_files} if "open_files" in wanted else {}))
    assert not quiet.adapter.injected
    assert not quiet.adapter.connections


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(ChaosOptions(rechunk=(1, 3)), id="rechunked"),
        pytest.param(ChaosOptions(latency=(0.001, 0.01)), id="late"),
        pytest.param(ChaosOptions(bandwidth=5_000), id="slow"),
        pytest.param(ChaosOptions(delay=(0.0, 0.005), stall=(0.0, 0.01), stall_probability=0.5), id="held up"),
    ],
)
def test_what_only_takes_time_changes_no_byte(rig: Any, options: ChaosOptions) -> None:
    async def main() -> None:
        adapter = ChaosTransportAdapter(rig.adapter, options)
        listener = await adapter.listen(rig.endpoint, rig.options)
        connection = await adapter.connect(listener.endpoint, rig.options)
        accepted = [await listener.accept(), await listener.accept()]
        body = bytes(range(256))
        await connection.control.write(body)
        await connection.data.write(body[::-1])
        arrived = [await contract.read_exactly(stream, 256) for stream in accepted]
        assert sorted(arrived) == sorted([body, body[::-1]])
        await accepted[0].write(b"back")
        accepted[0].close()
        accepted[1].close()
        back = connection.control if arrived[0] == body else connection.data
        assert await contract.read_exactly(back, 4) == b"back"
        assert await back.read(1) == b""
        connection.close()
        listener.close()
        await adapter.close()

    rig.run(main())


def test_no_driver_can_go_around_chaos_by_its_socket(quiet: Any) -> None:
    async def main() -> None:
        listener = await quiet.listen()
        near, far = await quiet.pair(listener)
        assert not isinstance(near, HasSocket)
        assert not isinstance(far, HasSocket)
        for closable in (near, far, listener):
            closable.close()

    quiet.run(main())
