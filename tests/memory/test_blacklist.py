"""The shared blacklist: what one process sets, all see, whatever becomes of it."""

import os
import random
import re
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.memory.tools import Clock, Dying, Interrupted

from meshvisor.shared.core.penalties import FailureSeverity
from meshvisor.shared.errors import BlacklistError
from meshvisor.shared.memory import table as table_module
from meshvisor.shared.memory.blacklist import BlacklistStatistics, SharedBlacklist
from meshvisor.shared.memory.entry import Entry, Penalty
from meshvisor.shared.memory.segment import HEADER_WORDS, Layout, Segment
from meshvisor.shared.memory.table import GENERATION

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

Attach = Callable[..., SharedBlacklist]
KEY, OTHER = "tcp:127.0.0.1:4500", "unix:/run/a.sock"


def in_child(work: Callable[[], bool]) -> bool:
    """Return what ``work`` says in a forked child."""
    pid = os.fork()
    if not pid:
        status = 2
        try:
            status = 0 if work() else 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_what_one_sets_the_other_sees_until_it_expires(
    blacklist: SharedBlacklist, attach: Attach, clock: Clock
) -> None:
    other = attach()
    assert blacklist.set_penalty(KEY, FailureSeverity.HARD, 10.0)
    assert other.get_penalty(KEY) == Penalty(KEY, FailureSeverity.HARD, 10.0, False, "first", 1, 0)
    clock.advance(9.999)
    assert other.remaining(KEY) == 0.001
    assert other.active() == [Penalty(KEY, FailureSeverity.HARD, 0.001, False, "first", 1, 0)]
    clock.advance(0.001)
    for each in (blacklist, other):
        assert each.remaining(KEY) == each.asked(KEY) == 0.0
        assert each.get_penalty(KEY) is None
        assert each.active() == []


def test_a_change_is_seen_at_the_next_read_whatever_was_read_before(
    blacklist: SharedBlacklist, attach: Attach, clock: Clock
) -> None:
    other = attach()
    assert (other.remaining(KEY), other.remaining(OTHER)) == (0.0, 0.0)
    blacklist.set_penalty(KEY, "soft", 5.0)
    assert (other.remaining(KEY), other.remaining(OTHER)) == (5.0, 0.0)
    blacklist.set_penalty(OTHER, "soft", 2.0)
    assert (other.remaining(KEY), other.remaining(OTHER)) == (5.0, 2.0)
    clock.advance(1.0)
    blacklist.set_penalty(OTHER, "soft", 7.0)
    assert (other.remaining(KEY), other.remaining(OTHER)) == (4.0, 7.0)
    blacklist.clear_penalty(OTHER)
    assert (other.remaining(KEY), other.remaining(OTHER)) == (4.0, 0.0)


def test_setting_says_whether_anything_changed(blacklist: SharedBlacklist, attach: Attach, clock: Clock) -> None:
    other = attach()
    assert blacklist.set_penalty(KEY, "hard", 10.0)
    assert not blacklist.set_penalty(KEY, "hard", 10.0)
    assert not other.set_penalty(KEY, "soft", 9.0)
    assert other.get_penalty(KEY) == Penalty(KEY, FailureSeverity.HARD, 10.0, False, "first", 2, 0)
    assert other.set_penalty(KEY, "fatal", 9.0)
    assert other.set_penalty(KEY, "soft", 9.0, retry_after=True)
    assert not other.set_penalty(KEY, "soft", 9.0, retry_after=True)
    assert other.get_penalty(KEY) == Penalty(KEY, FailureSeverity.FATAL, 10.0, True, "second", 2, 0)
    assert (other.remaining(KEY), other.asked(KEY)) == (10.0, 9.0)


def test_wrong_arguments_are_refused_and_change_nothing(blacklist: SharedBlacklist) -> None:
    generation = blacklist.statistics().generation
    with pytest.raises(ValueError, match="key"):
        blacklist.set_penalty("", "hard", 1.0)
    with pytest.raises(ValueError, match="severity"):
        blacklist.set_penalty(KEY, "bad", 1.0)
    with pytest.raises(ValueError, match="duration"):
        blacklist.set_penalty(KEY, "hard", 0.0)
    for read in (blacklist.remaining, blacklist.asked, blacklist.get_penalty, blacklist.forgive):
        with pytest.raises(ValueError, match="key"):
            read("x" * 256)
    assert blacklist.active() == []
    assert blacklist.statistics().generation == generation


