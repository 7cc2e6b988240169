"""A whole life of a mesh, with real processes: starting, order, crashes, limits, the end."""

import asyncio
import errno
import os
import signal
import socket
import sys
from typing import Any

import psutil
import pytest

from meshvisor.shared.config.model import Backoff, RestartPolicy
from meshvisor.shared.errors import SupervisorError
from meshvisor.supervisor.directory import find_running
from meshvisor.supervisor.event import describe
from meshvisor.supervisor.supervisor import Supervisor

FOREVER = "exec sleep 1000"
PATIENT = Backoff(initial=0.001, max=0.002, jitter=0.0)


def test_a_killed_child_is_started_again_at_once(workshop: Any) -> None:
    async def main() -> None:
        async with workshop.running(workshop.shell("a", FOREVER)) as mesh:
            await mesh.happened("slot-ready", "a")
            first = mesh.pid("a")
            os.kill(first, signal.SIGKILL)
            ended = await mesh.happened("slot-exited", "a")
            assert (ended.details["cause"], ended.details["signal"]) == ("signaled", "SIGKILL")
            assert ended.details["delay"] == 0
            ready = await mesh.happened("slot-ready", "a", incarnation=2)
            assert describe(ready).startswith("a is ready again (incarnation 2, ")
            assert mesh.pid("a") != first
            status = mesh.supervisor.status().workers[0]
            assert (status.incarnation, status.restarts, status.ready) == (2, 1, True)
            assert status.last_exit is not None
            assert (status.last_exit.cause, status.last_exit.signal, status.last_exit.code) == (
                "signaled",
                "SIGKILL",
                None,
            )

    asyncio.run(main())


def test_the_replacement_is_started_in_the_turn_of_the_loop_that_hears_of_the_death(workshop: Any) -> None:
    async def main() -> None:
        async with workshop.running(workshop.shell("a", FOREVER)) as mesh:
            await mesh.happened("slot-ready", "a")
            turns: list[str] = []
            loop = asyncio.get_running_loop()
            mesh.supervisor.subscribe(lambda event: turns.append(event.event))
            mesh.supervisor.subscribe(lambda event: loop.call_soon(turns.append, "next turn"))
            os.kill(mesh.pid("a"), signal.SIGKILL)
            await mesh.happened("slot-ready", "a", incarnation=2)
            assert turns[:3] == ["slot-exited", "slot-starting", "next turn"]

    asyncio.run(main())


def test_slots_start_when_what_they_depend_on_is_ready_and_stop_in_reverse(workshop: Any) -> None:
    async def main() -> None:
        workers = (
            workshop.worker("top", depends_on=("middle",)),
            workshop.worker("middle", depends_on=("bottom", "once")),
            workshop.worker("bottom", replicas=2),
            workshop.shell("once", "exit 0", restart=RestartPolicy.ON_FAILURE),
        )
        async with workshop.running(*workers) as mesh:
            await mesh.happened("mesh-ready")
            order = [(event.event, event.slot) for event in mesh.events]
            assert order.index(("slot-starting", "middle")) > order.index(("slot-ready", "bottom-0"))
            assert order.index(("slot-starting", "middle")) > order.index(("slot-ready", "bottom-1"))
            assert order.index(("slot-starting", "middle")) > order.index(("slot-stopped", "once"))
            assert order.index(("slot-starting", "top")) > order.index(("slot-ready", "middle"))
            mesh.supervisor.request_stop()
            assert await mesh.supervisor.wait() == 0
            stopped = [event.slot for event in mesh.events if event.event == "slot-stopped"]
            assert stopped[:3] == ["once", "top", "middle"]
            assert sorted(stopped[3:]) == ["bottom-0", "bottom-1"]

    asyncio.run(main())


