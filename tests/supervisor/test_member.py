"""The node that is the supervisor's own process."""

import asyncio
from collections.abc import Iterable
from pathlib import Path

from meshvisor.shared.config.model import MeshSection
from meshvisor.shared.control.lifeline import Links, Listening, Ready
from meshvisor.shared.core.roster import NodeRecord, NodeStatus
from meshvisor.supervisor.herald import Herald
from meshvisor.supervisor.member import Member
from meshvisor.workers.testing import run_virtual


def test_it_stands_in_the_roster_and_hears_of_the_others() -> None:
    heard: list[NodeRecord] = []

    def told(records: Iterable[NodeRecord]) -> None:
        heard.extend(records)

    async def scenario() -> None:
        herald = Herald(asyncio.get_running_loop())
        member = Member("host", told)
        member.join(herald, MeshSection("mesh"), Path("/run/mesh"), b"secret")
        (record,) = herald.records
        assert (record.name, record.group, record.incarnation, record.status) == ("host", "host", 1, NodeStatus.DOWN)
        said = member.assignment
        assert (said.name, said.epoch, said.secret) == ("host", record.epoch, b"secret")
        assert said.listen == ("unix:/run/mesh/host.1.sock",)
        assert said.roster == (record,)
        member.report(Listening(said.listen))
        assert herald.records[0].status is NodeStatus.LISTENING
        member.report(Ready())
        member.report(Links(0, 0))
        assert (herald.records[0].status, herald.records[0].endpoints) == (NodeStatus.READY, said.listen)
        other = NodeRecord("other", "other", 0)
        herald.announce(other)
        await asyncio.sleep(0)
        assert other in heard

    run_virtual(scenario())
