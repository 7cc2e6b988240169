"""Commands with real processes: how they become ready, how they are confined, checked and remembered."""

import asyncio
import json
import os
import pwd
import re
import shutil
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from meshvisor.shared.config.model import Backoff, Health, LogFormat, LogOptions, Ready, RestartPolicy
from meshvisor.shared.errors import SupervisorError
from meshvisor.supervisor.event import describe
from meshvisor.supervisor.incidents import read_incidents
from meshvisor.supervisor.memory import OomCounter
from meshvisor.supervisor.naming import UnknownSlot

FOREVER = "exec sleep 1000"
AT_ONCE = Backoff(initial=0.001, max=0.001)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def python(workshop: Any, name: str, program: str, **options: Any) -> Any:
    return workshop.command(name, sys.executable, "-I", "-S", "-c", program, **options)


async def ready_after(workshop: Any, worker: Any, go: Any) -> None:
    """See that a slot becomes ready after ``go``, which makes its process go on, and not before."""
    async with workshop.running(worker) as mesh:
        await mesh.happened("slot-starting", worker.name)
        await mesh.printed(worker.name, "up")
        assert "slot-ready" not in mesh.names(worker.name)
        await go()
        await mesh.happened("slot-ready", worker.name)


# Its readiness, shown by a process that waits at a pipe called `go` first.


@pytest.mark.parametrize("kind", ["file", "fd", "log", "notify", "tcp"])
def test_a_command_is_ready_when_it_shows_it_and_not_before(workshop: Any, kind: str) -> None:
    folder: Path = workshop.directory
    os.mkfifo(folder / "go")
    port = free_port()
    (folder / "up").touch()
    ready, then = {
        "file": (Ready(file=folder / "up"), "open('up', 'x')"),
        "fd": (Ready(fd=7), "os.write(7, b'\\n')"),
        "log": (Ready(log="now it"), "print('now it is', flush=True)"),
        "tcp": (Ready(tcp=f"127.0.0.1:{port}"), f"s = socket.create_server(('127.0.0.1', {port}))"),
        "notify": (
            Ready(notify=True),
            "socket.socket(1, 2).sendto(b'READY=1', os.environ['NOTIFY_SOCKET'].replace('@', chr(0), 1))",
        ),
    }[kind]
    program = f"import os, signal, socket\nprint('up', flush=True)\nopen('go').read()\n{then}\nsignal.pause()"

    async def go() -> None:
        await asyncio.to_thread((folder / "go").write_text, "")

    asyncio.run(ready_after(workshop, python(workshop, "a", program, ready=ready), go))


def test_a_command_that_does_not_become_ready_says_what_was_waited_for(workshop: Any) -> None:
    program = "import os, socket, signal\n"
    program += "socket.socket(1, 2).sendto(b'STATUS=loading', os.environ['NOTIFY_SOCKET'])\nsignal.pause()"
    worker = python(workshop, "a", program, ready=Ready(notify=True), start_timeout=0.3, restart=RestartPolicy.NEVER)
    status, mesh = workshop.outcome(worker)
    assert status == 1
    ended = next(event for event in mesh.events if event.event == "slot-exited")
    text = 'waited for READY=1 over NOTIFY_SOCKET; it says: "loading"'
    assert (ended.details["cause"], ended.details["text"]) == ("start-timeout", text)
    assert re.fullmatch(rf"a was not ready within \d+ ms and was killed: {re.escape(text)}; .*", describe(ended))


def test_a_ready_file_that_cannot_be_removed_is_a_failed_start(workshop: Any) -> None:
    (workshop.directory / "up").mkdir()
    worker = workshop.shell("a", FOREVER, ready=Ready(file=workshop.directory / "up"), restart=RestartPolicy.NEVER)
    status, mesh = workshop.outcome(worker)
    assert status == 1
    ended = next(event for event in mesh.events if event.event == "slot-exited")
    assert describe(ended).startswith("a could not start: cannot find out when it is ready: ")


def test_last_words_make_nobody_ready(workshop: Any) -> None:
    script = "echo listening; exit 3"
    status, mesh = workshop.outcome(
        workshop.shell("a", script, ready=Ready(log="listening"), restart=RestartPolicy.NEVER)
    )
    assert status == 1
    assert mesh.names("a")[-2:] == ["slot-exited", "slot-failed"]