def test_workers_hear_of_each_other_and_of_the_end_of_an_incarnation(workshop: Any) -> None:
    async def main() -> None:
        async with workshop.running(workshop.worker("a"), workshop.worker("b")) as mesh:
            await mesh.happened("mesh-ready")
            await mesh.happened("slot-ready", "a")
            endpoint = workshop.runtime / "testmesh" / "b.1.sock"
            assert endpoint.exists()
            os.kill(mesh.pid("b"), signal.SIGKILL)
            await mesh.printed("a", "news b down 2")
            await mesh.printed("a", "news b ready 2")
            assert not endpoint.exists()
            status = mesh.supervisor.status().workers[0]
            assert (status.peers_up, status.peers_total) == (3, 4)
            assert status.rss > 0

    asyncio.run(main())


def test_a_worker_that_never_reads_holds_nobody_up(workshop: Any) -> None:
    async def main() -> None:
        workers = (workshop.worker("deaf", "deaf", stop_timeout=0.0), workshop.worker("a", backoff=PATIENT))
        async with workshop.running(*workers, max_restarts=1000) as mesh:
            await mesh.happened("mesh-ready")
            for incarnation in range(1, 6):
                await mesh.happened("slot-ready", "a", incarnation)
                os.kill(mesh.pid("a"), signal.SIGKILL)
            await mesh.happened("slot-ready", "a", 6)

    asyncio.run(main())


def test_a_class_that_does_not_import_stays_in_backoff_while_the_rest_runs(workshop: Any) -> None:
    async def main() -> None:
        backoff = Backoff(initial=0.001, max=0.001)
        workers = (workshop.worker("good"), workshop.worker("bad", "broken", backoff=backoff))
        async with workshop.running(*workers, max_restarts=2) as mesh:
            await mesh.happened("slot-ready", "good")
            ended = await mesh.happened("slot-exited", "bad", incarnation=5)
            assert ended.details["traceback"].endswith("No module named 'fake'\n")
            assert "bad could not start: ModuleNotFoundError: No module named 'fake' (exit status 1); starting" in (
                describe(ended)
            )
            assert ("bad", "stderr", "ModuleNotFoundError: No module named 'fake'") in mesh.lines
            assert mesh.supervisor.status().workers[0].ready
            mesh.supervisor.request_stop()
            assert await mesh.supervisor.wait() == 0

    asyncio.run(main())


def test_a_mesh_that_is_broken_altogether_ends_with_3(workshop: Any) -> None:
    status, mesh = workshop.outcome(workshop.worker("bad", "broken", backoff=PATIENT), max_restarts=2)
    assert status == 3
    assert mesh.names("bad").count("slot-exited") == 3
    assert mesh.names("bad")[-1] == "slot-failed"
    assert "limit-exceeded" in mesh.names()


def test_more_restarts_than_the_limit_end_the_mesh_with_3(workshop: Any) -> None:
    crashing = workshop.shell("crashing", "sleep 0.4; exit 7", backoff=PATIENT)
    status, mesh = workshop.outcome(crashing, workshop.shell("calm", FOREVER), max_restarts=1)
    assert status == 3
    assert mesh.names("crashing").count("slot-exited") == 2
    assert "slot-stopped" in mesh.names("calm")


@pytest.mark.parametrize(
    ("script", "policy", "status"),
    [
        ("exit 0", RestartPolicy.ON_FAILURE, 0),
        ("exit 0", RestartPolicy.NEVER, 0),
        ("exit 4", RestartPolicy.NEVER, 1),
        ("kill -TERM $$", RestartPolicy.NEVER, 1),
    ],
)
def test_a_mesh_whose_slots_have_all_ended_says_how(
    workshop: Any, script: str, policy: RestartPolicy, status: int
) -> None:
    assert workshop.outcome(workshop.shell("a", script, restart=policy))[0] == status


def test_a_termination_that_we_did_not_ask_for_is_a_failure(workshop: Any) -> None:
    script = "test $MESHVISOR_INCARNATION = 2 && exit 0; kill -TERM $$"
    status, mesh = workshop.outcome(workshop.shell("a", script, restart=RestartPolicy.ON_FAILURE))
    assert status == 0
    assert mesh.names("a").count("slot-exited") == 2


