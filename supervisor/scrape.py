"""Serves the metrics of a mesh over HTTP: as much of it as a scraper needs, within the supervisor's loop.

A client is given an absolute time from its connection to the last byte of its answer, and there are only so many at
once; a request is bounded, and one per connection. What takes long is done in pieces, one scrape after the other.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
from contextlib import suppress
from http import HTTPStatus
from urllib.parse import parse_qs

from ..shared.errors import SupervisorError
from .exposition import CONTENT_TYPE, exposition
from .outlet import Measure

DEADLINE = 10.0
"""Seconds for one client; Prometheus gives up after as many."""

MAX_REQUEST = 8192
"""The longest head of a request, in bytes."""

MAX_CLIENTS = 16
"""More than these at once are turned away."""

_PARTING = 1.0  # seconds for a client that has its answer to hang up
_TEXT = "text/plain; charset=utf-8"

_REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) (/[!-~]*) HTTP/1\.[01]")


class MetricsServer:
    """Answers at ``address`` (``HOST:PORT``) from ``start`` to ``close``, with what ``measure`` finds then."""

    def __init__(self, address: str, measure: Measure) -> None:
        self.address = address
        self._measure = measure
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()

    async def start(self) -> None:
        """Begin to listen.

        Raises:
            SupervisorError: If that is not possible there.
        """
        sock = _listen(self.address)
        self._server = await asyncio.start_server(self._accept, sock=sock, limit=MAX_REQUEST)

    async def close(self) -> None:
        """Listen no more, and hang up on everybody."""
        if self._server is None:
            return
        self._server.close()
        for task in self._clients:
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._clients) >= MAX_CLIENTS:
            writer.writelines(_response(HTTPStatus.SERVICE_UNAVAILABLE, f"there are {MAX_CLIENTS} clients already"))
            writer.close()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._clients.add(task)

        def hang_up(task: asyncio.Task[None]) -> None:
            self._clients.discard(task)
            writer.transport.abort()

        task.add_done_callback(hang_up)  # and not at its end: it may be cancelled before it has begun

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(DEADLINE):
                for part in await self._answer(reader):
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0)
                writer.write_eof()
                async with asyncio.timeout(_PARTING):
                    await reader.read(1)  # until it has hung up: closing first may cut off what is on its way
        except (TimeoutError, OSError):
            pass  # it is too slow, or gone

    async def _answer(self, reader: asyncio.StreamReader) -> list[bytes]:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return _response(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"at most {MAX_REQUEST} bytes")
        except asyncio.IncompleteReadError:
            return _response(HTTPStatus.BAD_REQUEST, "not a request")
        if (found := _REQUEST_LINE.fullmatch(head.split(b"\r\n", 1)[0])) is None:
            return _response(HTTPStatus.BAD_REQUEST, "not a request of HTTP/1.1")
        method, target = (part.decode() for part in found.groups())
        return await self._page(method, target)

    async def _page(self, method: str, target: str) -> list[bytes]:
        path, _, query = target.partition("?")
        if path != "/metrics":
            return _response(HTTPStatus.NOT_FOUND, "there is /metrics, and nothing else", method)
        if method not in ("GET", "HEAD"):
            return _response(HTTPStatus.METHOD_NOT_ALLOWED, "GET or HEAD", method, allow="GET, HEAD")
        try:
            each = _asks_for_each(query)
        except ValueError as error:
            return _response(HTTPStatus.BAD_REQUEST, str(error), method)
        async with self._turn:
            text = await exposition(await self._measure(each))
        return _response(HTTPStatus.OK, text, method, content_type=CONTENT_TYPE)


def _asks_for_each(query: str) -> bool:
    """Return whether a query asks for each link.

    Raises:
        ValueError: If it asks for something else, saying what there is.
    """
    asked = parse_qs(query, keep_blank_values=True, max_num_fields=16)
    if asked.get("links", ["all"]) not in (["all"], ["each"]):
        raise ValueError("links=all (together, which is the default) or links=each")
    return asked.get("links") == ["each"]


def _response(
    status: HTTPStatus, body: list[bytes] | str, method: str = "GET", *, content_type: str = _TEXT, allow: str = ""
) -> list[bytes]:
    """Return the answer in parts. Put together, a large one would be copied more often than sent."""
    parts = body if isinstance(body, list) else [f"{body}\n".encode()]
    headers = [
        f"HTTP/1.1 {status} {status.phrase}",
        f"Content-Type: {content_type}",
        f"Content-Length: {sum(map(len, parts))}",
        *([f"Allow: {allow}"] if allow else []),
        "Connection: close",
    ]
    head = "".join(f"{header}\r\n" for header in (*headers, "")).encode()
    return [head] if method == "HEAD" else [head, *parts]


def _reason(error: OSError) -> str:
    """Return why it did not work; asyncio and socket add to it what the address is."""
    is_of_system = error.errno is not None and not isinstance(error, socket.gaierror)
    return os.strerror(error.errno) if is_of_system and error.errno else str(error.strerror)


def _listen(address: str) -> socket.socket:
    """Return a socket that listens at ``address``; a name is looked up here and now, before anything runs."""
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    with suppress(UnicodeError):
        try:
            family, _, _, _, place = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
            sock = socket.create_server(place[:2], family=family, backlog=MAX_CLIENTS)
        except OSError as error:
            raise SupervisorError(f"cannot serve metrics at {address}: {_reason(error)}") from None
        sock.setblocking(False)
        return sock
    raise SupervisorError(f"cannot serve metrics at {address}: {host!r} is no name of a host")
