"""The metrics of a mesh of real processes, from its start over a reload to its end."""

import asyncio
import os
import socket
from dataclasses import replace
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from meshvisor.shared.errors import SupervisorError
from meshvisor.supervisor.supervisor import Supervisor

_MODULE = """
from meshvisor import Worker


class Node(Worker):
    async def on_peer_up(self, peer):
        await self.send(peer, b"hello")

    async def on_message(self, message):
        print("got", flush=True)
"""


@pytest.fixture
def addresses() -> list[str]:
    """Two addresses that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return [f"127.0.0.1:{sock.getsockname()[1]}" for sock in (one, other)]


def scrape(address: str, query: str = "") -> dict[tuple[str, ...], float]:
    """Return the samples by their names and the values of their labels."""
    with urlopen(f"http://{address}/metrics{query}", timeout=10.0) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}


def test_a_mesh_is_measured_wherever_it_serves_its_metrics(real_workshop: Any, addresses: list[str]) -> None:
    (real_workshop.directory / "app.py").write_text(_MODULE)
    node = real_workshop.real_worker("node", "app:Node", replicas=2)
    sleeper = real_workshop.command("sleeper", "sleep", "1000")

    async def main() -> None:
        async with real_workshop.running(node, sleeper, metrics=addresses[0]) as mesh:
            for slot in ("node-0", "node-1"):
                await mesh.printed(slot, "got")
            found = await asyncio.to_thread(scrape, addresses[0], "?links=each")
            assert found["meshvisor_slot_log_lines_total", "node-0", "node"] == 1.0
            assert found["meshvisor_slot_answering", "node-0", "node"] == 1.0
            assert found["meshvisor_link_messages_sent_total", "node-1", "node-0"] == 1.0
            assert found["meshvisor_slot_resident_memory_bytes", "sleeper", "sleeper"] > 0
            assert found["meshvisor_slot_cpu_seconds_total", "node-0", "node"] > 0
            assert ("meshvisor_slot_links_up", "sleeper", "sleeper") not in found

            os.kill(mesh.pid("sleeper"), 9)
            await mesh.happened("slot-ready", "sleeper", incarnation=2)
            config = mesh.supervisor.config
            moved = replace(config, supervisor=replace(config.supervisor, metrics=addresses[1]))
            await mesh.supervisor.reload(moved)
            found = await asyncio.to_thread(scrape, addresses[1])
            assert found["meshvisor_supervisor_incidents_total", "signaled"] == 1.0
            assert found["meshvisor_slot_restarts_total", "sleeper", "sleeper"] == 1.0
            assert not [name for name, *_ in found if name.startswith("meshvisor_link_")]
            with pytest.raises(URLError, match="refused"):
                await asyncio.to_thread(scrape, addresses[0])
        with pytest.raises(URLError, match="refused"):
            await asyncio.to_thread(scrape, addresses[1])

    asyncio.run(main())


def test_a_mesh_whose_metrics_cannot_be_served_starts_nothing(workshop: Any, addresses: list[str]) -> None:
    host, _, port = addresses[0].partition(":")
    config = workshop.mesh(workshop.shell("a", "touch started; sleep 1000"), metrics=addresses[0])

    async def main() -> None:
        with pytest.raises(SupervisorError, match=f"cannot serve metrics at {addresses[0]}: Address already in use$"):
            await Supervisor(config).start_all()

    with socket.create_server((host, int(port))):
        asyncio.run(main())
    assert not (workshop.directory / "started").exists()
    assert not list(workshop.runtime.glob("testmesh/*.sock"))
