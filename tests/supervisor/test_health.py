"""Whether a command stays well: the checks, when they run, and what they find."""

import asyncio
import os
import resource
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from meshvisor.shared.config.model import Health
from meshvisor.supervisor.health import HealthCheck, check_of, probe_exec
from meshvisor.supervisor.probes import NotAsked, probe_http, probe_tcp
from meshvisor.workers.testing import run_virtual

HEALTH = Health(tcp="127.0.0.1:1", period=5.0, failures=3)


class Patient:
    """A service whose answers are laid down: what is wrong, seconds that the answer takes, or what is raised."""

    def __init__(self, *answers: str | float | NotAsked) -> None:
        self.loop = asyncio.get_running_loop()
        self.answers = list(answers)
        self.asked: list[float] = []
        self.verdicts: list[tuple[float, str]] = []
        self.going_on = 0

    async def check(self) -> str:
        assert self.going_on == 0
        self.going_on += 1
        self.asked.append(round(self.loop.time(), 3))
        try:
            answer = self.answers.pop(0) if self.answers else ""
            if isinstance(answer, str):
                return answer
            if isinstance(answer, NotAsked):
                raise answer
            await asyncio.sleep(answer)
            return ""
        finally:
            self.going_on -= 1

    def watched(self, health: Health = HEALTH) -> HealthCheck:
        return HealthCheck(self.loop, health, self.check, lambda text: self.verdicts.append((self.loop.time(), text)))


def test_it_is_asked_once_a_period_from_the_start_until_the_end() -> None:
    async def main() -> None:
        patient = Patient()
        health = patient.watched()
        await asyncio.sleep(2.0)
        assert patient.asked == []
        health.start()
        health.start()
        await asyncio.sleep(18.0)
        assert patient.asked == [7.0, 12.0, 17.0]
        health.cancel()
        health.cancel()
        await asyncio.sleep(18.0)
        assert patient.asked == [7.0, 12.0, 17.0]
        assert patient.verdicts == []

    run_virtual(main())


def test_only_failures_in_a_row_are_a_verdict_and_there_is_one() -> None:
    async def main() -> None:
        patient = Patient("a", "b", "", "c", "d", "e", "f", "g")
        patient.watched().start()
        await asyncio.sleep(100.0)
        assert patient.verdicts == [(30.0, "its health check failed 3 times in a row: e")]
        assert len(patient.asked) == 6

    run_virtual(main())


def test_a_check_that_cannot_be_made_is_neither_a_failure_nor_an_answer() -> None:
    async def main() -> None:
        patient = Patient(NotAsked(), NotAsked(), "a", NotAsked(), "b", "", NotAsked(), "c", "d", NotAsked(), "e")
        patient.watched().start()
        await asyncio.sleep(100.0)
        assert patient.verdicts == [(55.0, "its health check failed 3 times in a row: e")]

    run_virtual(main())


def test_an_answer_later_than_the_period_is_none_and_checks_never_overlap() -> None:
    async def main() -> None:
        patient = Patient(4.9, 100.0, 100.0)
        patient.watched(Health(tcp="x:1", period=5.0, failures=2)).start()
        await asyncio.sleep(100.0)
        assert patient.asked == [5.0, 10.0, 15.0]
        assert patient.verdicts == [(20.0, "its health check failed 2 times in a row: no answer within 5.0 s")]

    run_virtual(main())


def test_a_check_that_is_going_on_ends_with_the_rest() -> None:
    async def main() -> None:
        patient = Patient(100.0)
        health = patient.watched()
        health.start()
        await asyncio.sleep(6.0)
        assert patient.going_on == 1
        health.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert patient.going_on == 0
        assert patient.verdicts == []

    run_virtual(main())


# Over TCP.


