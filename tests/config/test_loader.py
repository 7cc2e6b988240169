"""A whole mesh.toml: what it becomes, and the report about one that is wrong (DESIGN, section 4.3)."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshvisor.shared.config import (
    Backoff,
    Health,
    LogFormat,
    LogOptions,
    MeshConfig,
    MeshSection,
    OnLimit,
    Ready,
    RestartPolicy,
    StartMethod,
    StrategyName,
    SupervisorSection,
    TransportName,
    WorkerConfig,
    build_config,
    load_config,
    locate,
    locate_logs,
)
from meshvisor.shared.config.values import read_secret
from meshvisor.shared.errors import ConfigError, Fault

Load = Callable[[str], MeshConfig]
Faults = Callable[[str], list[str]]

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

FULL = """
[mesh]
name = "wordcount"
transport = "tcp"
host = "::1"
beat = "50ms"
heartbeat_interval = "1s"
heartbeat_timeout = "4s"
blacklist_duration = "5s"

[supervisor]
strategy = "rest_for_one"
max_restarts = 7
max_restarts_window = "1m"
on_limit = "park"
spares = 2
preload = ["json"]
runtime_dir = "run"
log_dir = "logs"

[workers.counter]
class = "wordcount:Counter"
replicas = 4
restart = "on-failure"
success = [0, 3]
backoff = { initial = "20ms", max = "1s", factor = 3, jitter = 0, reset_after = 5 }
start_timeout = "3s"
stop_signal = "SIGINT"
stop_timeout = 0
depends_on = ["database"]
hang_timeout = "200ms"
busy_timeout = "off"
start_method = "spawn"
memory_soft = "384MiB"
max_memory = "512MiB"
nice = 5
umask = "027"
limits = { nofile = 4096, core = "unlimited" }
env = { LANG = "C" }
cwd = "."
settings = { path = "/tmp", depth = 3 }

[workers.database]
command = ["redis-server", "--port", "6379"]
significant = true
user = "root"
ready = { file = "up" }
health = { http = "http://[::1]:80/x", period = "1s" }
log = { format = "json", max_size = "1MiB", keep = 0 }
"""


@as_root
def test_a_full_file_becomes_its_configuration(load: Load, tmp_path: Path) -> None:
    config = load(FULL)
    assert config == MeshConfig(
        file=tmp_path / "mesh.toml",
        mesh=MeshSection("wordcount", TransportName.TCP, "::1", 0.05, 1.0, 4.0, blacklist_duration=5.0),
        supervisor=SupervisorSection(
            strategy=StrategyName.REST_FOR_ONE,
            max_restarts=7,
            max_restarts_window=60.0,
            on_limit=OnLimit.PARK,
            spares=2,
            preload=("json",),
            runtime_dir=tmp_path / "run",
            log_dir=tmp_path / "logs",
        ),
        workers=(
            WorkerConfig(
                name="counter",
                cwd=tmp_path,
                class_path="wordcount:Counter",
                replicas=4,
                restart=RestartPolicy.ON_FAILURE,
                success=frozenset({0, 3}),
                backoff=Backoff(0.02, 1.0, 3.0, 0.0, 5.0),
                start_timeout=3.0,
                stop_signal="SIGINT",
                stop_timeout=0.0,
                depends_on=("database",),
                hang_timeout=0.2,
                busy_timeout=None,
                start_method=StartMethod.SPAWN,
                memory_soft=384 * 1024**2,
                max_memory=512 * 1024**2,
                nice=5,
                umask=0o027,
                limits={"nofile": 4096, "core": -1},
                env={"LANG": "C"},
                settings={"path": "/tmp", "depth": 3},
            ),
            WorkerConfig(
                name="database",
                cwd=tmp_path,
                command=("redis-server", "--port", "6379"),
                restart=RestartPolicy.ON_FAILURE,
                significant=True,
                user="root",
                ready=Ready(file=tmp_path / "up"),
                health=Health(http="http://[::1]:80/x", period=1.0),
                start_method=StartMethod.ZYGOTE,
                log=LogOptions(LogFormat.JSON, 1024**2, 0),
            ),
        ),
    )


def test_the_defaults_of_the_schema_are_those_of_the_model(load: Load, minimal: str, tmp_path: Path) -> None:
    config = load(minimal)
    assert config.mesh == MeshSection("demo")
    assert config.supervisor == SupervisorSection(spares=1)
    (worker,) = config.workers
    assert worker == WorkerConfig("a", tmp_path, command=("sleep", "60"), start_method=StartMethod.ZYGOTE)


def test_workers_keep_the_order_of_the_file(load: Load, minimal: str) -> None:
    text = minimal + '[workers.z]\ncommand = ["x"]\n[workers.b]\ncommand = ["x"]\n'
    assert [worker.name for worker in load(text).workers] == ["a", "z", "b"]


def test_no_replicas_are_fine(load: Load, minimal: str) -> None:
    assert load(minimal + "replicas = 0").workers[0].slots == ()


def test_significant_implies_on_failure_but_not_against_never(load: Load, minimal: str) -> None:
    """OTP (reliability.md 4.1): auto_shutdown is not for permanent children."""
    assert load(minimal + "significant = true").workers[0].restart is RestartPolicy.ON_FAILURE
    assert load(minimal + 'significant = true\nrestart = "never"').workers[0].restart is RestartPolicy.NEVER


def test_relative_paths_start_at_the_files_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minimal: str
) -> None:
    (tmp_path / "conf" / "app").mkdir(parents=True)
    (tmp_path / "conf" / "mesh.toml").write_text(minimal + 'cwd = "app"')
    monkeypatch.chdir(tmp_path)
    config = load_config("conf/mesh.toml")
    assert config.file == tmp_path / "conf" / "mesh.toml"
    assert config.workers[0].cwd == tmp_path / "conf" / "app"


# Faults.


def test_all_faults_are_in_one_report_in_the_order_of_the_file(faults: Faults) -> None:
    text = """[mesh]
