"""The liveness board: what a node says is what others read, and nobody can pass for another incarnation."""

import os
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshvisor import LivenessBoard
from meshvisor.shared.errors import SegmentError
from meshvisor.shared.memory import board as module
from meshvisor.shared.memory.board import Stage, tag, waiting


@pytest.fixture
def board() -> Iterator[LivenessBoard]:
    made = LivenessBoard.create(8)
    yield made
    made.close()


def test_what_a_node_says_is_what_another_process_reads(board: LivenessBoard) -> None:
    before = time.monotonic()
    writer = board.claim(3, "counter-1", 2, 0xFFFF_FFFF_FFFF_FFFF, selector=5)
    writer.set_stage(Stage.READY)
    writer.set_endpoints(("unix:/run/a.sock", "tcp:127.0.0.1:4500"))
    writer.beat(lag=0.25, links_up=99)
    writer.account(7, 1 << 40, 1_500_000_000, 250)
    other = LivenessBoard.attach(board.fileno())
    entry = other.read(3)
    assert entry is not None
    assert (entry.index, entry.name, entry.incarnation, entry.epoch) == (3, "counter-1", 2, 0xFFFF_FFFF_FFFF_FFFF)
    assert (entry.pid, entry.tid, entry.selector) == (os.getpid(), os.getpid(), 5)
    assert (entry.stage, entry.beats, entry.lag, entry.links_up) == (Stage.READY, 1, 0.25, 99)
    assert (entry.messages_in, entry.messages_out) == (7, 1 << 40)
    assert (entry.executed, entry.waited) == (1.5, 2.5e-7)
    assert (entry.endpoints, entry.endpoints_left_out) == (("unix:/run/a.sock", "tcp:127.0.0.1:4500"), False)
    assert before <= entry.claimed_at <= entry.beat_at <= time.monotonic()
    assert other.entries() == [entry]
    assert other.find("counter-1") == entry
    assert other.find("nobody") is None
    other.close()


def test_a_slot_belongs_to_nobody_until_it_is_claimed_and_after_it_was_given_back(board: LivenessBoard) -> None:
    assert board.read(0) is None
    assert board.read(-1) is None
    assert board.read(8) is None
    first = board.claim(0, "a", 1, 11)
    first.release()
    assert board.read(0) is None
    board.claim(0, "a", 2, 12)
    first.release()
    assert board.read(0) is not None
    board.vacate(0)
    assert board.entries() == []


def test_a_stamp_says_when_the_turn_began_and_that_of_a_waiting_loop_says_so(board: LivenessBoard) -> None:
    writer = board.claim(1, "a", 7, 1)
    writer.words[writer.stamp_at] = writer.waiting
    assert board.stamp(1) == waiting(7)
    assert board.turn(board.stamp(1), 7) is None
    writer.words[writer.stamp_at] = board.base + 1_250_000_000 + writer.bias
    assert board.turn(board.stamp(1), 7) == pytest.approx(board.base / 1e9 + 1.25, abs=1e-9)
    entry = board.read(1)
    assert entry is not None
    assert entry.lateness(board.base / 1e9 + 3.25) == pytest.approx(2.0)


def test_a_scan_is_the_stamps_of_all_slots_side_by_side(board: LivenessBoard) -> None:
    for index in (0, 2):
        writer = board.claim(index, "a", index + 5, 1)
        writer.words[writer.stamp_at] = writer.waiting
    assert memoryview(board.scan(3)).cast("Q").tolist() == [waiting(5), 0, waiting(7)]


def test_what_is_older_than_the_owner_is_refused_and_writes_nothing_any_more(board: LivenessBoard) -> None:
    old = board.claim(0, "a", 3, 33)
    new = board.claim(0, "a", 4, 44)
    new.set_stage(Stage.READY)
    new.beat(links_up=2)
    new.account(5, 6, 7, 8)
    entry = board.read(0)
    assert old.beat(links_up=1000) is False
    old.account(1000, 1000, 1000, 1000)
    old.set_stage(Stage.STOPPING)
    old.set_endpoints(("tcp:127.0.0.1:1",))
    old.release()
    assert board.read(0) == entry
    with pytest.raises(SegmentError, match="slot 0 belongs to incarnation 4 already, not to 3"):
        board.claim(0, "a", 3, 33)