def test_any_configured_status_is_a_success(workshop: Any) -> None:
    worker = workshop.shell("a", "exit 4", restart=RestartPolicy.ON_FAILURE, success=frozenset({0, 4}))
    assert workshop.outcome(worker)[0] == 0


def test_the_mesh_ends_with_its_significant_workers(workshop: Any) -> None:
    source = workshop.shell("source", "exit 0", significant=True, restart=RestartPolicy.ON_FAILURE, replicas=2)
    status, mesh = workshop.outcome(source, workshop.shell("sink", FOREVER))
    assert status == 0
    assert "slot-stopped" in mesh.names("sink")


def test_a_significant_worker_that_failed_ends_the_mesh_with_1(workshop: Any) -> None:
    source = workshop.shell("source", "exit 5", significant=True, restart=RestartPolicy.NEVER)
    assert workshop.outcome(source, workshop.shell("sink", FOREVER))[0] == 1


def test_a_missing_program_is_a_failed_start_that_says_so(workshop: Any) -> None:
    status, mesh = workshop.outcome(workshop.command("a", "no-such-program", restart=RestartPolicy.NEVER))
    assert status == 1
    ended = next(event for event in mesh.events if event.event == "slot-exited")
    assert describe(ended) == (
        "a could not start: cannot run 'no-such-program': No such file or directory (exit status 127); "
        "not starting it again"
    )


def test_a_missing_directory_is_a_failed_start_that_says_so(workshop: Any) -> None:
    gone = workshop.directory / "gone"
    status, mesh = workshop.outcome(workshop.shell("a", FOREVER, cwd=gone, backoff=PATIENT), max_restarts=1)
    assert status == 3
    ended = next(event for event in mesh.events if event.event == "slot-exited")
    assert describe(ended) == (
        f"a could not start: cannot enter the directory {gone}: No such file or directory; starting again at once"
    )