def test_a_key_of_any_length_and_alphabet_is_a_key_of_its_own(blacklist: SharedBlacklist, attach: Attach) -> None:
    keys = ["x", "x" * 255, "ü" * 127, "\0", " ", "x\n", "𝄞" * 63]
    for number, key in enumerate(keys, 1):
        assert blacklist.set_penalty(key, "soft", number)
    other = attach()
    assert [other.remaining(key) for key in keys] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    assert {penalty.key for penalty in other.active()} == set(keys)


def test_strikes_are_counted_for_all_and_forgiven_with_time(
    blacklist: SharedBlacklist, attach: Attach, clock: Clock
) -> None:
    other = attach()
    assert [each.strike(KEY, "hard", 10.0) for each in (blacklist, other, blacklist)] == [10.0, 20.0, 30.0]
    assert other.get_penalty(KEY) == Penalty(KEY, FailureSeverity.HARD, 30.0, False, "first", 2, 3)
    clock.advance(40.0)
    assert (other.remaining(KEY), other.active()) == (0.0, [])
    blacklist.prune()  # one strike is forgiven, two are not
    assert other.strike(KEY, "hard", 10.0) == 30.0
    clock.advance(60.0)
    blacklist.prune()
    assert other.strike(KEY, "hard", 10.0) == 10.0


def test_forgiving_leaves_what_was_asked_for(blacklist: SharedBlacklist, attach: Attach) -> None:
    other = attach()
    blacklist.set_penalty(KEY, "soft", 4.0, retry_after=True)
    blacklist.strike(KEY, "fatal", 10.0)
    blacklist.strike(OTHER, "hard", 10.0)
    assert other.forgive(KEY)
    assert other.forgive(OTHER)
    assert not other.forgive("never seen")
    assert (blacklist.remaining(KEY), blacklist.asked(KEY), blacklist.remaining(OTHER)) == (4.0, 4.0, 0.0)
    assert blacklist.strike(KEY, "hard", 10.0) == 10.0


def test_clearing_forgets_one_or_all(blacklist: SharedBlacklist, attach: Attach) -> None:
    other = attach()
    for key in ("a", "b", "c"):
        blacklist.strike(key, "hard", 10.0)
    assert other.clear_penalty("a")
    assert not other.clear_penalty("a")
    assert [penalty.key for penalty in blacklist.active()] == ["b", "c"]
    assert other.clear()
    assert blacklist.active() == []
    assert blacklist.strike("b", "hard", 10.0) == 10.0


def test_a_full_table_loses_what_ends_soonest_and_counts_it(clock: Clock) -> None:
    with SharedBlacklist.create(capacity=4, clock=clock) as blacklist:
        for key, duration in (("a", 9.0), ("b", 3.0), ("c", 5.0), ("d", 7.0)):
            blacklist.set_penalty(key, "hard", duration)
        assert blacklist.set_penalty("e", "hard", 1.0)
        assert [penalty.key for penalty in blacklist.active()] == ["a", "c", "d", "e"]
        assert blacklist.statistics() == BlacklistStatistics(4, 4, 1, 0, 0, blacklist.statistics().generation)
        clock.advance(5.0)  # e and c make room themselves
        assert blacklist.set_penalty("f", "hard", 1.0)
        assert blacklist.set_penalty("g", "hard", 1.0)
        assert [penalty.key for penalty in blacklist.active()] == ["a", "d", "f", "g"]
        assert blacklist.statistics().evictions == 1


