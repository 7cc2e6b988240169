"""Serving metrics over HTTP: honest scrapers are answered, all others do no harm."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.supervisor.test_metrics import FIGURES

from meshvisor.shared.errors import SupervisorError
from meshvisor.supervisor import scrape
from meshvisor.supervisor.figures import MeshFigures
from meshvisor.supervisor.outlet import Outlet
from meshvisor.supervisor.scrape import MetricsServer

GET = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


class Mesh:
    """What is measured, and how often it was, with each link or without."""

    def __init__(self) -> None:
        self.asked: list[bool] = []
        self.at_once = self.most_at_once = 0

    async def measure(self, each: bool) -> MeshFigures:
        self.asked.append(each)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0.001)
        self.at_once -= 1
        return FIGURES


@asynccontextmanager
async def serving(mesh: Mesh | None = None) -> AsyncIterator[int]:
    """Serve, and yield the port."""
    server = MetricsServer("127.0.0.1:0", (mesh or Mesh()).measure)
    await server.start()
    assert server._server is not None
    try:
        yield server._server.sockets[0].getsockname()[1]
    finally:
        await server.close()
        await server.close()
        assert not server._clients


async def ask(port: int, request: bytes) -> tuple[str, dict[str, str], str]:
    """Send ``request`` and return the status, the headers and the body of the answer, which ends the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    head, _, body = answer.decode().partition("\r\n\r\n")
    status, *headers = head.split("\r\n")
    return status, dict(header.split(": ", 1) for header in headers), body


def play(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(20.0):
            await scenario()

    asyncio.run(main())


def test_a_scrape_gets_all_metrics() -> None:
    async def scenario() -> None:
        mesh = Mesh()
        async with serving(mesh) as port:
            status, headers, body = await ask(port, GET)
        assert status == "HTTP/1.1 200 OK"
        assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert int(headers["Content-Length"]) == len(body.encode())
        assert 'meshvisor_mesh_info{mesh="demo",release="1.0"} 1.0\n' in body
        assert mesh.asked == [False]

    play(scenario)


@pytest.mark.parametrize(("query", "each"), [("?links=each", True), ("?links=all", False), ("?other=1", False)])
def test_each_link_is_measured_for_who_asks_for_it(query: str, each: bool) -> None:
    async def scenario() -> None:
        mesh = Mesh()
        async with serving(mesh) as port:
            status, _, _ = await ask(port, GET.replace(b"/metrics", b"/metrics" + query.encode()))
        assert (status, mesh.asked) == ("HTTP/1.1 200 OK", [each])

    play(scenario)


def test_head_says_how_long_it_would_be_and_nothing_else() -> None:
    async def scenario() -> None:
        async with serving() as port:
            _, whole, body = await ask(port, GET)
            status, headers, nothing = await ask(port, GET.replace(b"GET", b"HEAD"))
        assert (status, headers, nothing) == ("HTTP/1.1 200 OK", whole, "")
        assert body

    play(scenario)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (GET.replace(b"/metrics", b"/"), "404 Not Found"),
        (GET.replace(b"/metrics", b"/metrics/../etc/passwd"), "404 Not Found"),
        (GET.replace(b"GET", b"POST"), "405 Method Not Allowed"),
        (GET.replace(b"/metrics", b"/metrics?links=some"), "400 Bad Request"),
        (GET.replace(b"/metrics", b"/metrics?" + b"&".join([b"a=b"] * 100)), "400 Bad Request"),
        (GET.replace(b"HTTP/1.1", b"HTTP/2"), "400 Bad Request"),
        (GET.replace(b"/metrics", b"http://[/metrics"), "400 Bad Request"),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", "400 Bad Request"),
        (GET.replace(b"/metrics", b"//["), "404 Not Found"),
        (b"\r\n\r\n", "400 Bad Request"),
        (b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * 10_000 + b"\r\n", "431 Request Header Fields Too Large"),
        (b"x" * 100_000, "431 Request Header Fields Too Large"),
    ],
)
def test_what_is_no_scrape_is_refused_and_the_next_one_is_answered(request_: bytes, status: str) -> None:
    async def scenario() -> None:
        mesh = Mesh()
        async with serving(mesh) as port:
            refused, _, _ = await ask(port, request_)
            assert refused == f"HTTP/1.1 {status}"
            assert mesh.asked == []
            answered, _, _ = await ask(port, GET)
            assert answered == "HTTP/1.1 200 OK"

    play(scenario)


def test_half_a_request_is_refused() -> None:
    async def scenario() -> None:
        async with serving() as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(GET[:10])
            writer.write_eof()
            assert (await reader.read()).startswith(b"HTTP/1.1 400 Bad Request")
            writer.close()

    play(scenario)


