"""Targets: mesh.toml, and the texts of endpoints."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from tests.fuzz.mutation import linewise
from tests.fuzz.target import Target, rule, scratch

from meshvisor.shared.config.loader import load_config, locate_logs
from meshvisor.shared.config.locating import locate
from meshvisor.shared.config.names import NAME
from meshvisor.shared.config.schema import BACKOFF, HEALTH, LOG, MESH, READY, SUPERVISOR, WORKER
from meshvisor.shared.core.endpoint import Endpoint
from meshvisor.shared.errors import ConfigError

_EXAMPLES = Path(__file__).parents[2] / "examples"


def run_mesh_toml(data: bytes) -> None:
    """Load a file: it is a configuration, or everything that is wrong with it, each with its line."""
    file = scratch() / f"{os.getpid()}.toml"
    file.write_bytes(data)
    lines = data.count(b"\n") + 1
    try:
        config = load_config(file)
    except ConfigError as error:
        config = None
        rule(error.faults, "nothing is wrong, and yet it is refused")
        for fault in error.faults:
            rule(0 <= fault.line <= lines, f"a fault on line {fault.line} of {lines}")
            rule(fault.message and isinstance(fault.path, str), "a fault that says nothing")
            rule(len(str(fault)) < 8000, "a fault that says too much")
        rule(list(error.faults) == sorted(error.faults, key=lambda fault: fault.line), "faults out of order")
        rule(str(error).count("\n") == len(error.faults) - 1, "a fault of several lines")
        str(error).encode()
    for look in (locate, locate_logs):
        with suppress(ConfigError):
            look(file)
    if config is not None:
        rule(repr(load_config(file)) == repr(config), "another configuration, the second time")
        rule(NAME.fullmatch(config.mesh.name) and locate(file)[0] == config.mesh.name, "a mesh of another name")
        rule(config.workers and all(NAME.fullmatch(worker.name) for worker in config.workers), "a worker without name")


_WORKER_LINES = """class = "a:B"
command = ["sleep", "60"]
replicas = 3
restart = "on-failure"
success = [0, 3]
significant = true
backoff = { initial = "10ms", max = "30s", factor = 2.0, jitter = 1.0, reset_after = "10s" }
start_timeout = "1h"
stop_signal = "SIGINT"
stop_timeout = 0
depends_on = ["other"]
hang_timeout = "off"
busy_timeout = 30.5
start_method = "spawn"
env = { KEY = "value" }
cwd = "."
settings = { deep = { deeper = [1, 2.5, "x", [[]]] } }
memory_soft = "1MiB"
max_memory = "1.5GB"
nice = 5
umask = "027"
limits = { nofile = 4096, core = "unlimited" }
user = "root"
ready = { tcp = "127.0.0.1:6379" }
health = { http = "http://127.0.0.1:80/x", period = "5s", failures = 3 }
log = { format = "json", max_size = "10MiB", keep = 5 }
"""
_HEAD = '[mesh]\nname = "m"\nbeat = "25ms"\ntransport = "tcp"\nhost = "::1"\nheartbeat_interval = 0.25\n'
_MIDDLE = """[supervisor]
strategy = "rest_for_one"
max_restarts = 5
max_restarts_window = "10s"
on_limit = "park"
spares = 0
preload = ["os.path"]
runtime_dir = "run"
log_dir = "~/logs"
metrics = "[::1]:9464"
"""
_VALUES = (
    "true",
    "0",
    "-1",
    "1e400",
    "nan",
    "inf",
    "9" * 400,
    "0x" + "f" * 300,
    '""',
    '"\\u0000"',
    '"1s"',
    '"9" ',
    "[]",
    "{}",
    "[[]]",
    "1979-05-27",
    "07:32:00",
    "1979-05-27T07:32:00Z",
    "'''",
    '"""',
    "[[workers.a]]",
    "[workers.b.c]",
    "a.b.c = 1",
    '"\\ud7ff"',
    '"é"',
    "[[[[[[[[",
    "{a={a={a=1}}}",
    "\r\n",
    "#",
    "= ",
    ".",
    ",",
    '"quoted key" = 1',
    "\x00",
    "\xff",
)
_KEYS = [key.name for keys in (MESH, SUPERVISOR, WORKER, BACKOFF, READY, HEALTH, LOG) for key in keys]
_WORDS = [
    word.encode() for word in (*_VALUES, *_KEYS, *(f"{key} = {value}" for key in _KEYS for value in _VALUES[:16]))
]


