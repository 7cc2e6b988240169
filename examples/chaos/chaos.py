"""One link through all kinds of weather. Both ends are in this process; between them is the chaos adapter."""

import asyncio
import os
import time
from collections.abc import Callable

from meshvisor import (
    ChaosOptions,
    ChaosTransportAdapter,
    ConnectionHandle,
    ConnectionHost,
    ConnectionHostOptions,
    ConnectionManager,
    ConnectionOptions,
    MemoryTransportAdapter,
    Worker,
)
from meshvisor.shared.core.states import StateChange

ENDPOINT = "memory:chaos"
INTERVAL, TIMEOUT = 0.05, 0.4  # of heartbeats: a link that was silent for so long is given up
MESSAGES = int(os.environ.get("CHAOS_MESSAGES", "200"))

Weather = Callable[[ChaosTransportAdapter], None]
WEATHERS: list[tuple[str, ChaosOptions, Weather | None]] = [
    ("fair: nothing happens", ChaosOptions(), None),
    ("slow: everything takes 20 to 60 ms each way", ChaosOptions(latency=(0.02, 0.06)), None),
    ("cut: the connection breaks", ChaosOptions(), lambda network: network.cut()),
    ("half-open: nothing arrives, and nobody is told", ChaosOptions(), lambda network: network.black_hole()),
    ("corrupted: one bit in some writes is flipped", ChaosOptions(seed=1, write_flip=0.03), None),
    (
        "torn: one read or write in a hundred breaks the connection",
        ChaosOptions(seed=2, disconnect_probability=0.01),
        None,
    ),
]


class Show(Worker):
    async def run(self) -> None:
        for title, options, weather in WEATHERS:
            await show(title, options, weather)
        print("every message arrived exactly once and in order, in all of them")


async def show(title: str, options: ChaosOptions, weather: Weather | None) -> None:
    """Send numbers over a link while something happens to it, and say what the link noticed."""
    print(f"--- {title}")
    network = ChaosTransportAdapter(MemoryTransportAdapter(), options)
    listening = ConnectionHostOptions(
        node_id="server", endpoints=[ENDPOINT], heartbeat_interval=INTERVAL, heartbeat_timeout=TIMEOUT
    )
    # A dial that fails bars the endpoint: as a rule for ten seconds, which nobody wants to watch.
    dialling = ConnectionOptions(
        node_id="client",
        endpoints=[ENDPOINT],
        endpoint_blacklist_duration=0.05,
        heartbeat_interval=INTERVAL,
        heartbeat_timeout=TIMEOUT,
    )
    async with (
        ConnectionHost(listening, adapters=[MemoryTransportAdapter()]) as host,
        ConnectionManager(dialling, adapters=[network]) as manager,
    ):
        link, accepted = await manager.connect(), await host.accept()
        since = time.monotonic()

        def tell(change: StateChange) -> None:
            if change.current in ("degraded", "established"):
                why = change.evidence if change.current == "degraded" else change.cause
                print(f"{1000 * (time.monotonic() - since):6.0f} ms  {change.current}: {why}")

        stop_telling = manager.on_state_changed(tell)
        got = asyncio.create_task(receive(accepted))
        for number in range(MESSAGES):
            if number == MESSAGES // 4 and weather is not None:
                since = time.monotonic()
                weather(network)
                asyncio.get_running_loop().call_later(0.6, network.heal)
            await link.send(str(number).encode())
            await asyncio.sleep(0.005)
        assert await got == list(range(MESSAGES)), "a message was lost, doubled or out of order"
        stop_telling()
        metrics = manager.metrics()
        rtt = f"round trip {metrics.srtt * 1000:.1f} ms" if metrics.srtt is not None else "no round trip"
        print(f"           {MESSAGES} messages in order, {metrics.replayed} of them sent twice, {rtt}")


async def receive(link: ConnectionHandle) -> list[int]:
    return [int(bytes((await link.receive()).body)) for _ in range(MESSAGES)]