def test_the_words_of_the_table_are_as_drawn(clock: Clock) -> None:
    assert table_module.__doc__ is not None
    drawn = {name: int(word) for word, name in re.findall(r"^    word (\d+) +([a-z ]+)", table_module.__doc__, re.M)}
    with SharedBlacklist.create(capacity=1, clock=clock) as blacklist:
        words = blacklist._words
        for number, key in enumerate(("a", "b"), 1):
            blacklist.set_penalty(key, "hard", 1.0)
            assert words[drawn["generation"]] == 2 * number
        assert words[drawn["used"]] == words[drawn["evictions"]] == 1
        assert words[drawn["when the expired were last looked for"]] == clock.now
        assert words[drawn["the tag from which they are looked for next"]] == 0
        assert words[drawn["latest"]] >> 20 == 2  # the write after it has changed two entries
        assert (words[drawn["latest"]] & 0xFFFFF) - 1 == zlib.crc32(b"a") % 2
        assert len(drawn) == 6
        tags = words[HEADER_WORDS : HEADER_WORDS + 2].tolist()
        assert sorted(tags) in ([0, zlib.crc32(b"b") | 1 << 32 | 1 << 40], [1, zlib.crc32(b"b") | 1 << 32 | 1 << 40])


def test_what_is_remembered_for_its_strikes_alone_makes_room_uncounted(clock: Clock) -> None:
    with SharedBlacklist.create(capacity=2, clock=clock) as blacklist:
        for _ in range(5):
            blacklist.strike("old", "hard", 1.0)
        blacklist.set_penalty("new", "hard", 60.0)
        clock.advance(6.0)
        assert blacklist.set_penalty("newer", "hard", 1.0)
        assert blacklist.statistics().evictions == 0
        assert blacklist.strike("old", "hard", 1.0) == 1.0  # forgotten, and now "newer" is the soonest to go
        assert [penalty.key for penalty in blacklist.active()] == ["new", "old"]
        assert blacklist.statistics().evictions == 1


def test_the_expired_are_forgotten_by_and_by_without_being_asked_for(blacklist: SharedBlacklist, clock: Clock) -> None:
    for number in range(1000):
        blacklist.set_penalty(f"key-{number}", "hard", 1.0)
    assert sum(1 for _ in blacklist._table.taken()) == 1000
    for _ in range(3):
        clock.advance(1.0)
        blacklist.set_penalty(KEY, "hard", 60.0)
    assert [blacklist._table.entry(slot) for slot in blacklist._table.taken()] == [blacklist._table.find(KEY)]


def test_a_lock_that_is_held_elsewhere_gives_up_writes_and_no_reads(
    blacklist: SharedBlacklist, attach: Attach, clock: Clock
) -> None:
    other = attach()
    blacklist.set_penalty(KEY, "hard", 10.0)
    assert blacklist._segment.lock()
    assert other.set_penalty(KEY, "fatal", 20.0) is False
    assert other.strike(KEY, "fatal", 20.0) is None
    assert not any([other.forgive(KEY), other.clear_penalty(KEY), other.clear(), other.prune()])
    assert other.get_penalty(KEY) == Penalty(KEY, FailureSeverity.HARD, 10.0, False, "first", 1, 0)
    assert other.statistics().contended == 6
    blacklist._segment.unlock()
    assert other.set_penalty(KEY, "fatal", 20.0) is True


def test_what_changes_nothing_needs_no_lock(blacklist: SharedBlacklist, attach: Attach) -> None:
    other = attach(source="first")
    blacklist.set_penalty(KEY, "hard", 10.0)
    generation = blacklist.statistics().generation
    assert blacklist._segment.lock()
    assert other.set_penalty(KEY, "soft", 5.0) is False
    assert not any([other.forgive(OTHER), other.clear_penalty(OTHER)])
    blacklist._segment.unlock()
    assert (other.statistics().contended, other.statistics().generation) == (0, generation)


