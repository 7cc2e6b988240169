"""Each kind of value, at its edges."""

import math
import os
from pathlib import Path
from typing import Any

import pytest

from meshvisor.shared.config import RestartPolicy, values
from meshvisor.shared.config.lines import LineIndex
from meshvisor.shared.config.report import Report, Unfit, Where
from meshvisor.shared.config.values import Parser


@pytest.fixture
def where(tmp_path: Path) -> Where:
    return Where(Report(LineIndex("")), tmp_path, ("key",))


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("250ms", 0.25), ("2s", 2.0), ("5m", 300.0), ("1h", 3600.0), ("1.5 s", 1.5), (3, 3.0), (0.5, 0.5), (0, 0.0)],
)
def test_durations_are_read_into_seconds(written: object, seconds: float, where: Where) -> None:
    assert values.duration(written, where) == seconds


@pytest.mark.parametrize(
    "written",
    [True, -1, "-1s", math.nan, math.inf, -math.inf, "", "s", "1d", "1e3s", "٣s", "10", [], {}, 10**310, "9000h"],
    ids=str,
)
def test_what_is_no_duration_is_refused(written: object, where: Where) -> None:
    with pytest.raises(Unfit):
        values.duration(written, where)


def test_a_duration_without_unit_is_met_with_a_proposal(where: Where) -> None:
    with pytest.raises(Unfit) as caught:
        values.duration("10", where)
    assert caught.value.hint == "10s"


@pytest.mark.parametrize("written", [0, "0s"])
def test_a_time_limit_of_nothing_is_refused_where_it_makes_no_sense(written: object, where: Where) -> None:
    with pytest.raises(Unfit, match="longer than 0"):
        values.positive_duration(written, where)


def test_off_is_no_duration(where: Where) -> None:
    assert values.duration_or_off("off", where) is None
    assert values.duration_or_off("1s", where) == 1.0


@pytest.mark.parametrize(
    ("written", "count"),
    [("512MiB", 512 * 2**20), ("1 GiB", 2**30), ("1.5KiB", 1536), ("2kB", 2000), ("10B", 10), (4096, 4096)],
)
def test_sizes_are_read_into_bytes(written: object, count: int, where: Where) -> None:
    assert values.size(written, where) == count


@pytest.mark.parametrize("written", [True, 0, -1, "0B", "MiB", "5 bananas", "99999999TiB", 1.5, 2**70])
def test_what_is_no_size_is_refused(written: object, where: Where) -> None:
    with pytest.raises(Unfit):
        values.size(written, where)


@pytest.mark.parametrize(
    ("parse", "written", "value"),
    [
        (values.name, "a", "a"),
        (values.name, "a" * 63, "a" * 63),
        (values.text, "x", "x"),
        (values.boolean, True, True),
        (values.integer(0, 5), 5, 5),
        (values.number(0, 1), 1, 1.0),
        (values.one_of(RestartPolicy), "never", RestartPolicy.NEVER),
        (values.class_path, "pkg.mod:Class", "pkg.mod:Class"),
        (values.module_name, "a.b", "a.b"),
        (values.command, ["sh", "-c", ""], ("sh", "-c", "")),
        (values.stop_signal, "SIGINT", "SIGINT"),
        (values.host, "LocalHost", "localhost"),
        (values.host, "::1", "::1"),
        (values.host_and_port, "127.0.0.1:9464", "127.0.0.1:9464"),
        (values.host_and_port, "[::1]:80", "[::1]:80"),
        (values.octal_mask, "027", 0o27),
        (values.environment, {"A": "b"}, {"A": "b"}),
        (values.settings, {"a": [1, {"b": 2.5}]}, {"a": [1, {"b": 2.5}]}),
    ],
)
def test_good_values_are_taken(parse: Parser[Any], written: object, value: object, where: Where) -> None:
    assert parse(written, where) == value
    assert where.report.faults == []