# Its confinement.


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("perl"), reason="takes root, and perl")
def test_a_command_of_another_user_can_notify_us(workshop: Any) -> None:
    """It cannot enter the runtime directory, and Python is not to be read by it: bash has no datagrams, perl has."""
    program = (
        "use Socket; $| = 1; my $a = $ENV{NOTIFY_SOCKET}; $a =~ s/^@/\\0/; socket(my $s, AF_UNIX, SOCK_DGRAM, 0);"
        "send($s, 'READY=1', 0, pack_sockaddr_un($a)) or die $!;"
        "print scalar(getpwuid($<)), qq( $ENV{HOME}\\n); sleep 1000"
    )
    command = workshop.command("a", "perl", "-e", program, user="nobody", ready=Ready(notify=True), cwd=Path("/"))

    async def main() -> None:
        async with workshop.running(command) as mesh:
            await mesh.happened("slot-ready", "a")
            assert await mesh.printed("a", "nobody ") == pwd.getpwnam("nobody").pw_dir

    asyncio.run(main())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_what_another_user_has_sent_away_ends_with_the_mesh(workshop: Any, witness: Any) -> None:
    async def main() -> None:
        script = "setsid sleep 1000 & echo sent $!; " + FOREVER
        async with workshop.running(workshop.shell("a", script, user="nobody", cwd=Path("/"))) as mesh:
            sent = witness(int(await mesh.printed("a", "sent ")))
            await mesh.happened("slot-ready", "a")
            mesh.supervisor.request_stop()
            assert await mesh.supervisor.wait() == 0
            assert sent.saw_the_end(0.0)

    asyncio.run(main())


def test_a_limit_that_cannot_be_set_is_a_failed_start(workshop: Any) -> None:
    worker = workshop.shell("a", FOREVER, limits={"nofile": 2**62}, restart=RestartPolicy.NEVER)
    status, mesh = workshop.outcome(worker)
    assert status == 1
    ended = next(event for event in mesh.events if event.event == "slot-exited")
    assert describe(ended).startswith("a could not start: cannot set limit to nofile:4611686018427387904: ")


CONFINED = """
import os, resource
from meshvisor import Worker
here = (resource.getrlimit(resource.RLIMIT_NOFILE), os.getpriority(os.PRIO_PROCESS, 0), os.umask(0))
class Confined(Worker):
    async def on_start(self):
        print("found", *here, flush=True)
"""


def test_a_worker_is_confined_before_its_module_is_loaded(real_workshop: Any) -> None:
    async def main() -> None:
        (real_workshop.directory / "confined.py").write_text(CONFINED)
        worker = real_workshop.real_worker(
            "a", "confined:Confined", nice=7, umask=0o027, limits={"nofile": 200, "core": 0}
        )
        async with real_workshop.running(worker) as mesh:
            assert await mesh.printed("a", "found ") == "(200, 200) 7 23"

    asyncio.run(main())


def test_a_worker_that_cannot_be_confined_says_so(real_workshop: Any) -> None:
    (real_workshop.directory / "confined.py").write_text(CONFINED)
    limits = {"nofile": 2**62}
    worker = real_workshop.real_worker("a", "confined:Confined", limits=limits, restart=RestartPolicy.NEVER)
    status, mesh = real_workshop.outcome(worker)
    assert status == 1
    ended = next(event for event in mesh.events if event.event == "slot-exited")
    assert describe(ended).startswith("a could not start: cannot set limit nofile to 4611686018427387904: ")


# Its health, its memory, and what is remembered.


def test_an_unhealthy_command_is_killed_replaced_and_remembered_as_hung(workshop: Any) -> None:
    async def main() -> None:
        health = Health(exec=("test", "!", "-e", "ill"), period=0.3, failures=2)
        async with workshop.running(workshop.shell("a", "rm -f ill; " + FOREVER, health=health)) as mesh:
            await mesh.happened("slot-ready", "a")
            (workshop.directory / "ill").touch()
            ended = await mesh.happened("slot-exited", "a")
            await mesh.happened("slot-ready", "a", incarnation=2)
            assert (ended.details["cause"], ended.details["signal"]) == ("hung", "SIGKILL")
            assert ended.details["text"].startswith("its health check failed 2 times in a row: ")
        incident = read_incidents(workshop.directory / ".meshvisor")[0]
        assert (incident.slot, incident.cause, incident.next, incident.delay) == ("a", "hung", "restart", 0.0)
        assert incident.text == ended.details["text"]

    asyncio.run(main())


LARGE = "import signal, sys\n{}\nprint('up', flush=True)\nhold = bytearray(64 << 20)\nwhile True: signal.pause()"


