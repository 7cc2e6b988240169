"""How the links of real workers are, when one of them cannot say it."""

import asyncio
from typing import Any

from meshvisor.shared.control.lifeline import LinkReport, LinksWanted
from meshvisor.shared.core.states import ConnectionState
from meshvisor.shared.memory.board import Stage
from meshvisor.supervisor.snapshot import Answer

_MODULE = """
import time

from meshvisor import Worker


class Node(Worker):
    async def on_peer_up(self, peer):
        if all(peer.up for peer in self.peers.values()):
            self.is_linked()

    async def on_message(self, message):
        pass

    def is_linked(self):
        print("linked", flush=True)


class Stuck(Node):
    def is_linked(self):
        print("stuck", flush=True)
        time.sleep(60)
"""


def test_a_worker_that_does_not_answer_is_told_by_the_board_and_by_the_others(real_workshop: Any) -> None:
    (real_workshop.directory / "app.py").write_text(_MODULE)
    nodes = real_workshop.real_worker("node", "app:Node", replicas=2)
    stuck = real_workshop.real_worker("stuck", "app:Stuck", hang_timeout=None, stop_timeout=0.0)

    async def main() -> None:
        async with real_workshop.running(nodes, stuck, real_workshop.command("sleep", "sleep", "1000")) as mesh:
            for slot in ("node-0", "node-1"):
                await mesh.printed(slot, "linked")
            await mesh.printed("stuck", "stuck")
            links = await mesh.supervisor.links()
            assert [node.name for node in links.nodes] == ["node-0", "node-1", "stuck"]
            *well, silent = links.nodes
            assert (silent.answer, silent.stage, silent.links) == (Answer.SILENT, Stage.READY, ())
            assert silent.lag is not None
            assert silent.lag > 0.1
            for node in well:
                assert (node.answer, node.links_up, node.links_total) == (Answer.FRESH, 2, 2)
                (link,) = (link for link in node.links if link.peer == "stuck")
                assert (link.state, link.incarnation) == (ConnectionState.ESTABLISHED, 1)
            ends = [link for node in well for link in node.links if link.peer != "stuck"]
            assert any(end.srtt is not None for end in ends)

    asyncio.run(main())


def test_a_worker_that_owes_an_answer_is_not_asked_again(workshop: Any) -> None:
    async def main() -> None:
        async with workshop.running(workshop.worker("a", "deaf", stop_timeout=0.0)) as mesh:
            await mesh.happened("slot-ready", "a")
            slot = mesh.supervisor._fleet.slot("a")
            reports: list[LinkReport] = []
            assert [slot.want_links(LinksWanted(number), reports.append) for number in (1, 2)] == [True, False]

    asyncio.run(main())