def test_what_a_stale_incarnation_stores_never_looks_like_the_new_ones(board: LivenessBoard) -> None:
    # It may be anywhere in its code when the new one claims the slot: every store it can still make is made here.
    for age in (1, 2, 3, 253, 254):
        old = board.claim(0, "a", 1000, 1)
        new = board.claim(0, "a", 1000 + age, 2)
        at = old._pulse
        for word in range(module.OWNER):
            old.words[at + word] = time.monotonic_ns() + old.bias
        for stamp in (old.waiting, time.monotonic_ns() + old.bias):
            old.words[old.stamp_at] = stamp
            assert board.turn(board.stamp(0), 1000 + age) is None
            assert board.stamp(0) != waiting(1000 + age)
            assert board.beat_at(0, 1000 + age) is None
        entry = board.read(0)
        assert entry is not None
        assert (entry.beats, entry.messages_in, entry.links_up, entry.turn_started_at) == (0, 0, 0, None)
        assert new.beat(links_up=2)
        assert board.beat_at(0, 1000 + age) is not None
        board.vacate(0)


def test_an_identity_that_a_stale_incarnation_wrote_last_is_nobodys(board: LivenessBoard) -> None:
    old = board.claim(0, "a", 1, 1)
    board.claim(0, "a", 2, 2)
    old._write_identity()
    assert board.read(0) is None


def test_255_incarnations_in_a_row_have_different_tags_and_none_has_the_tag_of_an_untouched_slot() -> None:
    assert {tag(incarnation) for incarnation in range(1000, 1255)} == set(range(1, 256))


def test_endpoints_too_long_for_the_board_are_left_out_and_it_says_so(board: LivenessBoard) -> None:
    writer = board.claim(0, "a" * 63, 1, 1)
    writer.set_endpoints(tuple(f"unix:/{'x' * 90}/{number}" for number in range(5)))
    entry = board.read(0)
    assert entry is not None
    assert (entry.name, entry.endpoints, entry.endpoints_left_out) == ("a" * 63, (), True)
    writer.set_endpoints(("unix:/short",))
    entry = board.read(0)
    assert entry is not None
    assert (entry.endpoints, entry.endpoints_left_out) == (("unix:/short",), False)


def test_a_slot_that_is_not_there_cannot_be_claimed(board: LivenessBoard) -> None:
    with pytest.raises(SegmentError, match="has slots 0 to 7, not 8"):
        board.claim(8, "a", 1, 1)


def test_an_owner_that_is_garbage_keeps_nobody_out(board: LivenessBoard) -> None:
    writer = board.claim(0, "a", 1, 1)
    board.words[writer._pulse + module.OWNER] = 0xDEAD_BEEF_DEAD_BEEF
    assert board.read(0) is None
    board.claim(0, "a", 2, 2)
    assert board.read(0) is not None


@given(data=st.data())
def test_garbage_is_skipped_and_nothing_is_raised(data: st.DataObject) -> None:
    board = LivenessBoard.create(2)
    writer = board.claim(0, "a", 1, 1)
    words = board.words
    for _ in range(data.draw(st.integers(1, 20))):
        part = data.draw(st.sampled_from([writer.stamp_at, writer._pulse, board._records.word(0)]))
        words[part + data.draw(st.integers(0, 7))] = data.draw(st.integers(0, 2**64 - 1))
    for entry in (board.read(0), board.find("a"), *board.entries()):
        assert entry is None or (entry.name, entry.incarnation) == ("a", 1)
    board.turn(board.stamp(0), 1)
    board.beat_at(0, 1)
    board.close()


@given(payload=st.binary(max_size=480))
def test_an_identity_that_is_whole_but_not_ours_is_skipped(payload: bytes) -> None:
    board = LivenessBoard.create(1)
    board.claim(0, "a", 1, 1)
    board._records.write(0, payload)
    assert board.read(0) is None
    board.close()
