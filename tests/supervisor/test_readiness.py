"""When a command is ready, in each of the ways there are."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from meshvisor.shared.config.model import Ready
from meshvisor.supervisor.notifications import NotifySocket
from meshvisor.supervisor.readiness import Readiness, TcpReadiness, readiness_of
from meshvisor.workers.testing import run_virtual


class Watch:
    """A readiness, and the times at which it called."""

    def __init__(self, ready: Ready | None, sock: NotifySocket | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        self.times: list[float] = []
        self.calls = asyncio.Queue[None]()
        self.readiness: Readiness = readiness_of(ready, self.loop, self.call, lambda: sock or pytest.fail("no socket"))

    def call(self) -> None:
        self.times.append(round(self.loop.time(), 6))
        self.calls.put_nowait(None)

    async def ready(self) -> None:
        async with asyncio.timeout(10):
            await self.calls.get()


def virtual(main: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        run_virtual(main())

    run.__name__ = main.__name__
    run.__doc__ = main.__doc__
    return run


@virtual
async def test_a_command_that_says_nothing_is_ready_100_ms_after_its_exec() -> None:
    watch = Watch(None)
    watch.readiness.begin(1)
    await asyncio.sleep(5.0)
    watch.readiness.executed()
    await asyncio.sleep(1.0)
    assert watch.times == [5.1]


@virtual
async def test_one_that_has_died_before_is_not() -> None:
    watch = Watch(None)
    watch.readiness.executed()
    await asyncio.sleep(0.09)
    watch.readiness.cancel()
    watch.readiness.executed()
    await asyncio.sleep(1.0)
    assert watch.times == []


@virtual
async def test_an_address_is_tried_after_growing_pauses_until_it_accepts() -> None:
    loop = asyncio.get_running_loop()
    attempts: list[float] = []
    times: list[float] = []

    async def probe(address: str) -> str:
        attempts.append(round(loop.time(), 4))
        return "refused" if loop.time() < 1.0 else ""

    readiness = TcpReadiness(loop, lambda: times.append(loop.time()), "127.0.0.1:1", probe)
    readiness.begin(1)
    readiness.executed()
    await asyncio.sleep(5.0)
    assert attempts[:4] == [0.0, 0.01, 0.025, 0.0475]
    assert attempts[-2:] == [0.9926, 1.2426]
    assert len(times) == 1


@virtual
async def test_an_attempt_that_hangs_is_given_up_after_a_second_and_ends_with_the_process() -> None:
    loop = asyncio.get_running_loop()
    attempts: list[float] = []

    async def probe(address: str) -> str:
        attempts.append(round(loop.time(), 4))
        await asyncio.Event().wait()
        return ""

    readiness = TcpReadiness(loop, pytest.fail, "127.0.0.1:1", probe)
    readiness.executed()
    await asyncio.sleep(1.5)
    assert attempts == [0.0, 1.01]
    readiness.cancel()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_a_real_address_is_ready_when_somebody_listens() -> None:
    async def main() -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            watch = Watch(Ready(tcp=f"127.0.0.1:{listener.getsockname()[1]}"))
            watch.readiness.executed()
            await asyncio.sleep(0.02)
            assert watch.times == []
            listener.listen()
            await watch.ready()
            watch.readiness.cancel()

    asyncio.run(main())


def test_a_file_of_the_last_time_is_removed_and_the_next_one_is_heard_of(tmp_path: Path) -> None:
    async def main() -> None:
        file = tmp_path / "up"
        file.touch()
        watch = Watch(Ready(file=file))
        assert not file.exists()
        watch.readiness.begin(1)
        watch.readiness.executed()
        (tmp_path / "other").touch()
        await asyncio.sleep(0.01)
        assert watch.times == []
        (tmp_path / "other").rename(file)
        await watch.ready()
        watch.readiness.cancel()
        watch.readiness.cancel()
        assert len(watch.times) == 1

    asyncio.run(main())


def test_a_file_that_was_there_before_anybody_looked_is_seen(tmp_path: Path) -> None:
    async def main() -> None:
        watch = Watch(Ready(file=tmp_path / "up"))
        (tmp_path / "up").touch()
        watch.readiness.begin(1)
        await watch.ready()

    asyncio.run(main())


def test_a_file_in_a_directory_that_is_still_to_come_is_found(tmp_path: Path) -> None:
    async def main() -> None:
        file = tmp_path / "new" / "up"
        watch = Watch(Ready(file=file))
        watch.readiness.begin(1)
        file.parent.mkdir()
        file.touch()
        await watch.ready()

    asyncio.run(main())


def test_a_file_that_cannot_be_removed_is_a_failed_start(tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "up").mkdir()
        with pytest.raises(OSError, match="up"):
            Watch(Ready(file=tmp_path / "up"))

    asyncio.run(main())


def test_a_line_on_a_descriptor_makes_ready_and_more_of_them_do_no_harm() -> None:
    async def main() -> None:
        watch = Watch(Ready(fd=5))
        assert watch.readiness.descriptor is not None
        ours, number = watch.readiness.descriptor
        assert number == 5
        theirs = os.dup(ours)
        watch.readiness.begin(1)
        os.write(theirs, b"almost")
        await asyncio.sleep(0.01)
        assert watch.times == []
        os.write(theirs, b" there\n")
        await watch.ready()
        os.write(theirs, b"still here\n")
        await asyncio.sleep(0.01)
        os.close(theirs)
        await asyncio.sleep(0.01)
        watch.readiness.cancel()
        assert len(watch.times) == 1

    before = sorted(os.listdir("/proc/self/fd"))
    asyncio.run(main())
    assert sorted(os.listdir("/proc/self/fd")) == before


@virtual
async def test_a_line_of_output_makes_ready() -> None:
    watch = Watch(Ready(log="listening on"))
    watch.readiness.executed()
    watch.readiness.printed("not yet listening")
    await asyncio.sleep(1.0)
    assert watch.times == []
    watch.readiness.printed("now listening on 80")
    watch.readiness.printed("listening on 81")
    assert watch.times == [1.0]


class Sender:
    """A process that leads a session of its own and sends what it is asked to."""

    def __init__(self, address: str) -> None:
        program = f"""if True:
            import socket, sys
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                for line in sys.stdin:
                    sock.sendto(line.strip().replace("|", chr(10)).encode(), {address!r}.replace("@", chr(0), 1))
                    print("sent", flush=True)
        """
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [sys.executable, "-c", program], stdin=pipe, stdout=pipe, start_new_session=True
        )
        self.pid = self.process.pid

    def send(self, *lines: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("|".join(lines).encode() + b"\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == b"sent\n"

    def end(self) -> None:
        self.process.communicate()


@pytest.mark.parametrize("folder", ["short", "long" * 30], ids=["in a file", "where no file can be"])
def test_only_the_commands_own_session_makes_it_ready(tmp_path: Path, folder: str) -> None:
    async def main() -> None:
        (tmp_path / folder).mkdir()
        watch = Watch(Ready(notify=True), NotifySocket(tmp_path / folder / "a.1.notify"))
        address = watch.readiness.environment["NOTIFY_SOCKET"]
        assert (address[0] == "@") == (folder != "short")
        stranger, command = Sender(address), Sender(address)
        watch.readiness.begin(command.pid)
        watch.readiness.executed()
        stranger.send("READY=1", "STATUS=strange")
        command.send("STATUS=loading", "X_Y=1")
        while watch.readiness.status != "loading":
            await asyncio.sleep(0.001)
        assert watch.times == []
        command.send("READY=1", "STATUS=serving")
        await watch.ready()
        assert watch.readiness.status == "serving"
        watch.readiness.cancel()
        assert list((tmp_path / folder).iterdir()) == []
        stranger.end()
        command.end()

    asyncio.run(main())


def test_a_descendant_with_a_session_of_its_own_may_speak_for_the_command(tmp_path: Path) -> None:
    async def main() -> None:
        watch = Watch(Ready(notify=True), NotifySocket(tmp_path / "a.1.notify"))
        watch.readiness.begin(os.getpid())
        sender = Sender(watch.readiness.environment["NOTIFY_SOCKET"])
        sender.send("READY=1")
        await watch.ready()
        watch.readiness.cancel()
        sender.end()

    asyncio.run(main())


def test_a_sender_that_is_gone_before_anybody_could_look_is_believed(tmp_path: Path) -> None:
    async def main() -> None:
        watch = Watch(Ready(notify=True), NotifySocket(tmp_path / "a.1.notify"))
        sender = Sender(watch.readiness.environment["NOTIFY_SOCKET"])
        sender.send("READY=1")
        sender.end()
        watch.readiness.begin(1_999_999_999)
        await watch.ready()
        watch.readiness.cancel()

    asyncio.run(main())
