"""What the simulation has found, each as small as it gets. (A seed would not last: it changes with the plans.)"""

import asyncio
import random

import pytest
from tests.mesh.fleet import Cuttable, Fleet

from meshvisor.shared.core.endpoint import Endpoint
from meshvisor.shared.core.peering import NEWCOMER_GRACE
from meshvisor.shared.core.roster import NodeRecord, NodeStatus
from meshvisor.shared.transport.base import TransportConnection, TransportOptions
from meshvisor.workers.testing import run_virtual


class Lowest(random.Random):
    """Dice that always fall on 0."""

    def random(self) -> float:
        return 0.0


class Noting(Cuttable):
    """An adapter that notes when it dials."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(fleet.network)
        self.times: list[float] = []

    async def connect(self, endpoint: Endpoint, options: TransportOptions) -> TransportConnection:
        self.times.append(asyncio.get_running_loop().time())
        return await super().connect(endpoint, options)


def test_two_dials_of_one_endpoint_are_10_ms_apart_whatever_the_dice_say() -> None:
    """Full jitter may draw a wait of nothing; invariant 9 asks for 10 ms between two dials of one endpoint."""

    async def main() -> None:
        fleet = Fleet()
        (node,) = await fleet.start("a", blacklist_duration=0.001)
        node.mesh._rng = Lowest()
        noting = node.mesh._dialer.adapters["memory"] = Noting(fleet)  # type: ignore[index]  # a dict, in fact
        fleet.tell(NodeRecord("b", "b", 0, 1, 7, NodeStatus.LISTENING, ("memory:nobody",)))
        await asyncio.sleep(NEWCOMER_GRACE + 0.0555)
        first, *_ = noting.times
        assert [time - first for time in noting.times] == pytest.approx([0.0, 0.01, 0.02, 0.03, 0.04, 0.05])
        await fleet.close()

    run_virtual(main())