def _toml_seeds() -> list[bytes]:
    other = '[workers.other]\ncommand = ["true"]\n'
    kinds = [
        "".join(line + "\n" for line in _WORKER_LINES.splitlines() if line.split()[0] not in without)
        for without in (
            {"command", "user", "ready", "health", "significant"},
            {"class", "settings", "hang_timeout", "busy_timeout", "start_method"},
        )
    ]
    files = sorted(_EXAMPLES.rglob("*.toml"))
    return [
        *(f"{_HEAD}{_MIDDLE}[workers.a]\n{kind}{other}".encode() for kind in kinds),
        f"{_HEAD}[workers.a]\n{_WORKER_LINES}".encode(),
        b"[mesh]\nname = 'm'\n"
        + b"".join(b"[workers.w%d]\nclass = 'a:B'\ndepends_on = ['w%d']\n" % (n, (n + 1) % 9) for n in range(9)),
        b"[mesh]\nname='m'\n[workers.a]\nclass='a:B'\n[workers.a.settings]\n" + b".".join([b"a"] * 300) + b" = 1\n",
        b"\xef\xbb\xbf[mesh]\r\nname='m'\r\n[workers]\r\na = { command = [\"x\"], replicas = 0 }\r\n",
        *(file.read_bytes() for file in files),
    ]


# Endpoints.


def run_endpoint(data: bytes) -> None:
    """Read a text as an endpoint: it is none, or has a key that is its own and only form."""
    text = data.decode(errors="surrogateescape")
    try:
        endpoint = Endpoint.parse(text)
    except ValueError as error:
        rule("is not an endpoint" in str(error), f"another error: {error}")
        return
    again = Endpoint.parse(endpoint.key)
    rule(again == endpoint and again.key == endpoint.key, f"{endpoint.key!r} is not its own key")
    rule(0 <= endpoint.port <= 65535 and "\0" not in endpoint.key, "an endpoint that cannot be")
    rule(endpoint.transport != "unix" or os.path.normpath(endpoint.path) == endpoint.path, "a path that goes round")
    rule((endpoint.transport == "tcp") == bool(endpoint.host), "a host, or none, where it should be otherwise")


def _endpoint_seeds() -> list[bytes]:
    texts = (
        "tcp:127.0.0.1:4500",
        "tcp:[::1]:0",
        "tcp:[::ffff:127.0.0.1]:80",
        "tcp:Example.ORG.:65535",
        "unix:/run//a/./b.sock",
        "memory:name",
        "own+x-1:any/where?q",
        "tcp:0x7f.1:1",
        "TCP:[fe80::1%eth0]:1",
        "unix:/a/../b",
        "a:4500",
        "tcp:1.2.3:4",
    )
    return [text.encode() for text in texts]


_ENDPOINT_WORDS = [
    b":",
    b"[",
    b"]",
    b"::",
    b"%",
    b"/",
    b"..",
    b".",
    b"0",
    b"99999",
    b"\xc2\xb2",
    b"\xd9\xa3",
    b"\0",
    b" ",
    b"tcp:",
]

TARGETS = (
    Target("mesh-toml", "mesh.toml", run_mesh_toml, _toml_seeds, linewise(_WORDS), 16_384),
    Target("endpoint", "texts of endpoints", run_endpoint, _endpoint_seeds, linewise(_ENDPOINT_WORDS), 512),
)