transport = "tpc"
host = "0.0.0.0"

[supervisor]
max_restart = 3
max_restarts_window = "-1s"

[workers.Bad]
class = "a.b.C"

[workers.a]
command = "redis-server"
replicas = 3
depends_on = [
  "b",
  "cc",
]
backoff.initial = true

[workers.a-1]
command = ["x"]
stop_signal = "TERM"

[workers.b]
command = ["sh"]
depends_on = ["a"]
"""
    assert faults(text) == [
        "1: mesh.name: is missing",
        '2: mesh.transport: must be "unix" or "tcp", not "tpc" (did you mean "tcp"?)',
        '3: mesh.host: "0.0.0.0" is not a loopback address and requires secret_file',
        '6: supervisor.max_restart: unknown key (did you mean "max_restarts"?)',
        "7: supervisor.max_restarts_window: must be a duration such as "
        '"250ms", "2s", "5m", "1h" or a number of seconds, not "-1s"',
        "9: workers.Bad: the name of a worker must be a lower-case letter followed by at most 62 of a-z, 0-9, _ and -",
        '10: workers.Bad.class: must be of the form "module:Class", not "a.b.C" (did you mean "a.b:C"?)',
        '13: workers.a.command: must be an array of strings, here ["redis-server"], not "redis-server"',
        "14: workers.a.replicas: makes a slot a-1, and there is a worker of that name",
        "15: workers.a.depends_on: goes round in a circle: a -> b -> a",
        '17: workers.a.depends_on[1]: there is no worker "cc"',
        '19: workers.a.backoff.initial: must be a duration such as "250ms", "2s", "5m", "1h" or a number of seconds, '
        "not true",
        '23: workers.a-1.stop_signal: there is no signal "TERM" (did you mean "SIGTERM"?)',
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["1: mesh.name: is missing", "1: workers: there are no workers; add a table"]),
        ('[mesh]\nname = "a"\n\n[workers]', ["4: workers: there are no workers; add a table"]),
        ("mesh = 1\nworkers = 2", [
            "1: mesh: must be a table, not 1",
            "2: workers: must be a table with one table",
        ]),
        ('[mesh]\nname = "a"\n[[workers]]\nx = 1', ["3: workers: must be a table with one table"]),
        ('[mesh]\nname = "a"\n[workers]\nx = 1', ["4: workers.x: must be a table, not 1"]),
        ('[mesh]\nname = "a"\n[workers.x]\n', ["3: workers.x: must have a class or a command"]),
        ('[mesh]\nname = "a"\n[worker.x]\ncommand = ["x"]\n', [
            "1: workers: there are no workers; add a table",
            '3: worker: unknown table (did you mean "workers"?)',
        ]),
        ("[mesh]\nname = 'a'\nname = 'b'", ["3: is not valid TOML: cannot overwrite a value"]),
        ("[mesh]\nname = ", ["2: is not valid TOML: invalid value"]),
        ("a = " + "[" * 5000, ["1: is nested too deeply"]),
        ("a = " + "9" * 5000, ["1: is not valid TOML"]),
    ],
    ids=range(11),
)  # fmt: skip
def test_broken_files_are_reported(text: str, expected: list[str], faults: Faults) -> None:
    found = faults(text)
    assert len(found) == len(expected)
    assert all(fault.startswith(start) for fault, start in zip(found, expected, strict=True)), found


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ('class = "a:B"', "5: workers.a.command: a worker has a class or a command, not both"),
        ("settings = { a = 1 }", "6: workers.a.settings: is for workers with a class, and this one has a command"),
        ("significant = true\nrestart = 'always'", '7: workers.a.restart: "always" never ends, and so cannot be '
         'significant (did you mean "on-failure"?)'),
        ("depends_on = ['a']", "6: workers.a.depends_on[0]: a cannot depend on itself"),
        ("stop_timeout = true", "6: workers.a.stop_timeout: must be a duration"),
        ("success = [0, 256]", "6: workers.a.success[1]: must be a whole number from 0 to 255, not 256"),
        ("cwd = 'missing'", "6: workers.a.cwd: there is no directory"),
        ("restart-policy = 'never'", "6: workers.a.restart-policy: unknown key"),
        ('"\\u001b[2J" = 1', '6: workers.a."\\u001b[2J": unknown key'),
        ("max_restarts = 3", '6: workers.a.max_restarts: unknown key (did you mean "[supervisor] max_restarts"?)'),
        ("backoff = { initail = 2 }", '6: workers.a.backoff.initail: unknown key (did you mean "initial"?)'),
        ("replicas = 1001", "6: workers.a.replicas: must be a whole number from 0 to 1000, not 1001"),
        ('user = "rooot"', '6: workers.a.user: there is no user "rooot" (did you mean "root"?)'),
        ('memory_soft = "1GiB"\nmax_memory = "1GiB"', "6: workers.a.memory_soft: must be less than max_memory "
         "(1073741824 bytes)"),
        ("limits = { nofiles = 1 }", '6: workers.a.limits.nofiles: there is no such limit (did you mean "nofile"?)'),
        ("ready = { fd = 2 }", "6: workers.a.ready.fd: must be a whole number from 3 to 255, not 2"),
        ("ready = { fd = 3, notify = true }", "6: workers.a.ready: must have exactly one of tcp, file, fd,"),
        ("ready = { notify = false }", "6: workers.a.ready.notify: can only be true, not false"),
        ("ready = {}", "6: workers.a.ready: must have exactly one of"),
        ("health = { period = 1 }", "6: workers.a.health: must have exactly one of tcp, http, exec"),
        ("health = { http = 'https://a/' }", "6: workers.a.health.http: only http is supported, not https"),
        ("health = { http = 'localhost:80' }", "6: workers.a.health.http: must be of the form"),
        ("health = { http = 'http://a:b/' }", "6: workers.a.health.http: must be of the form"),
        ("hang_timeout = '1s'", "6: workers.a.hang_timeout: is for workers with a class"),
        ("log = { format = 'xml' }", '6: workers.a.log.format: must be "text" or "json", not "xml"'),
    ],
)  # fmt: skip
def test_a_fault_of_a_worker_is_named(lines: str, expected: str, faults: Faults, minimal: str) -> None:
    (found,) = faults(minimal + lines)
    assert found.startswith(expected)


def test_a_worker_cannot_be_stopped_by_sigkill_and_a_command_can(faults: Faults, minimal: str) -> None:
    assert faults(minimal + 'stop_signal = "SIGKILL"') == []
    (found,) = faults(minimal.replace('command = ["sleep", "60"]', 'class = "a:B"\nstop_signal = "SIGKILL"'))
    assert found.startswith("6: workers.a.stop_signal: a worker cannot answer SIGKILL")


def test_each_circle_of_dependencies_is_reported_once(faults: Faults) -> None:
    edges = {"a": "b", "b": "c", "c": "b", "d": "e", "e": "d", "f": "a"}
    workers = "".join(f'[workers.{name}]\ncommand = ["x"]\ndepends_on = ["{to}"]\n' for name, to in edges.items())
    assert [fault.partition("circle: ")[2] for fault in faults('[mesh]\nname = "a"\n' + workers)] == [
        "b -> c -> b",
        "d -> e -> d",
    ]


def test_a_hang_timeout_has_room_for_four_beats(faults: Faults, minimal: str) -> None:
    text = minimal.replace('name = "demo"', 'name = "demo"\nbeat = "100ms"').replace("command", "class")
    text = text.replace('["sleep", "60"]', '"a:B"')
    assert faults(text) == []
    assert faults(text + 'hang_timeout = "400ms"') == []
    assert faults(text + 'hang_timeout = "off"') == []
    assert faults(text + 'hang_timeout = "399ms"') == [
        '7: workers.a.hang_timeout: must be at least 4 times mesh.beat (0.1 s), that is 0.4 s, or "off", not 0.399 s'
    ]
    assert faults(text.replace("100ms", "300ms")) == [
        "3: mesh.beat: hang_timeout must be at least 4 times this, and is 1 s for a, which has none of its own"
    ]


def test_a_heartbeat_times_out_after_its_interval(faults: Faults, minimal: str) -> None:
    assert faults(minimal.replace('"demo"', '"demo"\nheartbeat_interval = "2s"')) == [
        "3: mesh.heartbeat_interval: heartbeat_timeout (2 s) must be longer than heartbeat_interval (2 s)"
    ]


@pytest.mark.parametrize(
    ("content", "mode", "fault"),
    [
        (None, 0o600, "cannot be read: No such file or directory"),
        (b"", 0o600, "is empty"),
        (b"\n", 0o600, "is empty"),
        (b"fifteen bytes..\n", 0o600, "must hold 16 to 4096 bytes, not 15"),
        (b"x" * 4097, 0o600, "must hold 16 to 4096 bytes, not more than 4096"),
        (b"x" * 16, 0o640, "is open to others (mode 0640); chmod 600 it"),
    ],
)
def test_a_secret_that_is_none_is_a_fault(
    content: bytes | None, mode: int, fault: str, faults: Faults, minimal: str, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
        file.chmod(mode)
    text = minimal.replace('"demo"', '"demo"\nhost = "10.0.0.1"\nsecret_file = "secret"')
    (found,) = faults(text)
    assert found.startswith('4: mesh.secret_file: "/')
    assert found.endswith(f" {fault}")


def test_a_secret_is_what_is_in_its_file_without_the_end_of_the_line(load: Load, minimal: str, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"sixteen bytes...\r\n")
    file.chmod(0o600)
    config = load(minimal.replace('"demo"', '"demo"\nsecret_file = "secret"'))
    assert config.mesh.secret_file == file
    assert read_secret(file) == b"sixteen bytes..."


@pytest.mark.parametrize("address", ["127.0.0.1:9464", "[::1]:9464", "0.0.0.0:80", "metrics.example:65535"])
def test_metrics_are_served_where_the_file_says(load: Load, minimal: str, address: str) -> None:
    assert load(minimal + f'[supervisor]\nmetrics = "{address}"\n').supervisor.metrics == address
    assert load(minimal).supervisor.metrics is None


# Files that are no files.


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda file: None, "cannot be read: No such file or directory"),
        (lambda file: file.mkdir(), "cannot be read: Is a directory"),
        (os.mkfifo, "cannot be read: not a regular file"),
        (lambda file: file.write_bytes(b"#" * 1_048_577), "is larger than 1024 KiB"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_fault(tmp_path: Path, make: Callable[[Path], Any], message: str) -> None:
    make(tmp_path / "mesh.toml")
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "mesh.toml")
    assert caught.value.faults == (Fault(0, "", message),)


def test_a_file_that_is_not_utf8_is_a_fault_of_its_line(tmp_path: Path) -> None:
    (tmp_path / "mesh.toml").write_bytes(b"[mesh]\nname = '\xff'\n")
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "mesh.toml")
    assert caught.value.faults == (Fault(2, "", "is not UTF-8"),)


def test_windows_line_ends_and_a_byte_order_mark_do_not_matter(tmp_path: Path, minimal: str) -> None:
    (tmp_path / "mesh.toml").write_bytes(b"\xef\xbb\xbf" + (minimal + "restart = 1\n").replace("\n", "\r\n").encode())
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "mesh.toml")
    assert [fault.line for fault in caught.value.faults] == [6]


def test_the_report_names_the_file_as_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        load_config("missing.toml")
    assert str(caught.value) == "missing.toml:0: cannot be read: No such file or directory"


# Finding a mesh.


def test_only_name_and_runtime_dir_matter_for_finding_a_mesh(write: Callable[[str], Path], tmp_path: Path) -> None:
    file = write('nonsense = 1\n[mesh]\nname = "a"\nfoo = 1\n[supervisor]\nruntime_dir = "r"\nmax_restarts = "x"\n')
    assert locate(file) == ("a", tmp_path / "r")


def test_a_mesh_without_name_cannot_be_found(write: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError, match=r"mesh.name: is missing"):
        locate(write("[supervisor]\nruntime_dir = 'r'\n"))


def test_only_log_dir_and_the_slots_matter_for_finding_the_past_of_a_mesh(
    write: Callable[[str], Path], tmp_path: Path
) -> None:
    file = write("nonsense = 1\n[workers.a]\n[workers.b]\nreplicas = 2\n[workers.c]\nreplicas = -1\n")
    assert locate_logs(file) == (tmp_path / ".meshvisor", ("a", "b-0", "b-1", "c"))
    file = write("workers = 1\n[supervisor]\nlog_dir = 'logs'\n")
    assert locate_logs(file) == (tmp_path / "logs", ())


# Whatever is in the file.

SNIPPETS = [
    "[",
    "]]",
    '"',
    "'''",
    "=",
    "{",
    "}",
    "\n",
    "#",
    "true",
    "-1",
    "nan",
    "1e400",
    "\\u0000",
    "é",
    ".",
    ",",
    "9" * 30,
]


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    count=st.integers(1, 6),
    snippets=st.lists(st.sampled_from(SNIPPETS), min_size=6, max_size=6),
)
def test_no_mutation_of_a_file_raises_anything_but_its_report(
    seed: int, count: int, snippets: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = random.Random(seed)
    text = FULL
    for snippet in snippets[:count]:
        start = rng.randrange(len(text))
        text = text[:start] + snippet + text[start + rng.choice([0, 1, 5, 40]) :]
    file = tmp_path_factory.getbasetemp() / "mutated.toml"
    file.write_text(text)
    faults: tuple[Fault, ...] = ()
    try:
        load_config(file)
    except ConfigError as error:
        faults = error.faults
    assert all(1 <= fault.line <= text.count("\n") + 1 for fault in faults)


def test_a_program_makes_a_configuration_without_a_file(tmp_path: Path) -> None:
    config = build_config({"mesh": {"name": "mesh"}, "workers": {"a": {"class": "app:A"}}}, tmp_path)
    assert (config.mesh.name, config.workers[0].class_path, config.workers[0].cwd) == ("mesh", "app:A", tmp_path)
    assert build_config({"mesh": {"name": "mesh"}}, tmp_path).workers == ()


def test_faults_of_a_configuration_without_a_file_are_on_no_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        build_config({"mesh": {"name": "mesh"}, "workers": {"a": {"klass": "app:A"}}}, tmp_path)
    assert [fault.line for fault in caught.value.faults] == [0, 0]
    assert str(caught.value).split("\n") == [
        'workers.a.klass: unknown key (did you mean "class"?)',
        "workers.a: must have a class or a command",
    ]
