"""Looking at a service from outside: does it accept connections, does it answer?

A probe returns what is wrong, as half a sentence, or nothing. It waits as long as it takes: the caller cancels it at
its deadline, and nothing of it is left then. A probe that cannot be made, since we lack the means, says nothing about
the service: it raises ``NotAsked``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from .spawn import is_shortage

_LONGEST_STATUS_LINE = 1024


class NotAsked(Exception):
    """We have no descriptor, memory or process left to look with; the text says which."""


async def probe_tcp(address: str) -> str:
    """Connect to ``HOST:PORT``."""
    host, _, port = address.rpartition(":")
    try:
        async with _connection(host.strip("[]"), int(port)):
            return ""
    except (OSError, ValueError) as error:  # ValueError: no such name can be
        _raise_if_ours(error)
        return f"{address} does not accept connections: {_reason(error)}"


async def probe_http(url: str) -> str:
    """Ask for ``http://HOST[:PORT]/PATH``; an answer of 2xx is well, and no redirection is followed."""
    parts = urlsplit(url)
    path = parts.path or "/"
    target = f"{path}?{parts.query}" if parts.query else path
    request = f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nUser-Agent: meshvisor\r\nConnection: close\r\n\r\n"
    try:
        async with _connection(parts.hostname or "", parts.port or 80) as (reader, writer):
            writer.write(request.encode("ascii"))
            line = await reader.readline()
    except (OSError, ValueError) as error:  # ValueError: a line beyond the limit
        _raise_if_ours(error)
        return f"{url} does not answer: {_reason(error)}"
    words = line.decode("latin-1").split(None, 2)
    if len(words) < 2 or not words[0].startswith("HTTP/") or not words[1].isdigit():
        return f"{url} answers with something that is not HTTP" if line else f"{url} hangs up without an answer"
    return "" if len(words[1]) == 3 and words[1][0] == "2" else f"{url} answers with {' '.join(words[1:]).strip()}"


@asynccontextmanager
async def _connection(host: str, port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(host, port, limit=_LONGEST_STATUS_LINE)
    try:
        # A connection to a free port of our own machine may meet itself: TCP's simultaneous open.
        if writer.get_extra_info("sockname") == writer.get_extra_info("peername"):
            raise ConnectionRefusedError(0, "nobody listens")
        yield reader, writer
    finally:
        writer.transport.abort()


def _raise_if_ours(error: Exception) -> None:
    if is_shortage(error):
        raise NotAsked(_reason(error)) from error


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