@pytest.mark.parametrize(
    ("parse", "written", "message", "hint"),
    [
        (values.name, "Demo", "lower-case", None),
        (values.name, "a" * 64, "at most 62", None),
        (values.name, "a\n", "lower-case", None),
        (values.text, "", "not empty", None),
        (values.text, "a\0b", "NUL", None),
        (values.boolean, 1, "true or false", None),
        (values.integer(0, 5), True, "from 0 to 5, not true", None),
        (values.integer(0, 5), 6, "from 0 to 5, not 6", None),
        (values.integer(0, 5), 2.0, "whole number", None),
        (values.integer(0, 5), 10**400, "a number that long", None),
        (values.number(0, 1), math.nan, "from 0 to 1", None),
        (values.one_of(RestartPolicy), "on_failure", '"always", "on-failure" or "never"', "on-failure"),
        (values.one_of(RestartPolicy), [], "not an array", None),
        (values.class_path, "pkg.mod.Class", "module:Class", "pkg.mod:Class"),
        (values.class_path, "pkg/mod:Class", "module:Class", None),
        (values.class_path, "a:class", "module:Class", None),
        (values.class_path, 1, "module:Class", None),
        (values.module_name, 1, "name of a module", None),
        (values.command, "an 'open quote", "array of strings, not", None),
        (values.path, "~no-such-user/x", "home directory", None),
        (values.directory, "x" * 300, "(cannot look at|no directory)", None),
        (values.command, "sleep 60", r'array of strings, here \["sleep", "60"\]', None),
        (values.command, [], "array of strings", None),
        (values.stop_signal, "TERM", "no signal", "SIGTERM"),
        (values.stop_signal, "SIGTREM", "no signal", "SIGTERM"),
        (values.stop_signal, "SIGSTOP", "does not end", None),
        (values.stop_signal, 15, "name of a signal", None),
        (values.host, "[::1]", "without brackets", "::1"),
        (values.host, "256.1.1.1", "address", None),
        (values.host, "a b", "address", None),
        (values.host_and_port, "127.0.0.1", "of the form", None),
        (values.host_and_port, "127.0.0.1:99999", "of the form", None),
        (values.octal_mask, "028", "octal", None),
        (values.settings, [], "table", None),
        (values.environment, [], "table", None),
    ],
)
def test_bad_values_are_refused(
    parse: Parser[Any], written: object, message: str, hint: str | None, where: Where
) -> None:
    with pytest.raises(Unfit, match=message) as caught:
        parse(written, where)
    assert caught.value.hint == hint


@pytest.mark.parametrize(
    ("parse", "written", "fault"),
    [
        (values.command, ["sh", 1], "key[1]: must be a string, not 1"),
        (values.command, [""], "key[0]: must name a program"),
        (values.command, ["sh", "a\0"], "key[1]: must not contain a NUL character"),
        (values.environment, {"A": 1}, "key.A: must be a string, not 1"),
        (values.environment, {"A=": "x"}, 'key."A=": is no name for an environment variable'),
        (values.environment, {"A": "\0"}, "key.A: must not contain a NUL character"),
        (values.environment, {"MESHVISOR_SLOT": "x"}, "key.MESHVISOR_SLOT: is set by the supervisor"),
        (values.settings, {"a": [2**63]}, "key.a[0]: must fit in 64 bits; write it as a string"),
        (values.list_of(values.module_name, "modules"), ["a", "1"], 'key[1]: must be the name of a module, not "1"'),
    ],
)
def test_a_bad_part_is_reported_at_its_own_place(parse: Parser[Any], written: object, fault: str, where: Where) -> None:
    parse(written, where)
    assert [str(found) for found in where.report.faults] == [fault]


@pytest.mark.parametrize(
    ("address", "is_loopback"),
    [
        ("127.8.0.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("localhost", True),
        ("10.0.0.1", False),
        ("h", False),
    ],
)
def test_loopback_is_told_from_the_rest(address: str, is_loopback: bool) -> None:
    assert values.is_loopback(address) is is_loopback


def test_limits_are_known_by_name(where: Where) -> None:
    assert values.limits({"nofile": 10, "core": "unlimited"}, where, ("nofile", "core")) == {"nofile": 10, "core": -1}
    assert values.limits({"nofiles": 10, "core": -1}, where, ("nofile", "core")) == {}
    assert [str(fault) for fault in where.report.faults] == [
        'key.nofiles: there is no such limit (did you mean "nofile"?)',
        'key.core: must be a whole number, 0 or more, or "unlimited", not -1',
    ]


def test_paths_are_taken_from_the_files_folder(where: Where, tmp_path: Path) -> None:
    assert values.path("a/../b", where) == tmp_path / "b"
    assert values.path("/a", where) == Path("/a")
    assert values.directory(".", where) == tmp_path
    with pytest.raises(Unfit, match="no directory"):
        values.directory("missing", where)


def test_only_root_becomes_another_user(where: Where, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 65_432)
    with pytest.raises(Unfit, match='only root can run a command as "root"'):
        values.user("root", where)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert values.user("root", where) == "root"