def test_what_somebody_else_wrote_while_the_lock_was_awaited_counts(
    blacklist: SharedBlacklist, attach: Attach, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = attach(source="second")
    lock = blacklist._segment.lock

    def late() -> bool:
        monkeypatch.undo()
        other.set_penalty(KEY, "fatal", 20.0)
        clock.advance(1.0)
        return lock()

    monkeypatch.setattr(blacklist._segment, "lock", late)
    assert blacklist.set_penalty(KEY, "soft", 30.0) is True
    assert blacklist.get_penalty(KEY) == Penalty(KEY, FailureSeverity.FATAL, 30.0, False, "first", 2, 0)
    assert other.get_penalty(KEY) == blacklist.get_penalty(KEY)


def test_penalties_outlive_the_process_that_set_them(blacklist: SharedBlacklist) -> None:
    def child() -> bool:
        mine = SharedBlacklist.attach(blacklist.fileno(), source="gone", clock=blacklist._clock)
        return mine.set_penalty(KEY, "hard", 10.0) and blacklist.set_penalty(OTHER, "soft", 10.0)

    assert in_child(child)
    assert [(penalty.key, penalty.source) for penalty in blacklist.active()] == [(KEY, "gone"), (OTHER, "first")]


def test_a_penalty_that_comes_while_all_are_read_is_not_longer_than_it_was_set(
    blacklist: SharedBlacklist, attach: Attach, clock: Clock
) -> None:
    def late() -> int:
        now = clock()
        clock.advance(1.0)
        blacklist.set_penalty(KEY, "hard", 10.0)
        return now

    other = attach(clock=late)
    assert [penalty.remaining <= 10.0 for penalty in other.active() + other.active()] == [True]


def test_without_a_name_each_process_is_one_reporter(clock: Clock) -> None:
    with SharedBlacklist.create(clock=clock) as blacklist:
        blacklist.set_penalty(KEY, "hard", 10.0)
        for _ in range(2):
            assert in_child(lambda: not blacklist.set_penalty(KEY, "hard", 5.0))
        penalty = blacklist.get_penalty(KEY)
        assert penalty is not None
        assert penalty.reporters == 3


def test_a_blacklist_by_path_is_found_again_by_whoever_comes(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "blacklist"
    with SharedBlacklist.create(path, capacity=8, source="a", clock=clock) as one:
        one.set_penalty(KEY, "hard", 10.0)
        assert one.wake_fd == -1
    with (
        SharedBlacklist.attach(str(path), clock=clock) as two,
        SharedBlacklist.create(path, clock=clock) as three,
    ):
        assert two.active() == three.active() == [Penalty(KEY, FailureSeverity.HARD, 10.0, False, "a", 1, 0)]
        assert three.statistics().capacity == 8


def test_what_is_no_blacklist_is_refused(tmp_path: Path, blacklist: SharedBlacklist) -> None:
    board = Segment.create(Layout(2, 1, "board", 64), 4)
    with pytest.raises(BlacklistError, match="not a blacklist"):
        SharedBlacklist.attach(board.fileno())
    with pytest.raises(BlacklistError, match="cannot be opened"):
        SharedBlacklist.attach(tmp_path / "missing")
    with pytest.raises(BlacklistError, match="not an eventfd"):
        SharedBlacklist.attach(blacklist.fileno(), wake_fd=board.fileno())
    with pytest.raises(ValueError, match="source"):
        SharedBlacklist.attach(blacklist.fileno(), source="x" * 81)
    board.close()


def test_a_closed_blacklist_says_so_and_leaves_no_descriptor() -> None:
    before = set(os.listdir("/proc/self/fd"))
    blacklist = SharedBlacklist.create()
    blacklist.set_penalty(KEY, "hard", 10.0)
    assert blacklist.remaining(KEY) > 0
    blacklist.close()
    blacklist.close()
    assert set(os.listdir("/proc/self/fd")) == before
    for use in (
        lambda: blacklist.remaining(KEY),
        lambda: blacklist.get_penalty(KEY),
        lambda: blacklist.set_penalty(KEY, "hard", 1.0),
        lambda: blacklist.subscribe(print),
        blacklist.active,
        blacklist.statistics,
        blacklist.clear,
    ):
        with pytest.raises(BlacklistError, match="is closed"):
            use()


def test_a_thread_that_is_overtaken_while_it_reads_does_not_keep_what_it_read(
    blacklist: SharedBlacklist, attach: Attach, clock: Clock
) -> None:
    """Between reading a record and remembering its key, another thread of the process reads a later one."""
    other = attach()
    blacklist.set_penalty(KEY, "hard", 10.0)
    table = other._table
    remember = table._remember

    def overtaken(slot: int, tag: int, entry: Entry) -> None:
        table._remember = remember  # type: ignore[method-assign]
        blacklist.set_penalty(KEY, "hard", 20.0)
        table.entry(slot)
        remember(slot, tag, entry)

    table._remember = overtaken  # type: ignore[method-assign]
    other.remaining(KEY)
    assert other.remaining(KEY) == 20.0


def test_threads_share_one_handle(blacklist: SharedBlacklist) -> None:
    barrier = threading.Barrier(4)
    done: list[int] = []

    def work(number: int) -> None:
        barrier.wait()
        done.append(sum(blacklist.strike(KEY, "hard", 0.5) is not None for _ in range(50)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    penalty = blacklist.get_penalty(KEY)
    assert penalty is not None
    assert penalty.strikes == sum(done)


def test_what_was_looked_up_is_not_kept_without_bound(clock: Clock) -> None:
    with SharedBlacklist.create(capacity=4, clock=clock) as blacklist:
        for number in range(200):
            blacklist.remaining(f"never set {number}")
            blacklist.set_penalty(f"set {number}", "hard", 1.0)
            blacklist.remaining(f"never set {number}")
        for number in range(200):
            blacklist.remaining(f"never set {number}")
        assert len(blacklist._found[1]) <= 16
        assert len(blacklist._table._known) <= 8
        assert len(blacklist._table._homes) <= 8
        assert len(blacklist._table._read) <= 8


# Writers that end, and garbage.


def test_a_writer_that_ends_at_any_store_leaves_the_old_or_the_new_penalty(clock: Clock) -> None:
    stop, ended = 0, False
    while not ended:
        with (
            SharedBlacklist.create(capacity=4, source="live", clock=clock) as blacklist,
            SharedBlacklist.attach(blacklist.fileno(), clock=clock) as writer,
        ):
            for key, duration in (("a", 4.0), ("b", 5.0), ("c", 6.0), ("d", 7.0)):
                blacklist.set_penalty(key, "hard", duration)
            before = blacklist.active()
            budget = [stop]
            table = writer._table
            table._words = Dying(table._words, budget)  # type: ignore[assignment]
            table._records._words = Dying(table._records._words, budget)  # type: ignore[assignment]
            table._records._data = Dying(table._records._data, budget)  # type: ignore[assignment]
            try:
                writer.set_penalty("e", "hard", 8.0)
                ended = True
            except Interrupted:
                pass
            old, new = {penalty.key for penalty in before}, {"b", "c", "d", "e"}
            seen = {penalty.key for penalty in blacklist.active()}
            assert seen in (old, new, old & new)  # the one that had to go may be gone before the other has come
            assert {key for key in old | new if blacklist.remaining(key)} == seen
            # Every key can be read and written afterwards, and the table is no smaller than it was.
            for key in ("a", "b", "c", "d"):
                assert blacklist.set_penalty(key, "fatal", 20.0)
            assert [penalty.key for penalty in blacklist.active()] == ["a", "b", "c", "d"]
            assert {penalty.severity for penalty in blacklist.active()} == {FailureSeverity.FATAL}
            assert not blacklist.statistics().generation & 1
        stop += 1
    assert stop > 40


def test_a_reader_ends_the_write_of_a_dead_writer_and_leaves_that_of_a_living_one(
    blacklist: SharedBlacklist, attach: Attach, clock: Clock
) -> None:
    other = attach()
    blacklist.set_penalty(KEY, "hard", 10.0)
    assert other.remaining(KEY) == 10.0
    blacklist._table._writing()
    assert blacklist._segment.lock()  # stopped while writing
    assert (other.remaining(KEY), other.remaining(OTHER)) == (10.0, 0.0)
    assert other.statistics().generation & 1
    blacklist._segment.unlock()  # killed
    clock.advance(1.0)
    assert (other.remaining(KEY), other.remaining(OTHER)) == (9.0, 0.0)
    assert not other.statistics().generation & 1
    assert other.statistics().contended == 0


@pytest.mark.parametrize("seed", range(12))
def test_garbage_is_skipped_and_counted_and_written_over(clock: Clock, seed: int) -> None:
    rng = random.Random(seed)
    with (
        SharedBlacklist.create(capacity=8, clock=clock) as blacklist,
        SharedBlacklist.attach(blacklist.fileno(), clock=clock) as fresh,
    ):
        for number in range(6):
            blacklist.set_penalty(f"key-{number}", "hard", 10.0)
        data = blacklist._segment.data
        begin = rng.choice([GENERATION * 8, HEADER_WORDS * 8, (HEADER_WORDS + 16) * 8])
        if seed % 2:
            data[begin:] = rng.randbytes(len(data) - begin)
        else:
            for _ in range(200):
                at = rng.randrange(begin, len(data))
                data[at] = rng.randrange(256)
        for each in (blacklist, fresh):
            for penalty in each.active():
                assert penalty.key in {f"key-{number}" for number in range(6)}
                assert penalty.remaining == 10.0
            for number in range(6):
                assert each.remaining(f"key-{number}") in (0.0, 10.0)
        for each in (fresh, blacklist):
            for number in range(20):
                assert each.set_penalty(f"new-{number}", "soft", 20.0 + number)
                assert blacklist.remaining(f"new-{number}") == fresh.remaining(f"new-{number}") == 20.0 + number
            assert each.clear()
            assert each.active() == []
        if seed % 2:
            assert fresh.statistics().skipped > 0 or begin != (HEADER_WORDS + 16) * 8


def test_a_reader_keeps_its_last_good_copy(blacklist: SharedBlacklist, attach: Attach, clock: Clock) -> None:
    knows, fresh = attach(), attach()
    blacklist.set_penalty(KEY, "hard", 10.0)
    assert knows.remaining(KEY) == 10.0
    (slot,) = blacklist._table.taken()
    begin = blacklist._table._records.word(slot) * 8
    blacklist._segment.data[begin : begin + 100] = b"\xa5" * 100
    blacklist._segment.words[GENERATION] += 2
    assert knows.remaining(KEY) == 10.0
    assert knows.statistics().skipped > 0
    assert fresh.remaining(KEY) == 0.0
    assert fresh.set_penalty(KEY, "hard", 10.0)
    assert knows.remaining(KEY) == fresh.remaining(KEY) == 10.0


operations = st.lists(
    st.tuples(
        st.sampled_from(["set", "strike", "forgive", "clear", "prune", "wait", "clear all"]),
        st.integers(0, 11),
        st.integers(1, 5),
        st.booleans(),
    ),
    max_size=60,
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(operations)
def test_any_series_of_operations_through_two_handles_is_that_of_one_dict(
    series: list[tuple[str, int, int, bool]],
) -> None:
    clock = Clock()
    model: dict[str, int] = {}
    with (
        SharedBlacklist.create(capacity=12, clock=clock) as one,
        SharedBlacklist.attach(one.fileno(), clock=clock) as two,
    ):
        for operation, number, seconds, first in series:
            key, each = f"k{number}", one if first else two
            if operation == "set":
                each.set_penalty(key, "hard", seconds)
                model[key] = max(model.get(key, 0), clock.now + seconds * 10**9)
            elif operation == "strike":
                barred = each.strike(key, "hard", seconds)
                assert barred is not None
                model[key] = clock.now + round(barred * 10**9)
            elif operation in ("forgive", "clear"):
                (each.forgive if operation == "forgive" else each.clear_penalty)(key)
                model.pop(key, None)
            elif operation == "prune":
                each.prune()
            elif operation == "wait":
                clock.advance(seconds)
            elif operation == "clear all" and number == 0:
                each.clear()
                model.clear()
            expected = {key: until - clock.now for key, until in model.items() if until > clock.now}
            for handle in (one, two):
                assert {p.key: round(p.remaining * 10**9) for p in handle.active()} == expected
                for number in range(12):
                    assert round(handle.remaining(f"k{number}") * 10**9) == expected.get(f"k{number}", 0)
        assert one._words[GENERATION + 1] == sum(1 for _ in one._table.taken())
        one.clear()
        assert not any(one._words[HEADER_WORDS : HEADER_WORDS + 24].tolist())


def test_the_real_clock_is_that_of_the_machine() -> None:
    with SharedBlacklist.create() as blacklist:
        begin = time.monotonic()
        blacklist.set_penalty(KEY, "hard", 0.02)
        while blacklist.remaining(KEY):
            pass
        assert time.monotonic() - begin >= 0.02
