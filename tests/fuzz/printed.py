"""Targets: what processes print, and what is read of it again: logs, incidents, tracebacks, keys at a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import msgspec
from tests.fuzz.mutation import Dice, jsonwise, linewise
from tests.fuzz.target import CONTROLS, Draw, Target, byte_by_byte, is_harmless, pieces, rule, scratch

from meshvisor.supervisor import cells, traces
from meshvisor.supervisor.event import Event
from meshvisor.supervisor.feed import _encoded
from meshvisor.supervisor.frames import error_of, without_machinery
from meshvisor.supervisor.incidents import FILE, read_incidents
from meshvisor.supervisor.jsonlines import as_json
from meshvisor.supervisor.lines import Page, json_lines
from meshvisor.supervisor.logs import CUT, MAX_LINE, PROGRESS, LineCutter, Lines
from meshvisor.supervisor.story import Paper, tell
from meshvisor.supervisor.style import Look
from meshvisor.supervisor.top.keys import Key, keys_of
from meshvisor.supervisor.top.past import Past
from meshvisor.supervisor.trail import SlotTrail, parse

# Lines.


def run_lines(data: bytes) -> None:
    """Cut what a process prints into lines: the same, however it arrives, but for progress and what is too long."""
    cuts, stream = Draw(data[:8]), _stretched(data[8:])
    whole = _lines([stream])
    other = _lines(pieces(stream, cuts))
    single = _lines(byte_by_byte(stream)) if len(stream) < 2048 else other
    if b"\r" not in stream or len(stream) < MAX_LINE:
        rule(_kept(whole) == _kept(other) == _kept(single), "in pieces, other lines were printed")
    for lines in (whole, other, single):
        for kind, text in lines:
            rule(kind in ("stdout", PROGRESS) and "\n" not in text, "a line that is none")
            rule(len(text) <= MAX_LINE + len(CUT), "a line that is too long")
    if b"\r" not in stream and len(stream) < MAX_LINE:
        expected = stream.removesuffix(b"\n").split(b"\n") if stream else []
        rule(_kept(whole) == [line.decode(errors="replace") for line in expected], "other lines than were printed")


def _stretched(data: bytes) -> bytes:
    """Return ``data`` with one byte of it said very often, if it asks for that: long lines come of short inputs."""
    if data[:1] != b"\xfe" or len(data) <= 4:
        return data
    at = 4 + data[1] % (len(data) - 4)
    often = int.from_bytes(data[2:4], "little") * 2 if data[at] not in b"\r\n" else 100
    return data[4:at] + data[at : at + 1] * often + data[at:]


def _kept(lines: Lines) -> list[str]:
    return [text for kind, text in lines if kind != PROGRESS]


def _lines(parts: Iterable[bytes]) -> Lines:
    cutter, found = LineCutter("stdout"), []
    for part in parts:
        found += cutter.feed(part)
        rule(len(cutter._rest) <= MAX_LINE, "more is kept than a line")
    return [*found, *cutter.finish()]


def _line_seeds() -> list[bytes]:
    texts = (
        b"one\ntwo\r\nthree",
        b"10 %\r20 %\r100 %\ndone\n",
        "é\u2028\n".encode() * 3,
        b"\xff\xfe\n\r\r\n\r",
        b"\x1b[31mred\x1b[0m\n",
        b"\xfe\1\x01\x80abc\n",
        b"\xfe\0\x01\x80\xc3\xa9\n",
        b"\xfe\1\x55\x55x\r\ny\r",
    )
    return [head + text for text in texts for head in (bytes(8), b"\1\2\3\1\1\1\4\0", b"\xff\1\xff\2\xff\0\1\1")]


# Logs, as ``supervise logs`` reads them.

_LOOKS = (Look(), Look(colour=True, columns=lambda: 80))


def run_log(data: bytes) -> None:
    """Read a log that anybody may have written into, and show it."""
    folder = scratch()
    (folder / "a.log").write_bytes(data)
    trail, last = SlotTrail(folder, "a"), SlotTrail(folder, "a")
    entries = list(trail.entries())
    tail = last.tail(5)
    trail.close()
    last.close()
    *complete, rest = data.split(b"\n")
    rule(len(entries) == len(list(filter(None, complete))), "other lines than the file has")
    latest = [line for line in ([*complete, rest] if rest else complete)[-5:] if line]
    rule([entry.text for entry in tail] == [parse("a", line).text for line in latest], "another end")
    rule(json_lines(entries).count("\n") == len(entries), "an object of several lines")
    for look in _LOOKS:
        for times in (False, True):
            page = Page(["a", "b"], ["a"], look, times=times).text(entries)
            rule(page.count("\n") == len(entries), "a line that is shown as several")
            rule(is_harmless(page), "a line that does something to the terminal")


def _log_seeds() -> list[bytes]:
    texts = [
        b"2024-05-01T10:00:00.123Z stdout hello\n2024-05-01T10:00:00.124Z stderr \x1b[31mred\x1b[2J\n",
        b'{"at":1714557600.5,"slot":"a","incarnation":3,"stream":"stderr","text":"x\\u001b[1m"}\n{"at":1}\n{\n',
        b"not ours at all\n\n\n2024-13-01 stdout x\n\xff\xfe\n",
        b'{"at":1e300,"stream":"missed","text":""}\n{"at":-1e300,"stream":"","text":"\\n\\r"}\n0001-01-01 stdout y\n',
    ]
    return [*texts, b"".join(texts)]


_LOG_WORDS = [
    b"2024-05-01T10:00:00Z stdout ",
    b"9999-12-31T23:59:59+23:59 stderr ",
    b"0001-01-01T00:00:00+23:59 stdout x",
    b'{"at":1e308,"stream":"stdout","text":"x"}',
    b'{"at":-62135596801,"stream":"stdout","text":"x"}',
    b'{"at":1e16,',
    b'{"x":' + b"[" * 3000,
    b"\x1b",
    b"\x1b[2J",
    b"\x1b]0;title\x07",
    b"\x1bP",
    b"\x9b",
    b"\xc2\x9b2J",
    b"\r",
    b"\t",
    b"\x08",
    b'"\\u001b]8;;\\u0007"',
    b"\xe2\x80\xa8",
    b"\xc2\x85",
    b"\x0b",
    b"\x0c",
    b"\x00",
    b"\\ud800",
]


# Incidents, as ``supervise why`` reads them.

_PAPERS = (Paper(), Paper(40, colour=True), Paper(1))


def run_incidents(data: bytes) -> None:
    """Read incidents that anybody may have written down, and tell each as a story."""
    (scratch() / FILE).write_bytes(data)
    found = read_incidents(scratch())
    past = Past(scratch())
    rule(past.more() == found or any(one != one for one in found), "read in another way, there are others")
    past.close()
    for number, incident in enumerate(found[:8]):
        for paper in _PAPERS:
            text = tell(incident, 2000.0, None, found[:number], paper)
            rule(text.endswith("\n") and is_harmless(text), "a story that does something to the terminal")
        msgspec.json.encode(incident)


def _incident_seeds() -> list[bytes]:
    text = (
        b'{"at":1500.5,"slot":"a","incarnation":2,"cause":"hung","code":null,"signal":"SIGKILL","uptime":3.5,"ready":true,'
        b'"text":"no turn","traceback":"Main thread, most recent call first:\\n  File \\"/x.py\\", line 3 in f\\n",'
        b'"tail":["one","two"],"rss":1000000,"history":[{"at":1400.0,"cause":"exited","uptime":1.0}],"next":"restart",'
        b'"delay":0.25,"next_try":1500.75,"machine":{"load":9.5,"cores":2,"free":1,"memory":100}}\n'
    )
    causes = [
        text.replace(b'"hung"', b'"%s"' % cause)
        for cause in (b"exited", b"signaled", b"oom", b"memory", b"start-timeout")
    ]
    nexts = [text.replace(b'"restart"', b'"%s"' % one) for one in (b"parked", b"failed", b"stopped", b"mesh-stop")]
    bare = b'{"at":1.0,"slot":"b","incarnation":1,"cause":"exited","code":3}\n'
    return [text, bare, b"".join(causes), b"".join(nexts), text + bare + b'{"torn":', b'{"x":' + b"[" * 4000]


def _incident_mutation(data: bytes, dice: Dice) -> bytes:
    lines = data.split(b"\n")
    at = dice.randrange(len(lines))
    lines[at] = jsonwise(lines[at], dice)
    return b"\n".join(lines)


# Texts for terminals.


def run_terminal(data: bytes) -> None:
    """Clean a text of what moves the cursor, cut and wrap it; tidy up a traceback; take keys in."""
    room, text = (data[0] if data else 0), data[1:].decode(errors="replace")
    bare, coloured = cells.clean(text), cells.clean(text, keep_colours=True)
    rule(is_harmless(coloured) and not CONTROLS.search(bare), "what moves the cursor is still there")
    rule("\n" not in bare and cells.clean(bare) == bare and cells.plain(coloured) == bare, "clean, and not clean")
    rule(cells.width(cells.cut(bare, room)) <= room, "it is cut, and does not fit")
    wrapped = cells.wrap(bare, room)
    rule("".join(wrapped).replace(" ", "") == re.sub("[ \t]", "", bare), "something is lost in wrapping")
    rule(all(cells.width(line) <= max(room, 8) for line in wrapped), "it is wrapped, and does not fit")
    dump = traces.clean(text)
    rule("\x1b" not in dump and (not dump or dump.endswith("\n")), "a dump that is none")
    rule(len(without_machinery(text)) <= text.count("\n") + 1, "more frames than lines")
    rule("\n" not in error_of(text), "an error of several lines")
    rule(all(isinstance(key, Key) or len(key) == 1 for key in keys_of(data)), "a key that is none")


def _terminal_seeds() -> list[bytes]:
    dump = (
        b'Thread 0x00007f01 [worker] (most recent call first):\n  File "/a/b.py", line 3 in f\n'
        b'Current thread 0x00007f02 (most recent call first):\n  File "/usr/lib/python3.11/asyncio/x.py", line 3 in g\n'
        * 3
    )
    texts = (
        b"\x1b[1;31mred\x1b[0m plain \x1b]0;title\x07 \x1bP...\x1b\\ \x9b2J",
        "wide 漢字 é\u0301 \t".encode() * 4,
        dump,
        b"\x1b[A\x1b[5~\x1bOPq\x1b",
        b"word " * 30,
        b"\x1b\x1b[0m\x1b]\n\x1b[31",
        b'Traceback (most recent call last):\n  File "/a.py", line 1, in <module>\nValueError: no\n | x\n',
    )
    return [bytes([room]) + text for text in texts for room in (0, 3, 40)]


# What happened, on its way to those who look.


def run_event(data: bytes) -> None:
    """Publish an event with whatever a program has printed, or a file is called."""
    draw = Draw(data)
    details: dict[str, object] = {}
    while not draw.is_empty:
        key = draw.one_of(("text", "tail", "traceback", "file", "cwd", "delay", "pid", "skipped", "at", "\udcff"))
        text = draw.chunk().decode(errors=draw.one_of(("replace", "surrogateescape")))
        values = (
            text,
            [text] * draw.below(9),
            {text: text},
            text * 300,
            None,
            -1,
            2**63,
            1e300,
            float("nan"),
            Path(text),
        )
        details[key] = draw.one_of(values)
    event = Event(1.5, draw.one_of(("slot-exited", "log-lost")), "a", 2, details)
    line = as_json(event)
    rule(line.count("\n") == 1 and line.endswith("\n"), "an object of several lines")
    line.encode()
    msgspec.json.decode(line)
    published = _encoded(7, event)
    rule(len(published) <= 65_536 + 8 * 1000 * 12, "an event that is too large")
    rule(msgspec.json.decode(published)["number"] == 7, "another event")


def _event_seeds() -> list[bytes]:
    return [
        b"\0\5hello\0\0",
        b"\1\3abc\0\1\4",
        b"\3\4/\xff\xfea\1\0",
        bytes(range(256)),
        b"\0\xff" + b"x" * 255 + b"\0\3",
        b"\2\1a\0\5\4\1b\0\6",
    ]


TARGETS = (
    Target(
        "lines",
        "what processes print, cut into lines",
        run_lines,
        _line_seeds,
        linewise([b"\r", b"\n", b"\r\n", b"\xfe"]),
    ),
    Target("log", "the logs of slots, read and shown", run_log, _log_seeds, linewise(_LOG_WORDS), 16_384),
    Target("incidents", "incidents, read and told", run_incidents, _incident_seeds, _incident_mutation, 16_384),
    Target(
        "terminal", "texts for a terminal, tracebacks, keys", run_terminal, _terminal_seeds, linewise(_LOG_WORDS[6:])
    ),
    Target("event", "events on their way to clients and as JSON", run_event, _event_seeds, None),
)
