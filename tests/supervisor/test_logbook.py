"""The logs of several slots are one, and are followed wherever they go."""

import os
import shutil
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from meshvisor.supervisor.logbook import Logbook, Selection, slots_with_logs
from meshvisor.supervisor.naming import UnknownSlot
from meshvisor.supervisor.trail import Entry

KNOWN = ["web", "counter-0", "counter-1"]


def write(directory: Path, slot: str, *lines: tuple[int, str]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / f"{slot}.log", "a") as file:
        file.writelines(f"1970-01-01T00:00:{second:02}Z stdout {text}\n" for second, text in lines)


def shown(entries: Iterator[Entry] | list[Entry]) -> list[tuple[str, str]]:
    return [(entry.slot, entry.text) for entry in entries]


@pytest.fixture
def reader() -> Iterator[int]:
    """What the lines are written to, held open at its other end."""
    ours, theirs = os.pipe()
    yield theirs
    os.close(ours)
    os.close(theirs)


def test_several_slots_are_merged_by_time(tmp_path: Path) -> None:
    write(tmp_path, "web", (1, "a"), (4, "d"))
    write(tmp_path, "counter-0", (2, "b"), (3, "c"), (5, "e"))
    book = Logbook(tmp_path, Selection([], []))
    assert shown(book.all()) == [
        ("web", "a"), ("counter-0", "b"), ("counter-0", "c"), ("web", "d"), ("counter-0", "e"),
    ]  # fmt: skip
    assert shown(list(book.latest(2))) == [("web", "d"), ("counter-0", "e")]
    book.close()
    assert slots_with_logs(tmp_path) == ["counter-0", "web"]
    assert slots_with_logs(tmp_path / "nowhere") == []


def test_names_mean_slots_or_all_slots_of_a_worker_the_later_ones_too() -> None:
    one = Selection(["counter-1"], KNOWN)
    assert [slot in one for slot in ("counter-0", "counter-1", "counter-2")] == [False, True, False]
    worker = Selection(["counter"], KNOWN)
    assert worker.slots == ["counter-0", "counter-1"]
    assert [slot in worker for slot in ("counter-0", "counter-7", "counter-x", "web")] == [True, True, False, False]
    assert "anything" in Selection([], KNOWN)
    with pytest.raises(UnknownSlot, match='did you mean "counter"'):
        Selection(["web", "conter"], KNOWN)


def test_what_comes_is_followed_over_rotations_and_into_slots_that_are_new(tmp_path: Path, reader: int) -> None:
    write(tmp_path, "counter-0", (1, "old"))
    book = Logbook(tmp_path, Selection(["counter"], KNOWN))
    assert shown(list(book.latest(5))) == [("counter-0", "old")]
    write(tmp_path, "counter-0", (2, "before the watch"))
    news = book.follow(reader)
    assert shown(next(news)) == [("counter-0", "before the watch")]
    write(tmp_path, "counter-0", (3, "last of the old file"))
    (tmp_path / "counter-0.log").rename(tmp_path / "counter-0.log.1")
    write(tmp_path, "counter-0", (5, "first of the new"))
    write(tmp_path, "counter-5", (4, "a new slot"))
    write(tmp_path, "web", (4, "somebody else"))
    assert shown(next(news)) == [
        ("counter-0", "last of the old file"), ("counter-5", "a new slot"), ("counter-0", "first of the new"),
    ]  # fmt: skip
    book.close()


def test_a_folder_that_is_not_there_yet_or_not_any_more_is_waited_for(tmp_path: Path, reader: int) -> None:
    folder = tmp_path / "not" / "yet"
    (tmp_path / "not").mkdir()
    folder.mkdir()
    book = Logbook(folder, Selection([], KNOWN))
    news = book.follow(reader)
    write(folder, "web", (1, "one"))
    assert shown(next(news)) == [("web", "one")]
    shutil.rmtree(folder)
    write(folder, "web", (2, "two"))
    assert shown(next(news)) == [("web", "two")]
    book.close()


def test_following_ends_with_its_reader(tmp_path: Path) -> None:
    ours, theirs = os.pipe()
    write(tmp_path, "web", (1, "one"))
    book = Logbook(tmp_path, Selection([], KNOWN))
    news = book.follow(theirs)
    assert shown(next(news)) == [("web", "one")]
    os.close(ours)
    assert list(chain.from_iterable(news)) == []
    book.close()
    missing = Logbook(tmp_path / "nowhere" / "at all", Selection([], KNOWN))
    assert list(missing.follow(theirs)) == []
    os.close(theirs)


def test_a_flood_is_read_a_batch_at_a_time_and_whole(tmp_path: Path, reader: int) -> None:
    write(tmp_path, "web", *((1, str(number)) for number in range(2500)))
    write(tmp_path, "calm", (2, "calm"))
    book = Logbook(tmp_path, Selection([], []))
    news = book.follow(reader)
    batches = [shown(next(news)) for _ in range(3)]
    assert [len(batch) for batch in batches] == [1001, 1000, 500]
    assert [text for batch in batches for slot, text in batch if slot == "web"] == [str(n) for n in range(2500)]
    book.close()


def test_all_ends_where_it_began_however_much_is_printed_meanwhile(tmp_path: Path) -> None:
    write(tmp_path, "web", (1, "one"), (2, "two"), (3, "three"))
    book = Logbook(tmp_path, Selection([], []))
    assert shown(book.all(2.0)) == [("web", "one"), ("web", "two")]
    book.close()
