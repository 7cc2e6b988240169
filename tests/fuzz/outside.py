"""Targets: what processes say that are none of ours: commands, scrapers, and whatever has a mark in its environment."""

from __future__ import annotations

import asyncio
import os
from functools import cache
from pathlib import Path

from tests.fuzz.mutation import linewise
from tests.fuzz.target import Draw, Target, event_loop, pieces, rule, scratch

from meshvisor.supervisor import directory
from meshvisor.supervisor.figures import BlacklistFigures, MeshFigures
from meshvisor.supervisor.guardian import Guardian
from meshvisor.supervisor.leftovers import Mark
from meshvisor.supervisor.notifications import NotifySocket
from meshvisor.supervisor.scrape import MAX_REQUEST, MetricsServer

# NOTIFY_SOCKET.


@cache
def _notify() -> NotifySocket:
    """Return a socket with an address that nobody knows; its messages are handed to it here."""
    sock = NotifySocket(Path("/" + "x" * 200))
    sock._socket.close()
    return sock


def run_notify(data: bytes) -> None:
    """Take in a datagram of sd_notify(3)."""
    sock = _notify()
    heard: list[str] = []
    sock.status = ""
    sock.on_ready = lambda: heard.append("ready")
    sock.on_stopping = lambda: heard.append("stopping")
    sock._take(data)
    lines = data.split(b"\n")
    rule(("ready" in heard) == (b"READY=1" in lines), "ready, and it did not say so; or it did")
    rule(("stopping" in heard) == (b"STOPPING=1" in lines), "stopping, and it did not say so; or it did")
    rule(len(heard) == len(set(heard)), "told twice")
    rule(len(sock.status) <= 300 and "\n" not in sock.status, "a status that is too long")


def _notify_seeds() -> list[bytes]:
    texts = (
        b"READY=1\nSTATUS=fine",
        b"STOPPING=1",
        b"READY=1\n",
        b"STATUS=" + b"x" * 400,
        b"X=1\x0bREADY=1",
        b"FDSTORE=1\n\0",
    )
    return [*texts, b"\n".join(texts), "STATUS=é\u2028READY=1\nMAINPID=7\x85STOPPING=1".encode()]


_NOTIFY_WORDS = [
    b"READY=1",
    b"STOPPING=1",
    b"STATUS=",
    b"\r",
    b"\x0b",
    b"\x0c",
    b"\x1c",
    b"\xc2\x85",
    b"\xe2\x80\xa8",
    b"\0",
]

# The metrics.

_FIGURES = MeshFigures("m", "1", 1.0, 0.5, 1, 0.0, 0, {}, (), (), BlacklistFigures({}, 1, 0, 0))
_STATUSES = {b"200", b"400", b"404", b"405", b"431"}


async def _measure(each: bool) -> MeshFigures:
    return _FIGURES


async def _scrape(parts: list[bytes]) -> bytes:
    server = MetricsServer("127.0.0.1:1", _measure)
    reader = asyncio.StreamReader(limit=MAX_REQUEST)
    answering = asyncio.ensure_future(server._answer(reader))
    for part in parts:
        reader.feed_data(part)
        await asyncio.sleep(0)
        if answering.done():
            break
    if not answering.done():
        reader.feed_eof()
    return b"".join(await answering)


