"""A process that was stopped suspects nobody when it goes on: it was deaf, they were not dead."""

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from meshvisor import ConnectionHost, ConnectionHostOptions, ConnectionManager, ConnectionOptions, ConnectionState
from meshvisor.shared.core.states import StateChange

PEERS = 20
HOST = ConnectionHostOptions(
    node_id="host", endpoints=["tcp:127.0.0.1:0"], heartbeat_interval=0.25, heartbeat_timeout=60.0
)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def observe(port: int) -> None:
    """Link with the host many times over, say so, and tell of every change of state until stdin ends."""
    loop = asyncio.get_running_loop()
    options = [
        ConnectionOptions(
            node_id=f"observer-{number}",
            endpoints=[f"tcp:127.0.0.1:{port}"],
            heartbeat_interval=0.1,
            heartbeat_timeout=0.5,
        )
        for number in range(PEERS)
    ]
    managers = [ConnectionManager(each) for each in options]
    await asyncio.gather(*(manager.connect() for manager in managers))
    changes: list[StateChange] = []
    for manager in managers:
        manager.on_state_changed(changes.append)
    say("linked")
    await loop.run_in_executor(None, sys.stdin.readline)
    await asyncio.sleep(1.0)  # twice the time-out: whoever is to be suspected has been by now
    states = {manager.state for manager in managers}
    say(f"{len(changes)} {states == {ConnectionState.ESTABLISHED}}")
    await asyncio.gather(*(manager.close() for manager in managers))


@pytest.mark.slow
def test_an_observer_that_was_stopped_for_long_suspects_none_of_its_peers() -> None:
    async def main() -> None:
        async with ConnectionHost(HOST) as host:
            command = [sys.executable, __file__, str(host.endpoints[0].port)]
            observer = await asyncio.create_subprocess_exec(
                *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ}
            )
            assert observer.stdin is not None
            assert observer.stdout is not None
            try:
                assert await observer.stdout.readline() == b"linked\n"
                observer.send_signal(signal.SIGSTOP)
                await asyncio.sleep(3.0)  # six times its time-out
                observer.send_signal(signal.SIGCONT)
                observer.stdin.write(b"go on\n")
                assert await observer.stdout.readline() == b"0 True\n"
                assert await observer.wait() == 0
                assert host.statistics().accepted == PEERS
            finally:
                if observer.returncode is None:
                    observer.kill()
                    await observer.wait()

    asyncio.run(main())


if __name__ == "__main__":
    asyncio.run(observe(int(sys.argv[1])))