def test_a_lack_of_descriptors_is_said_once_waited_out_and_never_counted(
    workshop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """supervisord 8 (reliability.md 4.3): fork and pipe failures lead to back-off with a reason."""

    def refuse() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async def main() -> None:
        async with workshop.running(workshop.worker("a"), max_restarts=1) as mesh:
            await mesh.happened("slot-ready", "a")
            with monkeypatch.context() as patch:
                patch.setattr(socket, "socketpair", refuse)
                os.kill(mesh.pid("a"), signal.SIGKILL)
                first = await mesh.happened("slot-exited", "a", incarnation=2)
                third = await mesh.happened("slot-exited", "a", incarnation=4)
            assert describe(first) == (
                "a could not start: cannot start a process: Too many open files; trying until there is enough"
            )
            assert [first.is_minor, third.is_minor, third.details["shortage"]] == [False, True, 3]
            await mesh.until(lambda: mesh.supervisor.status().workers[0].ready)

    asyncio.run(main())


def test_the_environment_of_a_child_says_who_it_is(workshop: Any) -> None:
    async def main() -> None:
        script = 'echo "$MESHVISOR_SLOT/$MESHVISOR_INCARNATION/$EXTRA"; ' + FOREVER
        async with workshop.running(workshop.shell("a", script, env={"EXTRA": "yes"})) as mesh:
            assert await mesh.printed("a", "a/1/") == "yes"

    asyncio.run(main())


def test_children_read_nothing_and_inherit_nothing(workshop: Any) -> None:
    async def main() -> None:
        script = "cat; echo read nothing; echo fds $(ls /proc/self/fd); " + FOREVER
        read_end, write_end = os.pipe()
        os.set_inheritable(read_end, True)
        async with workshop.running(workshop.shell("a", script)) as mesh:
            await mesh.printed("a", "read nothing")
            assert await mesh.printed("a", "fds ") == "0 1 2 3"
        os.close(read_end)
        os.close(write_end)

    asyncio.run(main())


def test_output_is_passed_on_by_stream_and_kept_in_the_log(workshop: Any) -> None:
    script = r"echo out; echo err >&2; printf '10%%\r20%%\r'; printf 'last words'; exit 3"
    status, mesh = workshop.outcome(workshop.shell("a", script, restart=RestartPolicy.NEVER))
    assert status == 1
    assert ("a", "stdout", "out") in mesh.lines
    assert ("a", "stderr", "err") in mesh.lines
    assert ("a", "stdout", "last words") in mesh.lines
    ended = next(event for event in mesh.events if event.event == "slot-exited")
    assert set(ended.details["tail"]) == {"out", "err"} or "last words" in ended.details["tail"]
    log = (workshop.directory / ".meshvisor" / "a.log").read_text()
    assert " stdout out\n" in log
    assert " stderr err\n" in log
    assert "20%" not in log


def test_a_log_that_cannot_be_written_costs_lines_and_one_warning(workshop: Any) -> None:
    (workshop.directory / "file").touch()
    worker = workshop.shell("a", "echo 1; echo 2; exit 0", restart=RestartPolicy.NEVER)
    status, mesh = workshop.outcome(worker, log_dir=workshop.directory / "file" / "logs")
    assert status == 0
    assert mesh.names("a").count("log-lost") == 1
    assert [line for _, _, line in mesh.lines] == ["1", "2"]


def test_a_second_supervisor_is_refused_and_told_by_whom(workshop: Any) -> None:
    async def main() -> None:
        config = workshop.mesh(workshop.shell("a", FOREVER))
        async with workshop.running(*config.workers):
            assert find_running(workshop.runtime, "testmesh") == os.getpid()
            before = sorted(os.listdir("/proc/self/fd"))
            with pytest.raises(SupervisorError, match=rf"pid {os.getpid()}, {config.file}"):
                await Supervisor(config).start_all()
            assert sorted(os.listdir("/proc/self/fd")) == before
        assert find_running(workshop.runtime, "testmesh") is None

    asyncio.run(main())


def test_as_a_library_entering_waits_until_all_are_ready_and_leaving_stops_them(workshop: Any) -> None:
    async def main() -> None:
        config = workshop.mesh(workshop.worker("a"), workshop.shell("b", FOREVER, depends_on=("a",)))
        async with Supervisor(config) as supervisor:
            status = supervisor.status()
            assert [worker.ready for worker in status.workers] == [True, True]
            assert (status.mesh, status.state, status.pid) == ("testmesh", "running", os.getpid())
            stream = supervisor.events()
        assert await supervisor.wait() == 0
        assert [event.event async for event in stream][-1] == "mesh-stopped"
        assert list(workshop.runtime.iterdir()) == []

    asyncio.run(main())


def test_entering_fails_when_a_slot_does_not_become_ready(workshop: Any) -> None:
    async def main() -> None:
        config = workshop.mesh(workshop.worker("good"), workshop.worker("bad", "broken", start_timeout=0.3))
        with pytest.raises(SupervisorError, match=r"bad did not become ready"):
            async with Supervisor(config):
                raise AssertionError("not ready, and entered")

    asyncio.run(main())


def test_a_supervisor_that_was_never_started_has_nothing_to_wait_for(workshop: Any) -> None:
    async def main() -> None:
        with pytest.raises(SupervisorError, match="has not been started"):
            await Supervisor(workshop.mesh()).wait()

    asyncio.run(main())


def test_nothing_is_left_open_after_a_mesh(workshop: Any) -> None:
    async def main() -> None:
        before = sorted(os.listdir("/proc/self/fd"))
        async with workshop.running(workshop.worker("a"), workshop.shell("b", FOREVER)) as mesh:
            await mesh.happened("mesh-ready")
            os.kill(mesh.pid("a"), signal.SIGKILL)
            await mesh.happened("slot-ready", "a", 2)
        assert sorted(os.listdir("/proc/self/fd")) == before

    asyncio.run(main())


def test_the_virtual_environment_is_kept(workshop: Any) -> None:
    async def main() -> None:
        async with workshop.running(workshop.worker("a")) as mesh:
            await mesh.happened("slot-ready", "a")
            arguments = psutil.Process(mesh.pid("a")).cmdline()
            assert arguments[0] == sys.executable
            assert arguments[-1] == "testmesh/a"

    asyncio.run(main())