@pytest.mark.parametrize(
    ("options", "program", "how"),
    [
        ({"memory_soft": 32 << 20}, "signal.signal(15, lambda *_: sys.exit(0))", (0, None, "memory_soft")),
        (
            {"memory_soft": 32 << 20, "stop_timeout": 0.05},
            "signal.signal(15, signal.SIG_IGN)",
            (None, "SIGKILL", "memory_soft"),
        ),
        ({"max_memory": 32 << 20}, "", (None, "SIGKILL", "max_memory")),
    ],
    ids=["asked", "asked and killed", "killed"],
)
def test_a_process_that_uses_too_much_memory_is_replaced(
    workshop: Any,
    options: dict[str, Any],
    program: str,
    how: tuple[int | None, str | None, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Under on-failure, too: a graceful end by our own request is no success."""

    monkeypatch.setattr("meshvisor.supervisor.memory.PERIOD", 0.02)

    async def main() -> None:
        ready = Ready(log="up")
        worker = python(workshop, "a", LARGE.format(program), restart=RestartPolicy.ON_FAILURE, ready=ready, **options)
        async with workshop.running(worker) as mesh:
            ended = await mesh.happened("slot-exited", "a")
            await mesh.happened("slot-starting", "a", incarnation=2)
            code, signal_name, limit = how
            assert (ended.details["cause"], ended.details["code"], ended.details["signal"]) == (
                "memory",
                code,
                signal_name,
            )
            assert f"more than its {limit} of 32 MiB" in ended.details["text"]
        incident = read_incidents(workshop.directory / ".meshvisor")[0]
        assert (incident.cause, incident.next) == ("memory", "restart")
        assert incident.rss > 32 << 20

    asyncio.run(main())


def test_only_what_nobody_wanted_is_an_incident(workshop: Any) -> None:
    script = "case $MESHVISOR_INCARNATION in 1) exit 3;; 2) kill -SEGV $$;; *) exit 0;; esac"
    once = workshop.shell("once", script, restart=RestartPolicy.ON_FAILURE, backoff=AT_ONCE)
    asked = workshop.shell("asked", FOREVER)

    async def main() -> None:
        async with workshop.running(once, asked) as mesh:
            await mesh.happened("slot-stopped", "once")
            mesh.supervisor.request_stop()
            assert await mesh.supervisor.wait() == 0

    asyncio.run(main())
    first, second = read_incidents(workshop.directory / ".meshvisor")
    assert (first.cause, first.code, first.next, first.history) == ("exited", 3, "restart", ())
    assert (second.cause, second.signal, second.incarnation) == ("signaled", "SIGSEGV", 2)
    assert [(end.cause, end.at) for end in second.history] == [("exited", first.at)]


def test_the_incident_that_was_one_too_many_stops_the_mesh(workshop: Any) -> None:
    worker = workshop.shell("a", "echo last words; sleep 0.11; exit 7", backoff=AT_ONCE)
    status, _ = workshop.outcome(worker, max_restarts=1)
    assert status == 3
    found = [(one.next, one.delay, one.tail) for one in read_incidents(workshop.directory / ".meshvisor")]
    assert found == [("restart", 0.0, ("last words",)), ("mesh-stop", None, ("last words",))]


def test_the_kernels_count_tells_whose_kill_it_was(workshop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kills = [0]
    monkeypatch.setattr(OomCounter, "__call__", lambda counter: kills[0])

    async def main() -> None:
        async with workshop.running(workshop.shell("a", FOREVER, backoff=AT_ONCE)) as mesh:
            await mesh.happened("slot-ready", "a")
            os.kill(mesh.pid("a"), signal.SIGKILL)
            await mesh.happened("slot-ready", "a", incarnation=2)
            kills[0] += 1
            os.kill(mesh.pid("a"), signal.SIGKILL)
            await mesh.happened("slot-ready", "a", incarnation=3)
            causes = [event.details["cause"] for event in mesh.events if event.event == "slot-exited"]
            assert causes == ["signaled", "oom"]

    asyncio.run(main())


def test_where_a_process_is_can_be_asked(workshop: Any) -> None:
    async def main() -> None:
        workers = (workshop.shell("a", FOREVER, replicas=2), workshop.shell("b", "exit 0", restart=RestartPolicy.NEVER))
        async with workshop.running(*workers) as mesh:
            await mesh.happened("slot-ready", "a-0")
            await mesh.happened("slot-ready", "a-1")
            await mesh.happened("slot-stopped", "b")
            text = await mesh.supervisor.traces("a")
            assert re.search(rf"a-0 \(process {mesh.pid('a-0')}\)\nthread {mesh.pid('a-0')} \(sleep\): sleeping", text)
            assert "a-1 (process" in text
            with pytest.raises(SupervisorError, match="b has no process now"):
                await mesh.supervisor.traces("b")
            with pytest.raises(UnknownSlot, match=r'did you mean "a-1"'):
                await mesh.supervisor.traces("a1")

    asyncio.run(main())


# Its log.

FLOOD = """
import os, signal
number = int(os.environ["MESHVISOR_INCARNATION"])
for line in range(20_000 if number == 1 else 100):
    os.write(1, b"%d %d\\n" % (number, line))
    if line == 19_999:
        os.kill(os.getpid(), signal.SIGKILL)
signal.pause()
"""


@pytest.mark.slow
def test_nothing_that_was_printed_is_lost_across_a_restart(workshop: Any) -> None:
    async def main() -> None:
        log = LogOptions(LogFormat.JSON, max_size=1 << 40)
        async with workshop.running(python(workshop, "a", FLOOD, log=log)) as mesh:
            await mesh.until(lambda: ("a", "stdout", "1 19999") in mesh.lines)
            await mesh.until(lambda: ("a", "stdout", "2 99") in mesh.lines)
            await mesh.happened("slot-ready", "a", incarnation=2)

    asyncio.run(main())
    lines = [json.loads(line) for line in (workshop.directory / ".meshvisor" / "a.log").read_text().splitlines()]
    for number, count in ((1, 20_000), (2, 100)):
        found = [line["text"] for line in lines if line["incarnation"] == number]
        assert found == [f"{number} {line}" for line in range(count)]
