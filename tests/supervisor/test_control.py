"""The control socket: honest clients are answered, all others do no harm."""

import asyncio
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
import zmq
from tests.supervisor.fake import FIGURES, LINKS, STATUS, FakeSupervisor

from meshvisor.shared.control.requests import (
    Accepted,
    Done,
    Hello,
    Refusal,
    Refused,
    Reply,
    Restart,
    Step,
    Stop,
    Welcome,
    Why,
    decode_reply,
    encode_request,
)
from meshvisor.shared.errors import SupervisorError
from meshvisor.supervisor.cli import execute
from meshvisor.supervisor.client import Client, NotRunning
from meshvisor.supervisor.control import ControlServer
from meshvisor.supervisor.directory import RuntimeDirectory
from meshvisor.supervisor.feed import Feed
from meshvisor.supervisor.figures import MeshFigures
from meshvisor.supervisor.naming import UnknownSlot
from meshvisor.supervisor.operations import Operations
from meshvisor.supervisor.snapshot import MeshLinks, MeshStatus

T = TypeVar("T")


@pytest.fixture
def supervisor() -> FakeSupervisor:
    return FakeSupervisor()


@pytest.fixture
def feed() -> Feed:
    return Feed()


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[RuntimeDirectory]:
    base = tmp_path / ("long" * 50)  # no socket address is that long
    directory = RuntimeDirectory(base, "demo", tmp_path / "mesh.toml")
    yield directory
    directory.close()


Serve = Callable[[Callable[[], T]], T]


@pytest.fixture
def serve(supervisor: FakeSupervisor, feed: Feed, directory: RuntimeDirectory) -> Serve[object]:
    """Run a client's function in a thread while the server runs in the loop."""

    async def run(client: Callable[[], object]) -> object:
        server = ControlServer(supervisor, Operations(supervisor), feed, directory)
        server.start()
        try:
            return await asyncio.to_thread(client)
        finally:
            server.close()
            server.close()

    return lambda client: asyncio.run(run(client))


def client_of(directory: RuntimeDirectory) -> Client:
    return Client(directory.path.parent, "demo")


def exchange(directory: RuntimeDirectory, kind: int, *messages: list[bytes]) -> list[Reply]:
    """Send raw messages and return as many replies."""
    with zmq.Context() as context, context.socket(kind) as peer:
        peer.set(zmq.LINGER, 0)
        peer.set(zmq.RCVTIMEO, 10_000)
        peer.connect(f"ipc://{directory.control_path}")
        replies = []
        for frames in messages:
            peer.send_multipart(frames)
            replies.append(decode_reply(peer.recv_multipart()[-1]))
        return replies


def test_a_client_gets_the_status(serve: Serve[object], directory: RuntimeDirectory) -> None:
    def ask() -> list[MeshStatus]:
        with client_of(directory) as client:
            return [client.status(), client.status()]

    assert serve(ask) == [STATUS, STATUS]


def test_a_client_gets_the_links(serve: Serve[object], directory: RuntimeDirectory) -> None:
    def ask() -> MeshLinks:
        with client_of(directory) as client:
            return client.links()

    assert serve(ask) == LINKS


def test_a_client_gets_the_figures(serve: Serve[object], directory: RuntimeDirectory) -> None:
    def ask() -> MeshFigures:
        with client_of(directory) as client:
            assert client.figures().nodes == ()
            return client.figures(each=True)

    assert serve(ask) == FIGURES