def test_who_is_too_slow_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrape, "DEADLINE", 0.05)

    async def scenario() -> None:
        async with serving() as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(GET[:10])
            assert await reader.read() == b""
            writer.close()

    play(scenario)


def test_who_does_not_take_the_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrape, "DEADLINE", 0.1)
    monkeypatch.setattr(scrape, "exposition", lambda figures: answered())

    async def answered() -> list[bytes]:
        return [b"x" * 10_000_000] * 5

    async def scenario() -> None:
        server = MetricsServer("127.0.0.1:0", Mesh().measure)
        await server.start()
        assert server._server is not None
        port = server._server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1000)
        writer.write(GET)
        while not server._clients:
            await asyncio.sleep(0.001)
        await asyncio.wait(server._clients)
        assert len(await reader.read()) < 50_000_000
        writer.close()
        await server.close()

    play(scenario)


def test_more_clients_than_there_may_be_are_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrape, "MAX_CLIENTS", 1)

    async def scenario() -> None:
        async with serving() as port:
            _, idle = await asyncio.open_connection("127.0.0.1", port)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert (await reader.readline()) == b"HTTP/1.1 503 Service Unavailable\r\n"
            idle.close()
            writer.close()

    play(scenario)


def test_one_scrape_is_worked_on_at_a_time() -> None:
    async def scenario() -> None:
        mesh = Mesh()
        async with serving(mesh) as port:
            answers = await asyncio.gather(*(ask(port, GET) for _ in range(5)))
        assert {status for status, _, _ in answers} == {"HTTP/1.1 200 OK"}
        assert (len(mesh.asked), mesh.most_at_once) == (5, 1)

    play(scenario)


def test_closing_hangs_up_on_everybody() -> None:
    async def scenario() -> None:
        async with serving() as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await ask(port, GET)  # so the one before it has been accepted, too
        assert await reader.read() == b""
        writer.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)

    play(scenario)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("192.0.2.1:9464", "Cannot assign requested address"),
        ("no-such-host.invalid:9464", "Name or service not known|Temporary failure in name resolution"),
        ("a..b:9464", "'a..b' is no name of a host|Name or service not known"),
    ],
)
def test_an_address_that_cannot_be_served_is_an_error(address: str, reason: str) -> None:
    async def scenario() -> None:
        with pytest.raises(SupervisorError, match=f"cannot serve metrics at {address}: ({reason})$"):
            await MetricsServer(address, Mesh().measure).start()

    play(scenario)


# Moving to another address.


@pytest.fixture
def ports() -> list[int]:
    """Two ports that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return [sock.getsockname()[1] for sock in (one, other)]


async def is_served(port: int) -> bool:
    try:
        return (await ask(port, GET))[0] == "HTTP/1.1 200 OK"
    except ConnectionRefusedError:
        return False


@asynccontextmanager
async def open_outlet(address: str | None) -> AsyncIterator[Outlet]:
    outlet = Outlet(Mesh().measure)
    await outlet.open(address)
    try:
        yield outlet
    finally:
        await outlet.close()


def where(ports: list[int]) -> Awaitable[list[bool]]:
    return asyncio.gather(*map(is_served, ports))


def test_a_reload_moves_the_metrics(ports: list[int]) -> None:
    first, second = (f"127.0.0.1:{port}" for port in ports)

    async def scenario() -> None:
        async with open_outlet(first) as outlet:
            for address, served in [(second, [False, True]), (second, [False, True]), (None, [False, False])]:
                async with outlet.moving(address, lambda address=address: address):  # type: ignore[misc]
                    pass
                assert await where(ports) == served

    play(scenario)


def test_a_reload_that_fails_leaves_them_where_they_are(ports: list[int]) -> None:
    first, second = (f"127.0.0.1:{port}" for port in ports)

    async def scenario() -> None:
        async with open_outlet(first) as outlet:
            with pytest.raises(ZeroDivisionError):
                async with outlet.moving(second, lambda: first):
                    raise ZeroDivisionError
            assert await where(ports) == [True, False]

    play(scenario)


def test_an_address_that_somebody_has_is_refused_before_anything_is_changed(ports: list[int]) -> None:
    first, second = (f"127.0.0.1:{port}" for port in ports)

    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", ports[1])):
            async with open_outlet(first) as outlet:
                with pytest.raises(SupervisorError, match=f"cannot serve metrics at {second}: Address already in use$"):
                    async with outlet.moving(second, lambda: second):
                        raise AssertionError
                assert await is_served(ports[0])

    play(scenario)