def run_scrape(data: bytes) -> None:
    """Answer what comes where metrics are served: with metrics to who asks for them, else in one line why not."""
    cuts, request = Draw(data[:6]), data[6:]
    whole = event_loop().run_until_complete(_scrape([request]))
    other = event_loop().run_until_complete(_scrape(list(pieces(request, cuts))))
    rule(whole == other or b"\r\n\r\n" in request or len(request) > MAX_REQUEST // 2, "in pieces, another answer")
    for answer in (whole, other):
        head, _, body = answer.partition(b"\r\n\r\n")
        first, *headers = head.split(b"\r\n")
        rule(first.startswith(b"HTTP/1.1 ") and first.split(b" ")[1] in _STATUSES, "no answer of HTTP")
        rule(all(header.count(b": ") >= 1 and b"\n" not in header for header in headers), "a header that is none")
        length = int(dict(header.split(b": ", 1) for header in headers)[b"Content-Length"])
        rule(len(body) == length or (not body and request.startswith(b"HEAD ")), "an answer of another length")
        rule(b"200" not in first or request[:5] in (b"GET /", b"HEAD "), "metrics for who did not ask")


def _scrape_seeds() -> list[bytes]:
    lines = (
        b"GET /metrics HTTP/1.1",
        b"HEAD /metrics?links=each HTTP/1.0",
        b"POST /metrics HTTP/1.1",
        b"GET / HTTP/1.1",
        b"GET /metrics?links=each&links=all HTTP/1.1",
        b"GET /metrics?%00=%ff&" + b"a=1&" * 20 + b" HTTP/1.1",
        b"PRI * HTTP/2.0",
        b"GET http://x/metrics HTTP/1.1",
        b"GET /" + b"x" * 9000 + b" HTTP/1.1",
    )
    return [b"\1\2\3\1\7\0" + line + b"\r\nHost: x\r\n\r\n" for line in lines]


_SCRAPE_WORDS = [
    b"\r\n\r\n",
    b"\r\n",
    b"\n",
    b"?links=each",
    b"&",
    b"%",
    b"HEAD ",
    b" HTTP/1.1",
    b"/metrics",
    b"x" * 8200,
]

# Texts by which processes are known.


def run_mark(data: bytes) -> None:
    """Read the mark in the environment of a process, and who holds the lock of a mesh: what they are, or nothing."""
    text = data.decode(errors="replace")
    mark = Mark.parse(text)
    if mark is not None:
        again = Mark.parse(str(mark))
        rule(again == mark and mark.pid >= 0 and mark.started >= 0, "a mark of somebody else")
    lock = scratch() / "lock"
    lock.write_bytes(data)
    descriptor = os.open(lock, os.O_RDONLY)
    try:
        pid, file = directory._read_holder(descriptor)
    finally:
        os.close(descriptor)
    rule(pid is None or pid >= 0, "a holder that cannot be")
    rule("\n" not in file, "a file of several lines")


def _mark_seeds() -> list[bytes]:
    boot = b"0f1e2d3c-aaaa-bbbb-cccc-000000000000"
    return [
        b"m:77:123456:" + boot + b":a1b2c3",
        b"m:0:0::",
        b"m:-1:5:b:p",
        "m:\u00b2:\u0663:b:p".encode(),
        b"m:" + b"9" * 5000 + b":1:b:p",
        b"1234\n/etc/mesh.toml\n",
        "\u00b2\n/x\n".encode(),
        b"9" * 5000 + b"\n/x\n",
        b"12\n/\xff\n",
        b"::::",
        b"",
    ]


_MARK_WORDS = [b":", b"\n", b"\xc2\xb2", b"\xd9\xa3", b"9" * 4400, b"-1", b"+1", b" 1", b"1_0", b"\0", b"\xff"]


def run_orders(data: bytes) -> None:
    """Give a guardian orders, one packet each: it ends only when it is told to, or when nobody can tell it any more."""
    guardian = Guardian(b"mark")
    reader, writer = os.pipe2(os.O_DIRECT)
    packets = [packet[:64] for packet in data.split(b"|") if packet][:12]  # as many as a pipe has room for
    try:
        for packet in packets:
            os.write(writer, packet)
        os.close(writer)
        rule(guardian.obey(reader) == (b"." in packets), "it ends without being told to, or against it")
    finally:
        os.close(reader)
    rule(all(pid >= 0 and start >= 0 for pid, start in guardian._leaders.items()), "a leader that cannot be")


def _order_seeds() -> list[bytes]:
    return [
        b"+77 123456|+78 5|-77|.",
        b"+77 123456|-78",
        b"+|-|+x y|+1|- 1 2|.",
        b"+-1 -1|-0",
        b"+" + b"9" * 60 + b" 1",
    ]


TARGETS = (
    Target("notify", "datagrams of commands at NOTIFY_SOCKET", run_notify, _notify_seeds, linewise(_NOTIFY_WORDS)),
    Target("scrape", "requests for metrics", run_scrape, _scrape_seeds, linewise(_SCRAPE_WORDS), 20_000),
    Target("mark", "marks in environments, holders of locks", run_mark, _mark_seeds, linewise(_MARK_WORDS), 20_000),
    Target(
        "orders", "what a guardian is told", run_orders, _order_seeds, linewise([b"|", b"+", b"-", b" ", b"\xb2", b"1"])
    ),
)
