"""The control socket: honest clients are answered, all others do no harm."""

import asyncio
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
import zmq

from meshvisor.shared.control.links import LinkStatus, LinkTotals
from meshvisor.shared.control.requests import Hello, Refusal, Refused, Reply, Welcome, Why, decode_reply, encode_request
from meshvisor.shared.core.penalties import FailureSeverity
from meshvisor.shared.core.states import ConnectionState
from meshvisor.shared.errors import SupervisorError
from meshvisor.shared.memory.board import Stage
from meshvisor.supervisor.cli import execute
from meshvisor.supervisor.client import Client, NotRunning
from meshvisor.supervisor.control import ControlServer
from meshvisor.supervisor.directory import RuntimeDirectory
from meshvisor.supervisor.figures import BlacklistFigures, MeshFigures
from meshvisor.supervisor.naming import UnknownSlot, slots_named
from meshvisor.supervisor.snapshot import Answer, ExitCause, MeshLinks, MeshState, MeshStatus, NodeLinks, WorkerState

T = TypeVar("T")
STATUS = MeshStatus("demo", 1, MeshState.RUNNING, 1.0, ())
LINK = LinkStatus("b", 1, ConnectionState.ESTABLISHED, 2.5, 0.001)
NODE = NodeLinks(
    "a", "a", WorkerState.READY, 7, 1, Answer.FRESH, Stage.READY, 0.0, 3, 4, 1, 1, LinkTotals(bytes_in=5), (LINK,)
)
LINKS = MeshLinks("demo", 1, 1.0, (NODE, msgspec.structs.replace(NODE, name="b", answer=Answer.SILENT, links=())))


class FakeSupervisor:
    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.trouble: str | None = None
        self.tracing = 0

    def status(self) -> MeshStatus:
        if self.trouble is not None:
            raise SupervisorError(self.trouble)
        return STATUS

    def request_stop(self, reason: str = "") -> None:
        self.reasons.append(reason)

    async def links(self) -> MeshLinks:
        return LINKS

    async def figures(self, *, each: bool = False) -> MeshFigures:
        return FIGURES if each else msgspec.structs.replace(FIGURES, nodes=())

    async def traces(self, slot: str) -> str:
        self.tracing += 1
        if slot == "slow":
            await asyncio.sleep(1000)
        if slot == "ended":
            raise SupervisorError("ended has no process now")
        slots_named(slot, ["a"])
        return f"where {slot} is"


FIGURES = MeshFigures(
    mesh="demo",
    release="1.0",
    uptime=1.0,
    cpu=0.5,
    rss=1000,
    lag=0.001,
    events_dropped=2,
    incidents={ExitCause.HUNG: 3},
    slots=(),
    nodes=LINKS.nodes,
    blacklist=BlacklistFigures({FailureSeverity.HARD: 1}, 1024, 0, 0),
)


@pytest.fixture
def supervisor() -> FakeSupervisor:
    return FakeSupervisor()


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[RuntimeDirectory]:
    base = tmp_path / ("long" * 50)  # no socket address is that long
    directory = RuntimeDirectory(base, "demo", tmp_path / "mesh.toml")
    yield directory
    directory.close()


Serve = Callable[[Callable[[], T]], T]


@pytest.fixture
def serve(supervisor: FakeSupervisor, directory: RuntimeDirectory) -> Serve[object]:
    """Run a client's function in a thread while the server runs in the loop."""

    async def run(client: Callable[[], object]) -> object:
        server = ControlServer(supervisor, directory.control_path)
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
        ("ended", SupervisorError, "refused: ended has no process now"),
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

    with pytest.raises(SupervisorError, match="refused: out of order"):
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


def test_a_socket_that_cannot_be_bound_is_an_error(supervisor: FakeSupervisor, tmp_path: Path) -> None:
    async def main() -> None:
        ControlServer(supervisor, f"{tmp_path}/missing/control").start()

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