async def ask(answer: bytes, probe: Callable[[str], Awaitable[str]], url: str) -> tuple[str, bytes]:
    """Have ``probe`` ask a server that gives one answer; return its verdict and what the server was sent."""
    asked = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if probe is probe_http:
            asked.extend(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        verdict = await probe(url.replace("PORT", str(port)))
    return verdict.replace(str(port), "PORT"), bytes(asked).replace(str(port).encode(), b"PORT")


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nfine", ""),
        (b"HTTP/1.0 204\r\n", ""),
        (b"HTTP/1.1 301 Moved\r\nLocation: /\r\n\r\n", "{} answers with 301 Moved"),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "{} answers with 503 Service Unavailable"),
        (b"HTTP/1.1 20 No\r\n", "{} answers with 20 No"),
        (b"SSH-2.0\r\n", "{} answers with something that is not HTTP"),
        (b"", "{} hangs up without an answer"),
        (b"H" * 5000, "{} does not answer: "),
    ],
    ids=["200", "204", "301", "503", "20", "ssh", "nothing", "endless"],
)
def test_http_is_well_at_2xx(answer: bytes, verdict: str) -> None:
    url = "http://127.0.0.1:PORT/health?deep=1"
    found, asked = asyncio.run(ask(answer, probe_http, url))
    assert found.startswith(verdict.format(url)) if verdict.endswith(": ") else found == verdict.format(url)
    assert asked.startswith(b"GET /health?deep=1 HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n")


def test_tcp_is_well_when_somebody_listens() -> None:
    assert asyncio.run(ask(b"", probe_tcp, "127.0.0.1:PORT"))[0] == ""


def test_where_nobody_listens_nothing_is_well() -> None:
    assert asyncio.run(probe_tcp("127.0.0.1:1")).startswith("127.0.0.1:1 does not accept connections: ")
    assert asyncio.run(probe_http("http://127.0.0.1:1/")).startswith("http://127.0.0.1:1/ does not answer: ")


# By a command.


@pytest.mark.parametrize(
    ("script", "verdict"),
    [
        ("echo fine; exit 0", ""),
        ("exit 3", "'sh' ended with status 3"),
        ("kill -SEGV $$", "'sh' was ended by SIGSEGV"),
    ],
)
def test_a_command_is_well_when_it_ends_with_0(tmp_path: Path, script: str, verdict: str) -> None:
    running: set[int] = set()
    check = check_of(Health(exec=("sh", "-c", script)), tmp_path, os.environ, running=running)
    assert asyncio.run(_awaited(check)) == verdict
    assert running == set()


async def _awaited(check: Callable[[], Awaitable[str]]) -> str:
    return await check()


def test_a_check_that_cannot_be_run_says_why(tmp_path: Path) -> None:
    found = asyncio.run(probe_exec(("no-such-program",), tmp_path, os.environ))
    assert found == "cannot run 'no-such-program': No such file or directory"
    found = asyncio.run(probe_exec(("true",), tmp_path / "gone", os.environ))
    assert found.startswith("cannot enter the directory")


@pytest.mark.parametrize(
    "health",
    [
        Health(tcp="127.0.0.1:1"),
        Health(http="http://127.0.0.1:1/"),
        Health(exec=("true",)),
    ],
    ids=["tcp", "http", "exec"],
)
def test_without_a_descriptor_of_ours_nothing_is_asked(tmp_path: Path, health: Health) -> None:
    async def main() -> None:
        check = check_of(health, tmp_path, os.environ)
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
        try:
            with pytest.raises(NotAsked, match="Too many open files"):
                await check()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)

    asyncio.run(main())


def test_a_check_that_takes_too_long_is_killed_with_what_it_has_started(tmp_path: Path) -> None:
    async def main() -> None:
        os.mkfifo(tmp_path / "pids")
        script = "sleep 1000 & echo $! $$ > pids; wait"
        running: set[int] = set()
        task = asyncio.create_task(probe_exec(("sh", "-c", script), tmp_path, os.environ, running=running))
        await asyncio.sleep(0)
        assert len(running) == 1
        line = await asyncio.to_thread((tmp_path / "pids").read_text)
        pidfds = [os.pidfd_open(int(pid)) for pid in line.split()]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert running == set()
        for pidfd in pidfds:
            dead = asyncio.Event()
            asyncio.get_running_loop().add_reader(pidfd, dead.set)
            await asyncio.wait_for(dead.wait(), 10)
            asyncio.get_running_loop().remove_reader(pidfd)
            os.close(pidfd)

    before = sorted(os.listdir("/proc/self/fd"))
    asyncio.run(main())
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_check_whose_end_nobody_waits_for_is_reaped_all_the_same(tmp_path: Path) -> None:
    async def main() -> None:
        task = asyncio.create_task(probe_exec(("sleep", "1000"), tmp_path, os.environ))
        await asyncio.sleep(0)
        for _ in range(2):
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task
        while sorted(os.listdir("/proc/self/fd")) != inside:
            await asyncio.sleep(0.001)

    async def count() -> list[str]:
        return sorted(os.listdir("/proc/self/fd"))

    inside = asyncio.run(count())
    asyncio.run(main())
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
