"""What fuzzing has found, each once more: it must never come back."""

import pytest
from tests.fuzz.catalogue import TARGETS

_DEEP = b"[" * 4000
_NESTED = b"[mesh]\nname = 'm'\n[workers.a]\nclass = 'a:B'\nsettings = { a = %s }\n"
FOUND = {
    "a dotted key of a thousand parts ended in a traceback": (
        "mesh-toml",
        b"[mesh]\nname='m'\n[workers.a]\nclass='a:B'\n[workers.a.settings]\n" + b".".join([b"a"] * 1200) + b" = 1\n",
    ),
    "one of many thousand took minutes and gigabytes": (
        "mesh-toml",
        b"[mesh]\n" + b".".join([b"a"] * 200_000) + b"=1\n",
    ),
    "so did one in an inline table": ("mesh-toml", b"x = [{" + b" . ".join([b'"a b"'] * 60_000) + b" = 1}]\n"),
    "inline tables with dotted keys went deeper than either": (
        "mesh-toml",
        _NESTED % ((b"{" + b".".join([b"a"] * 60) + b"=") * 100 + b"1" + b"}" * 100),
    ),
    "the zone of an IPv6 address held a null character": ("endpoint", b"tcp:[fe80::1%e\0h0]:1"),
    "an incident nested without end hid all others": ("incidents", b'{"x":' + _DEEP + b"\n"),
    "an incident of no time of the calendar could not be told": (
        "incidents",
        b'{"at":1e300,"slot":"a","incarnation":1,"cause":"exited"}\n',
    ),
    "the name of a slot in an incident moved the cursor": (
        "incidents",
        b'{"at":1.0,"slot":"a\\u001b[2J","incarnation":1,"cause":"exited","signal":"\\u009b2J"}\n',
    ),
    "a line of a log of no time of the calendar could not be shown": (
        "log",
        b'{"at":1e17,"stream":"stdout","text":"x"}\n',
    ),
    "a tab in a narrow terminal was wrapped for ever": ("terminal", b"\x03a\tb\t\tc"),
    "a very long word was wrapped in the square of its length": ("terminal", b"\x02" + "é".encode() * 40_000),
    "the name of a file that is no UTF-8 could not be told as JSON": ("event", b"\3\4/\xff\xfea\1\0"),
    "a digit that is no number, in anybody's environment, kept a supervisor from starting": (
        "mark",
        "m:\u00b2:\u0663:boot:place".encode(),
    ),
    "so did a number of too many digits": ("mark", b"m:" + b"9" * 5000 + b":1:boot:place"),
    "the holder of a lock was such a number": ("mark", "\u00b2\n/etc/mesh.toml\n".encode()),
    "an order without its numbers ended the guardian": ("orders", b"+|-|+x y|+1|- 1 2"),
    "an order that is none ended it in peace": ("orders", b"+77 5|?|+78 6"),
    "a command was ready for what it said behind another kind of line's end": (
        "notify",
        "X=1\x0bREADY=1\u2028".encode(),
    ),
    "a first word with the wrong number of descriptors left them open": ("first-word", b"\x09\xc7" + b"\0\0\0\1\x90"),
    "an argument that came apart, and small, was no bytearray": (
        "lane",
        b"\1\x95\x01\x07\xa7buffers\xc0\x93\xc4\0\xd4\x01\x00\xc4\0",
    ),
    "an event of other facts than this release knows ended in a traceback": (
        "published",
        b'event|{"number":1,"at":1.0,"event":"limit-exceeded","slot":"","incarnation":0,'
        b'"details":{"max_restarts":1,"window":"x"}}',
    ),
    "a number that is none came instead of the latest": ("published", b"event latest|" + b"9" * 5000),
    "a status of other fields than this release knows ended in a traceback": (
        "replies",
        b'{"version":1,"id":1,"body":{"type":"status","status":{"mesh":1}}}',
    ),
}


@pytest.mark.parametrize("what", FOUND)
def test_it_does_not_come_back(what: str) -> None:
    name, data = FOUND[what]
    TARGETS[name].run(data)
