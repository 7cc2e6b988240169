"""What the children print: cut, kept, passed on."""

import asyncio
import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshvisor.shared.config.model import LogFormat, LogOptions
from meshvisor.supervisor.logs import CUT, MAX_LINE, TAIL_LINES, LineCutter, LogFile, Output, Pump
from meshvisor.workers.testing import run_virtual

Lines = list[tuple[str, str]]


def cut(*pieces: bytes) -> Lines:
    cutter = LineCutter("stdout")
    lines = [line for piece in pieces for line in cutter.feed(piece)]
    return lines + cutter.finish()


def out(*texts: str) -> Lines:
    return [("stdout", text) for text in texts]


@pytest.mark.parametrize(
    ("pieces", "lines"),
    [
        ([b"one\ntwo\n"], out("one", "two")),
        ([b"on", b"e\nt", b"wo"], out("one", "two")),
        ([b"\n\n"], out("", "")),
        ([b"one\r\ntwo\r\n"], out("one", "two")),
        ([b"one\r", b"\ntwo\r\n"], [("progress", "one"), *out("one", "two")]),
        ([b"10%\r20%\r", b"30%\r"], [("progress", "20%"), ("progress", "30%")]),
        ([b"10%\rdone\n"], out("done")),
        ([b"10%\r", b"done\n"], [("progress", "10%"), *out("done")]),
        ([b"10%\r20"], [("progress", "10%"), *out("20")]),
        ([b"\r\r\r"], []),
        ([b"\xff\xfe caf\xc3\xa9\n"], out("\ufffd\ufffd café")),
        ([b""], []),
    ],
)
def test_bytes_are_cut_into_lines(pieces: list[bytes], lines: Lines) -> None:
    assert cut(*pieces) == lines


@settings(deadline=None, derandomize=True)
@given(st.lists(st.text("ab\r\n").map(str.encode)))
def test_the_way_bytes_arrive_changes_no_line(pieces: list[bytes]) -> None:
    def kept(lines: Lines) -> Lines:
        return [line for line in lines if line[0] == "stdout"]

    assert kept(cut(*pieces)) == kept(cut(b"".join(pieces)))


def test_a_line_that_is_too_long_is_cut_into_marked_pieces() -> None:
    longest = "x" * MAX_LINE
    assert cut(longest.encode() + b"\n") == out(longest)
    assert cut(longest.encode() + b"y\n") == out(longest + CUT, "y")
    assert cut(b"x" * (2 * MAX_LINE + 5)) == out(longest + CUT, longest + CUT, "xxxxx")


