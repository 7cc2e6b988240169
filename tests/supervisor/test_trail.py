"""The log of a slot is read whole and once, however it is rotated meanwhile."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshvisor.shared.config.model import LogFormat, LogOptions
from meshvisor.shared.errors import SupervisorError
from meshvisor.supervisor.logs import LogFile
from meshvisor.supervisor.trail import MISSED, Entry, SlotTrail, parse


def texts(entries: list[Entry]) -> list[str]:
    return [entry.text for entry in entries]


def log(directory: Path, *, keep: int = 5, max_size: int = 100, format: LogFormat = LogFormat.TEXT) -> LogFile:
    return LogFile(directory / "a.log", pytest.fail, LogOptions(format, max_size=max_size, keep=keep), slot="a")


def write(file: LogFile, *texts: str) -> None:
    for text in texts:
        file.write([("stdout", text)], 3)


@pytest.mark.parametrize(
    ("line", "entry"),
    [
        (b"1970-01-01T00:00:01.500Z stderr hello  you ", Entry(1.5, "a", None, "stderr", "hello  you ")),
        (b"1970-01-01T00:00:01.500Z stdout ", Entry(1.5, "a", None, "stdout", "")),
        (
            b'{"at":2.5,"slot":"a","incarnation":4,"stream":"stderr","text":"x"}',
            Entry(2.5, "a", 4, "stderr", "x"),
        ),
        (b'{"at":2.5,"slot":"a"', Entry(9.0, "a", None, "stdout", '{"at":2.5,"slot":"a"')),
        (b"soon stdout text", Entry(9.0, "a", None, "stdout", "soon stdout text")),
        (b"torn off \xff", Entry(9.0, "a", None, "stdout", "torn off \ufffd")),
    ],
)
def test_lines_of_both_formats_are_understood_and_others_are_kept(line: bytes, entry: Entry) -> None:
    assert parse("a", line, 9.0) == entry


def test_all_rotated_files_are_read_in_the_order_in_which_they_were_written(tmp_path: Path) -> None:
    file = log(tmp_path)
    written = [f"{number}" * 30 for number in range(6)]
    write(file, *written)
    assert len(list(tmp_path.iterdir())) > 2
    trail = SlotTrail(tmp_path, "a")
    assert texts(list(trail.entries())) == written
    assert list(trail.entries()) == []
    write(file, "more")
    assert texts(list(trail.entries())) == ["more"]
    trail.close()
    file.close()


@pytest.mark.parametrize("lines", [0, 1, 2, 4, 6, 100])
def test_the_tail_reaches_back_over_rotations_and_reading_goes_on_behind_it(tmp_path: Path, lines: int) -> None:
    file = log(tmp_path)
    written = [f"{number}" * 30 for number in range(6)]
    write(file, *written)
    trail = SlotTrail(tmp_path, "a")
    assert texts(trail.tail(lines)) == written[max(0, 6 - lines) :]
    write(file, "more", "and " * 30)
    assert texts(list(trail.entries())) == ["more", "and " * 30]
    trail.close()
    file.close()


@settings(deadline=None, derandomize=True, max_examples=30)
@given(data=st.data())
def test_nothing_is_lost_or_doubled_while_files_are_rotated(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """As long as no more is rotated away between two looks than is kept."""
    directory = tmp_path_factory.mktemp("logs")
    file = log(directory, keep=6, format=data.draw(st.sampled_from(LogFormat)))
    trail = SlotTrail(directory, "a")
    written: list[str] = []
    seen: list[str] = []
    for _ in range(data.draw(st.integers(1, 12))):
        more = [f"{len(written) + index} " + "x" * 80 for index in range(data.draw(st.integers(0, 3)))]
        write(file, *more)
        written += more
        if data.draw(st.booleans()) or len(written) - len(seen) > 2:
            seen += texts(list(trail.entries()))
    seen += texts(list(trail.entries()))
    assert seen == written
    trail.close()
    file.close()


def test_a_file_that_is_emptied_in_place_is_begun_again(tmp_path: Path) -> None:
    file = log(tmp_path, keep=0)
    trail = SlotTrail(tmp_path, "a")
    write(file, "x" * 60)
    assert texts(list(trail.entries())) == ["x" * 60]
    write(file, "y" * 50)
    assert texts(list(trail.entries())) == ["y" * 50]
    trail.close()
    file.close()


def test_a_log_that_was_deleted_is_waited_for(tmp_path: Path) -> None:
    trail = SlotTrail(tmp_path, "a")
    assert trail.tail(3) == []
    assert list(trail.entries()) == []
    (tmp_path / "a.log").write_text("1970-01-01T00:00:01.500Z stdout one\n")
    assert texts(list(trail.entries())) == ["one"]
    (tmp_path / "a.log").unlink()
    assert list(trail.entries()) == []
    (tmp_path / "a.log").write_text("1970-01-01T00:00:01.500Z stdout two\n")
    assert texts(list(trail.entries())) == ["two"]
    trail.close()


def test_what_was_not_finished_when_the_machine_went_down_is_shown_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.log.1").write_text("1970-01-01T00:00:01Z stdout one\n1970-01-01T00:00:02Z stdo")
    (tmp_path / "a.log").write_text("1970-01-01T00:00:03Z stdout three\n")
    trail = SlotTrail(tmp_path, "a")
    assert [(entry.at, entry.text) for entry in trail.entries()] == [
        (1.0, "one"), (1.0, "1970-01-01T00:00:02Z stdo"), (3.0, "three"),
    ]  # fmt: skip
    trail.close()


def test_a_line_without_an_end_is_not_collected(tmp_path: Path) -> None:
    with open(tmp_path / "a.log", "wb") as file:
        file.write(b"x" * 5_000_000)
    trail = SlotTrail(tmp_path, "a")
    assert max(len(entry.text) for entry in trail.entries()) < 1_200_000
    trail.close()


def test_a_file_that_may_not_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.log").symlink_to(tmp_path / "a.log")
    with pytest.raises(SupervisorError, match=r"cannot read .*a\.log: Too many levels of symbolic links"):
        SlotTrail(tmp_path, "a").tail(1)


def test_no_file_is_left_open(tmp_path: Path) -> None:
    write(log(tmp_path), *(f"{number}" * 30 for number in range(6)))
    before = os.listdir("/proc/self/fd")
    trail = SlotTrail(tmp_path, "a")
    trail.tail(6)
    trail.close()
    assert os.listdir("/proc/self/fd") == before


def test_what_was_rotated_away_before_it_could_be_read_is_told(tmp_path: Path) -> None:
    file = log(tmp_path, keep=1)
    trail = SlotTrail(tmp_path, "a")
    write(file, "0" * 60)
    assert texts(trail.some(10)) == ["0" * 60]
    write(file, *(f"{number}" * 60 for number in range(1, 5)))
    found = trail.some(10)
    assert [entry.stream for entry in found] == [MISSED, "stdout", "stdout"]
    assert texts(found)[1:] == ["3" * 60, "4" * 60]
    assert trail.some(10) == []
    trail.close()
    file.close()


def test_whoever_is_behind_can_go_to_the_end(tmp_path: Path) -> None:
    file = log(tmp_path, max_size=10_000)
    trail = SlotTrail(tmp_path, "a")
    write(file, *map(str, range(100)))
    assert texts(trail.some(10)) == [str(number) for number in range(10)]
    assert texts(trail.tail(3)) == ["97", "98", "99"]
    assert trail.some(10) == []
    trail.close()
    file.close()