@pytest.mark.parametrize(
    ("options", "status", "answer"),
    [
        ([], 0, "demo has 1 link between 2 workers, all up\n"),
        (["--show", "rtt"], 0, "demo has 1 link between 2 workers, all up\n"),
        (
            ["--json"],
            0,
            '{"mesh":"demo","pid":1,"uptime":1.0,"nodes":[{"name":"a","worker":"a","state":"ready","pid":7,',
        ),
        (["--dot"], 0, 'graph "demo" {\n'),
        (["--dot", "--json"], 2, '{"error": "--json and --dot are two answers; ask for one of them", "code": 2}\n'),
    ],
)
def test_supervise_mesh_shows_them(
    options: list[str],
    status: int,
    answer: str,
    serve: Serve[object],
    directory: RuntimeDirectory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MESHVISOR_RUNTIME_DIR", str(directory.path.parent))
    assert serve(lambda: execute(["mesh", "--name", "demo", *options])) == status
    out, err = capsys.readouterr()
    assert out.startswith(answer)
    assert err == ""


def test_a_shutdown_is_passed_on(serve: Serve[object], directory: RuntimeDirectory, supervisor: FakeSupervisor) -> None:
    def ask() -> None:
        with client_of(directory) as client:
            client.shutdown()

    serve(ask)
    assert supervisor.reasons == ["shutdown was asked for"]


def test_a_request_that_takes_its_time_is_answered_when_it_is_done(
    serve: Serve[object], directory: RuntimeDirectory
) -> None:
    def ask() -> tuple[str, MeshStatus]:
        with client_of(directory) as client:
            return client.traces("a"), client.status()

    assert serve(ask) == ("where a is", STATUS)


@pytest.mark.parametrize(
    ("slot", "kind", "message"),
    [
        ("b", UnknownSlot, "there is no worker and no slot called 'b'"),
        ("ended", SupervisorError, "^ended has no process now"),
    ],
)
def test_one_that_fails_later_is_refused_all_the_same(
    slot: str, kind: type[Exception], message: str, serve: Serve[object], directory: RuntimeDirectory
) -> None:
    def ask() -> None:
        with client_of(directory) as client:
            client.traces(slot)

    with pytest.raises(kind, match=message):
        serve(ask)


def test_what_takes_longer_than_its_deadline_is_given_up_and_only_so_much_is_begun(
    serve: Serve[object], directory: RuntimeDirectory, supervisor: FakeSupervisor
) -> None:
    def ask() -> tuple[list[Reply], MeshStatus]:
        with zmq.Context() as context, context.socket(zmq.DEALER) as peer:
            peer.set(zmq.LINGER, 0)
            peer.set(zmq.RCVTIMEO, 10_000)
            peer.connect(f"ipc://{directory.control_path}")
            deadline = time.monotonic() + 0.3
            for number in range(1, 21):
                peer.send(encode_request(number, Why("slow"), deadline))
            with client_of(directory) as client:
                status = client.status()
            return [decode_reply(peer.recv()) for _ in range(20)], status

    result = serve(ask)
    assert isinstance(result, tuple)
    replies, status = result
    assert status == STATUS
    refusals = [reply.body.why for reply in replies if isinstance(reply.body, Refused)]
    assert refusals == [Refusal.BUSY] * 4 + [Refusal.LATE] * 16
    assert supervisor.tracing == 16


def test_a_request_that_fails_is_refused_with_the_reason(
    serve: Serve[object], directory: RuntimeDirectory, supervisor: FakeSupervisor
) -> None:
    supervisor.trouble = "out of order"

    def ask() -> None:
        with client_of(directory) as client:
            client.status()

    with pytest.raises(SupervisorError, match=r"^out of order"):
        serve(ask)


def test_an_answer_that_is_no_text_is_a_refusal(
    serve: Serve[object], directory: RuntimeDirectory, supervisor: FakeSupervisor
) -> None:
    supervisor.trouble = "caf\udce9"

    def ask() -> None:
        with client_of(directory) as client:
            client.status()

    with pytest.raises(SupervisorError, match="no text"):
        serve(ask)


def test_garbage_is_answered_and_the_next_request_is_served(serve: Serve[object], directory: RuntimeDirectory) -> None:
    hello = encode_request(3, Hello(), time.monotonic() + 10)
    messages = [[b"\xff"], [b"x" * 100_000], [b"a", b"b", hello], [hello]]
    replies = serve(lambda: exchange(directory, zmq.DEALER, *messages))
    assert isinstance(replies, list)
    first, second, third, fourth = (reply.body for reply in replies)
    assert isinstance(first, Refused)
    assert isinstance(second, Refused)
    assert (first.why, second.why) == (Refusal.GARBAGE, Refusal.GARBAGE)
    assert third == fourth
    assert isinstance(fourth, Welcome)
    assert (fourth.mesh, fourth.pid) == ("demo", os.getpid())


def test_a_req_socket_is_served_as_well(serve: Serve[object], directory: RuntimeDirectory) -> None:
    hello = encode_request(3, Hello(), time.monotonic() + 10)
    replies = serve(lambda: exchange(directory, zmq.REQ, [hello]))
    assert isinstance(replies, list)
    assert isinstance(replies[0].body, Welcome)


def test_a_client_that_never_reads_holds_nobody_up(serve: Serve[object], directory: RuntimeDirectory) -> None:
    def ask() -> MeshStatus:
        with zmq.Context() as context, context.socket(zmq.DEALER) as deaf:
            deaf.set(zmq.LINGER, 0)
            deaf.set(zmq.RCVHWM, 1)
            deaf.connect(f"ipc://{directory.control_path}")
            for number in range(2000):
                deaf.send(encode_request(number, Hello(), time.monotonic() + 10))
            with client_of(directory) as client:
                return client.status()

    assert serve(ask) == STATUS


def test_a_client_that_sends_too_much_is_cut_off_and_the_others_are_served(
    serve: Serve[object], directory: RuntimeDirectory
) -> None:
    def ask() -> MeshStatus:
        with zmq.Context() as context, context.socket(zmq.DEALER) as loud:
            loud.set(zmq.LINGER, 0)
            loud.connect(f"ipc://{directory.control_path}")
            loud.send(b"x" * 2_000_000)
            with client_of(directory) as client:
                return client.status()

    assert serve(ask) == STATUS


def test_changes_are_carried_out_and_their_steps_told(
    serve: Serve[Any], directory: RuntimeDirectory, supervisor: FakeSupervisor
) -> None:
    def ask() -> list[object]:
        with client_of(directory) as client:
            told: list[Step] = []
            begun = client.restart("b", at_once=True, wait=False)
            done = client.stop("a", "b-1", told=told.append)
            return [begun, told, done, client.scale({"a": 2}), client.names()]

    begun, told, done, scaled, names = serve(ask)
    assert (begun, told) == (None, [])
    assert isinstance(done, Done)
    assert done.steps == (Step("a", "ready", 1, None), Step("b-1", "ready", 1, None))
    assert isinstance(scaled, Done)
    assert names == {"a": ("a",), "b": ("b-0", "b-1"), "bad": ("bad",)}
    assert supervisor.asked == [("restart", "b", True), ("stop", "a"), ("stop", "b-1"), ("scale", {"a": 2})]


def test_a_change_goes_on_when_its_client_is_gone(
    serve: Serve[Any], directory: RuntimeDirectory, supervisor: FakeSupervisor
) -> None:
    supervisor.hold()

    def ask() -> None:
        with client_of(directory) as client:
            client._send(Restart(("a",)))
            while not supervisor.asked:
                client.names()
        with client_of(directory) as client:
            assert client.names()  # the first is gone by now, or soon
            assert supervisor.cancelled == 0

    serve(ask)
    assert supervisor.asked == [("restart", "a", False)]


def test_a_client_that_was_stopped_for_a_while_still_hears_the_end(
    serve: Serve[Any], directory: RuntimeDirectory, supervisor: FakeSupervisor
) -> None:
    supervisor.hold()

    def ask() -> list[object]:
        with zmq.Context() as context, context.socket(zmq.DEALER) as peer:
            peer.set(zmq.LINGER, 0)
            peer.set(zmq.RCVTIMEO, 10_000)
            peer.set(zmq.RCVHWM, 1)
            peer.connect(f"ipc://{directory.control_path}")
            peer.send(encode_request(1, Restart(("a",)), time.monotonic() + 10))
            assert decode_reply(peer.recv()).body == Accepted()
            while (loop := supervisor.loop) is None:
                time.sleep(0.001)
            is_over = threading.Event()

            def flood() -> None:
                for number in range(20_000):
                    supervisor.publish("slot-ready", "a", number)
                supervisor.finish()
                loop.call_later(0.1, is_over.set)

            loop.call_soon_threadsafe(flood)
            assert is_over.wait(10)
            answers: list[object] = [decode_reply(peer.recv()).body]
            while isinstance(answers[-1], Step):
                answers.append(decode_reply(peer.recv()).body)
            return answers

    *steps, done = serve(ask)
    assert isinstance(done, Done)
    assert 0 < len(steps) < 20_000


def test_a_change_that_arrives_after_its_deadline_is_not_made(
    serve: Serve[Any], directory: RuntimeDirectory, supervisor: FakeSupervisor
) -> None:
    stop = encode_request(3, Stop(("a",)), time.monotonic() - 0.001)
    (reply,) = serve(lambda: exchange(directory, zmq.DEALER, [stop]))
    assert isinstance(reply.body, Refused)
    assert reply.body.why is Refusal.LATE
    assert supervisor.asked == []


def test_a_message_of_very_many_frames_is_ignored_and_the_next_is_served(
    serve: Serve[Any], directory: RuntimeDirectory
) -> None:
    hello = encode_request(3, Hello(), time.monotonic() + 10)

    def ask() -> list[Reply]:
        with zmq.Context() as context, context.socket(zmq.DEALER) as peer:
            peer.set(zmq.LINGER, 0)
            peer.set(zmq.RCVTIMEO, 10_000)
            peer.connect(f"ipc://{directory.control_path}")
            for count in (8, 9, 100_000):
                peer.send_multipart([hello] * count)
            peer.send(hello)
            return [decode_reply(peer.recv_multipart()[-1])]

    (reply,) = serve(ask)
    assert isinstance(reply.body, Welcome)


# Other versions.


def test_who_one_is_can_be_asked_in_any_version(serve: Serve[Any], directory: RuntimeDirectory) -> None:
    requests = [
        msgspec.json.encode({"version": 9, "id": 4, "deadline": 1e12, "body": {"type": kind}})
        for kind in ("hello", "status")
    ]
    hello, status = serve(lambda: exchange(directory, zmq.DEALER, *([one] for one in requests)))
    assert isinstance(hello.body, Welcome)
    assert isinstance(status.body, Refused)
    assert (status.id, status.body.why) == (4, Refusal.VERSION)


def test_a_supervisor_of_another_version_is_told_with_its_release(directory: RuntimeDirectory) -> None:
    def answer() -> None:
        with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
            socket.set(zmq.LINGER, 1000)
            socket.bind(f"ipc://{directory.control_path}")
            for _ in range(2):
                route, body = socket.recv_multipart()
                request = msgspec.json.decode(body)
                if request["body"]["type"] == "hello":
                    reply: object = {"type": "welcome", "mesh": "demo", "pid": 1, "release": "7.0", "more": []}
                else:
                    reply = {"type": "sorry", "in": "words that version 1 does not know"}
                reply = {"version": 2, "id": request["id"], "body": reply}
                socket.send_multipart([route, msgspec.json.encode(reply)])

    async def main() -> None:
        with client_of(directory) as client:
            serving = asyncio.create_task(asyncio.to_thread(answer))
            try:
                await asyncio.to_thread(client.status)
            finally:
                await serving

    with pytest.raises(SupervisorError, match=r"it is of meshvisor 7\.0, this command of .*; use the supervise of its"):
        asyncio.run(main())


def test_a_socket_that_cannot_be_bound_is_an_error(
    supervisor: FakeSupervisor, feed: Feed, directory: RuntimeDirectory
) -> None:
    directory.close()

    async def main() -> None:
        ControlServer(supervisor, Operations(supervisor), feed, directory).start()

    with pytest.raises(SupervisorError, match="cannot open the control socket"):
        asyncio.run(main())


def test_a_mesh_that_does_not_run_is_told_from_one_that_does_not_answer(
    directory: RuntimeDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotRunning, match="'other' is not running"):
        Client(directory.path.parent, "other")
    monkeypatch.setattr("meshvisor.supervisor.client.TIMEOUT", 0.05)
    with client_of(directory) as client, pytest.raises(SupervisorError, match=r"did not answer within 0\.05 s"):
        client.status()


def test_waiting_ends_when_the_lock_is_free(directory: RuntimeDirectory) -> None:
    with client_of(directory) as client:
        directory.close()
        client.wait_until_over()
        fcntl.flock(client._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_the_status_is_exactly_the_documented_json() -> None:
    assert msgspec.json.encode(STATUS) == (
        b'{"mesh":"demo","pid":1,"state":"running","uptime":1.0,"workers":[],"blacklist":[]}'
    )