def test_no_character_is_cut_in_two() -> None:
    first, second = cut("é".encode() * MAX_LINE)[:2]
    assert first[1] == "é" * (MAX_LINE // 2) + CUT
    assert "\ufffd" not in second[1]
    assert cut(b"x" + "é".encode() * MAX_LINE)[0][1] == "x" + "é" * (MAX_LINE // 2 - 1) + CUT


def test_an_endless_line_is_not_collected() -> None:
    cutter = LineCutter("stdout")
    for _ in range(100):
        for _, text in cutter.feed(b"x" * 65_536):
            assert len(text) <= MAX_LINE + len(CUT)
    assert len(cutter.finish()[0][1]) <= MAX_LINE


def test_a_log_has_time_and_stream_and_no_progress(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "logs" / "a.log", pytest.fail)
    log.write([("stdout", "one"), ("progress", "50%"), ("stderr", "two")])
    log.write([("progress", "60%")])
    log.close()
    lines = (tmp_path / "logs" / "a.log").read_text().splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == ["stdout one", "stderr two"]
    assert datetime.fromisoformat(lines[0].split()[0]).tzinfo is not None
    assert (log.lines, log.size) == (2, (tmp_path / "logs" / "a.log").stat().st_size)


def test_a_log_goes_on_where_it_ended(tmp_path: Path) -> None:
    for text in ("one", "two"):
        log = LogFile(tmp_path / "a.log", pytest.fail)
        log.write([("stdout", text)])
        log.close()
    assert (tmp_path / "a.log").read_text().count("\n") == 2


def test_logs_are_rotated_by_size_and_only_so_many_are_kept(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "a.log", pytest.fail, LogOptions(max_size=100, keep=2))
    for number in range(5):
        log.write([("stdout", f"{number}" * 60)])
    log.close()
    found = {entry.name: entry.read_text().split()[2][0] for entry in tmp_path.iterdir()}
    assert found == {"a.log": "4", "a.log.1": "3", "a.log.2": "2"}


@pytest.mark.parametrize(("keep", "files"), [(0, {"a.log": "4"}), (1, {"a.log": "4", "a.log.1": "3"})])
def test_as_few_logs_are_kept_as_one_likes(tmp_path: Path, keep: int, files: dict[str, str]) -> None:
    for number in (1, 2, 3):
        (tmp_path / f"a.log.{number}").write_text("x y kept by an earlier run")
    log = LogFile(tmp_path / "a.log", pytest.fail, LogOptions(max_size=100, keep=keep))
    for number in range(5):
        log.write([("stdout", f"{number}" * 60)])
    log.close()
    assert {entry.name: entry.read_text().split()[2][0] for entry in tmp_path.iterdir()} == files


def test_a_log_can_be_one_json_object_a_line(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "a.log", pytest.fail, LogOptions(LogFormat.JSON), slot="a")
    before = round(time.time(), 3)
    log.write([("stdout", 'say "é"\u2028'), ("progress", "50%"), ("stderr", "two")], 3)
    log.close()
    lines = [json.loads(line) for line in (tmp_path / "a.log").read_bytes().split(b"\n")[:-1]]
    assert all(before <= line.pop("at") <= time.time() + 0.001 for line in lines)
    assert lines == [
        {"slot": "a", "incarnation": 3, "stream": "stdout", "text": 'say "é"\u2028'},
        {"slot": "a", "incarnation": 3, "stream": "stderr", "text": "two"},
    ]


def test_a_log_can_be_kept_otherwise_from_now_on(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "a.log", pytest.fail, slot="a")
    log.write([("stdout", "x" * 100)])
    log.reconfigure(LogOptions(LogFormat.JSON, max_size=50, keep=1))
    log.write([("stdout", "y")])
    log.close()
    assert json.loads((tmp_path / "a.log").read_text())["text"] == "y"
    assert (tmp_path / "a.log.1").read_text().endswith(" stdout " + "x" * 100 + "\n")


def test_a_log_that_cannot_be_written_warns_once_and_says_when_it_can_again(tmp_path: Path) -> None:
    lost: list[str] = []
    restored: list[int] = []
    (tmp_path / "logs").touch()
    log = LogFile(tmp_path / "logs" / "a.log", lost.append, restored=restored.append)
    log.write([("stdout", "one"), ("stdout", "and a half")])
    log.write([("stdout", "two")])
    assert (lost, restored) == (["File exists"], [])
    (tmp_path / "logs").unlink()
    log.write([("stdout", "three")])
    log.write([("stdout", "four")])
    assert (lost, restored) == (["File exists"], [3])
    log.close()
    lines = (tmp_path / "logs" / "a.log").read_text().splitlines()
    assert [line.split()[2] for line in lines] == ["three", "four"]


def test_a_full_disk_costs_lines_and_one_warning() -> None:
    lost: list[str] = []
    log = LogFile(Path("/dev/full"), lost.append)
    log.write([("stdout", "one")])
    log.write([("stdout", "two")])
    assert lost == ["No space left on device"]


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    yield read_end, write_end
    os.close(write_end)


def test_what_a_dead_process_left_in_its_pipe_is_read_at_once(pipe: tuple[int, int]) -> None:
    async def main() -> None:
        lines: Lines = []
        pump = Pump(asyncio.get_running_loop(), pipe[0], "stdout", lines.extend)
        os.write(pipe[1], b"one\nlast words")
        pump.drain()
        assert lines == out("one")
        open_at = [pump.is_open]
        # The other end stays open, as with a descendant that escaped: it gets a moment, and then nothing.
        for _ in range(2):
            await asyncio.sleep(0.2)
            open_at.append(pump.is_open)
        assert open_at == [True, True, False]
        assert lines == out("one", "last words")
        pump.close()

    run_virtual(main())


def test_a_pump_ends_with_its_pipe() -> None:
    async def main() -> None:
        lines: Lines = []
        read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        pump = Pump(asyncio.get_running_loop(), read_end, "stderr", lines.extend)
        os.write(write_end, b"one")
        os.close(write_end)
        while pump.is_open:
            await asyncio.sleep(0.1)
        assert lines == [("stderr", "one")]
        pump.drain()

    run_virtual(main())


def test_a_flood_is_read_in_bounded_pieces_so_that_others_get_their_turn(pipe: tuple[int, int]) -> None:
    async def main() -> None:
        turns: list[str] = []
        loop = asyncio.get_running_loop()
        pump = Pump(loop, pipe[0], "stdout", lambda lines: turns.append(f"{len(lines)} lines"))
        os.write(pipe[1], b"y\n" * 4096)
        loop.call_later(0.0, lambda: loop.call_soon(turns.append, "another's turn"))
        await asyncio.sleep(0.1)
        assert turns == ["2048 lines", "another's turn", "2048 lines"]
        pump.close()

    run_virtual(main())


def test_a_flood_does_not_delay_the_replacement_of_its_dead_source(pipe: tuple[int, int]) -> None:
    async def main() -> None:
        lines: Lines = []
        pump = Pump(asyncio.get_running_loop(), pipe[0], "stdout", lines.extend)
        os.write(pipe[1], b"y\n" * 10_000)
        pump.drain()
        assert len(lines) == 2048
        await asyncio.sleep(0.2)
        assert len(lines) == 10_000
        os.write(pipe[1], b"y\n" * 10_000)
        pump.finish()
        assert len(lines) == 20_000

    run_virtual(main())


def test_the_output_of_a_slot_goes_to_its_log_to_its_tail_and_on(tmp_path: Path, pipe: tuple[int, int]) -> None:
    async def main() -> None:
        printed: Lines = []
        log = LogFile(tmp_path / "a.log", pytest.fail)
        output = Output(asyncio.get_running_loop(), log, lambda kind, text: printed.append((kind, text)))
        error_pipe = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        capture = output.attach(pipe[0], error_pipe[0])
        os.write(pipe[1], b"".join(b"%d\n" % number for number in range(30)) + b"50%\r")
        os.write(error_pipe[1], b"oops\n")
        os.close(error_pipe[1])
        capture.drain()
        assert output.tail == [*(str(number) for number in range(11, 30)), "oops"]
        assert len(output.tail) == TAIL_LINES
        assert printed[-2:] == [("progress", "50%"), ("stderr", "oops")]
        output.begin()
        assert output.tail == []
        output.close()
        assert len((tmp_path / "a.log").read_text().splitlines()) == 31

    run_virtual(main())


def test_what_an_earlier_incarnation_left_is_logged_and_is_no_news_of_the_next(tmp_path: Path) -> None:
    async def main() -> None:
        options = LogOptions(LogFormat.JSON)
        output = Output(
            asyncio.get_running_loop(), LogFile(tmp_path / "a.log", pytest.fail, options), lambda kind, text: None
        )
        heard: list[list[str]] = [[], []]
        writers = []
        for number in (0, 1):
            reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            silent, closed = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            os.close(closed)
            writers.append(writer)
            os.write(writer, b"old\n" * 4000 if number == 0 else b"new\n")
            capture = output.attach(reader, silent, number + 1, heard[number].append)
            if number == 0:
                capture.drain()
        await asyncio.sleep(0.01)
        assert output.tail == ["new"]
        assert heard == [["old"] * 4000, ["new"]]
        for writer in writers:
            os.close(writer)
        output.close()
        lines = [json.loads(line) for line in (tmp_path / "a.log").read_text().splitlines()]
        found = [(line["incarnation"], line["text"]) for line in lines]
        assert sorted(found) == [(1, "old")] * 4000 + [(2, "new")]
        assert found[-1] == (1, "old")

    run_virtual(main())


def test_a_pipe_that_is_held_open_is_emptied_before_it_is_given_up(pipe: tuple[int, int]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        lines: Lines = []
        pump = Pump(loop, pipe[0], "stdout", lines.extend)
        pump.drain()
        loop.remove_reader(pipe[0])  # as if the loop had been too busy to look
        os.write(pipe[1], b"x\n" * 5000)
        await asyncio.sleep(0.3)
        assert not pump.is_open
        assert len(lines) == 5000

    run_virtual(main())


def test_whoever_refills_a_pipe_while_it_is_emptied_for_the_last_time_is_not_waited_for(pipe: tuple[int, int]) -> None:
    async def main() -> None:
        lines: Lines = []

        def refill(more: Lines) -> None:
            lines.extend(more)
            with suppress(BrokenPipeError):
                os.write(pipe[1], b"more\n" * 1000)

        pump = Pump(asyncio.get_running_loop(), pipe[0], "stdout", refill)
        os.write(pipe[1], b"x\n" * 3000)
        pump.finish()
        assert not pump.is_open
        assert 3000 <= len(lines) < 5000
        assert lines[:3000] == out(*["x"] * 3000)

    run_virtual(main())
