"""The rules by which penalties change, against a model that is plain, and their form in memory, against garbage."""

import itertools
import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshvisor.shared.core.penalties import MAX_PENALTY, FailureSeverity, Penalties
from meshvisor.shared.memory import entry as module
from meshvisor.shared.memory.entry import (
    LONGEST,
    MAX_REPORTERS,
    PAYLOAD,
    SECOND,
    Entry,
    Penalty,
    Reporter,
    decode,
    encode,
    encoded_key,
    forgiven,
    is_same,
    nanoseconds,
    penalised,
    rank,
    reporter,
    struck,
)

KEY = "tcp:127.0.0.1:4500"
A, B = reporter("a", 1), reporter("b", 1)
SOFT, HARD, FATAL = range(3)


def at(seconds: float) -> int:
    return round(seconds * SECOND)


def test_a_new_penalty_is_what_was_reported() -> None:
    entry = penalised(None, KEY, HARD, at(10), at(100), A)
    assert entry == Entry(KEY, at(110), HARD, 0, 0, 0, A.mark, "a")
    assert entry.penalty(at(103)) == Penalty(KEY, FailureSeverity.HARD, 7.0, False, "a", 1, 0)
    assert entry.penalty(at(111)).remaining == 0.0
    assert Penalty(KEY, FailureSeverity.HARD, 7.0) == Penalty(KEY, FailureSeverity.HARD, 7.0, False, "", 1, 0)


def test_the_later_end_and_the_higher_severity_count() -> None:
    old = penalised(None, KEY, HARD, at(10), 0, A)
    assert penalised(old, KEY, SOFT, at(10), at(5), A) == Entry(KEY, at(15), HARD, 0, 0, 0, A.mark, "a")
    assert penalised(old, KEY, FATAL, at(1), at(5), A) == Entry(KEY, at(10), FATAL, 0, 0, 0, A.mark, "a")
    assert penalised(old, KEY, HARD, at(5), at(5), A) is old


def test_retry_after_stays_if_either_had_it() -> None:
    asked = penalised(None, KEY, SOFT, at(3), 0, A, asked=True)
    assert (asked.asked, asked.penalty(0).retry_after) == (at(3), True)
    both = penalised(asked, KEY, HARD, at(10), at(1), B)
    assert (both.until, both.asked, both.penalty(at(5)).retry_after) == (at(11), at(3), True)
    later = penalised(penalised(None, KEY, HARD, at(10), 0, A), KEY, SOFT, at(2), 0, A, asked=True)
    assert (later.until, later.asked, later.severity) == (at(10), at(2), HARD)


def test_an_expired_entry_lends_nothing() -> None:
    old = penalised(None, KEY, FATAL, at(10), 0, A, asked=True)
    assert penalised(old, KEY, SOFT, at(1), at(10), B) == Entry(KEY, at(11), SOFT, 0, 0, 0, B.mark, "b")
    once = struck(None, KEY, FATAL, at(10), 0, A)
    assert penalised(once, KEY, SOFT, at(1), at(20), B) == penalised(None, KEY, SOFT, at(1), at(20), B)


def test_reporters_are_counted_once_each_and_the_source_is_who_changed_it_last() -> None:
    entry = penalised(None, KEY, HARD, at(10), 0, A)
    entry = penalised(entry, KEY, HARD, at(5), 0, B)
    assert (entry.penalty(0).reporters, entry.source) == (2, "a")
    assert penalised(entry, KEY, HARD, at(5), 0, A) is entry
    entry = penalised(entry, KEY, HARD, at(20), 0, B)
    assert (entry.penalty(0).reporters, entry.source) == (2, "b")
    for number in range(20):
        entry = penalised(entry, KEY, HARD, at(5), 0, reporter(f"worker-{number}", 1))
    assert entry.penalty(0).reporters == MAX_REPORTERS


@pytest.mark.parametrize("mark", [b"bcde", b"cdef", b"defg"])
def test_a_mark_across_two_others_is_none_of_them(mark: bytes) -> None:
    others = b"abcdefgh"
    entry = Entry(KEY, at(10), HARD, reporters=others)
    joined = penalised(entry, KEY, HARD, at(1), 0, Reporter("x", mark))
    assert joined.reporters == others + mark
    again = penalised(joined, KEY, HARD, at(1), 0, Reporter("x", mark))
    assert again is joined


def test_processes_without_a_name_are_different_reporters() -> None:
    assert reporter("", 1) != reporter("", 2)
    assert reporter("1", 1) != reporter("", 1)
    assert reporter("a", 1) == reporter("a", 2)


@pytest.mark.parametrize("source", ["x" * 81, "ü" * 41, "\ud800", None, b"x"])
def test_a_source_that_cannot_be_is_refused(source: object) -> None:
    with pytest.raises(ValueError, match="source must be a text of at most 80 bytes"):
        reporter(source, 1)  # type: ignore[arg-type]


def test_a_key_is_a_text_of_1_to_255_bytes() -> None:
    assert encoded_key("ü" * 127 + "x") == b"\xc3\xbc" * 127 + b"x"
    for key in ("", "x" * 256, "ü" * 128, "\ud800", b"tcp:a:1", None):
        with pytest.raises(ValueError, match="key must be a text of 1 to 255 bytes, not "):
            encoded_key(key)  # type: ignore[arg-type]


def test_entries_that_bar_in_the_same_way_are_the_same_whoever_reported_them() -> None:
    one = penalised(None, KEY, HARD, at(10), 0, A, asked=True)
    assert is_same(one, penalised(None, KEY, HARD, at(10), 0, B, asked=True))
    assert not is_same(one, penalised(None, KEY, HARD, at(11), 0, A, asked=True))
    assert not is_same(one, penalised(None, KEY, FATAL, at(10), 0, A, asked=True))
    assert not is_same(one, penalised(None, KEY, HARD, at(10), 0, A))


def test_each_strike_in_a_row_bars_for_longer() -> None:
    entry, barred = None, []
    for _ in range(32):
        entry = struck(entry, KEY, HARD, at(10), 0, A)
        barred.append(entry.until // SECOND)
    assert barred == [*range(10, 301, 10), 300, 300]
    assert entry is not None
    assert entry.strikes == 32


def test_strikes_are_counted_as_far_as_there_is_room_for_the_number() -> None:
    most = 2**32 - 1
    entry = struck(Entry(KEY, at(10), HARD, pace=at(10), strikes=most), KEY, HARD, at(10), 0, A)
    assert entry.strikes == most
    assert decode(encode(entry), 0) == entry


def test_there_is_room_for_the_longest_entry_and_no_more() -> None:
    longest = Entry("x" * 255, at(10), FATAL, reporters=bytes(4 * MAX_REPORTERS), source="x" * 80)
    assert len(encode(longest)) == PAYLOAD


def test_one_strike_is_forgiven_for_each_duration_without_a_failure() -> None:
    entry: Entry | None = None
    for _ in range(3):
        entry = struck(entry, KEY, HARD, at(10), 0, A)
    assert entry is not None
    assert (entry.until, entry.forgotten_at) == (at(30), at(60))
    assert struck(entry, KEY, HARD, at(10), at(39.999), A).strikes == 4
    assert struck(entry, KEY, HARD, at(10), at(40), A).strikes == 3
    assert struck(entry, KEY, HARD, at(10), at(60), A) == struck(None, KEY, HARD, at(10), at(60), A)
    # A penalty of another kind meanwhile neither counts as a failure nor makes anything forgotten.
    kept = penalised(entry, KEY, SOFT, at(5), at(45), B)
    assert (kept.strikes, kept.severity, kept.until) == (2, SOFT, at(50))


def test_strikes_follow_the_rules_of_the_private_table() -> None:
    private = Penalties(2.0)
    entry: Entry | None = None
    for now in (0.0, 0.5, 1.0, 9.0, 30.0, 30.0, 100.0, 103.0, 104.0, 400.0):
        entry = struck(entry, KEY, HARD, at(2), at(now), A)
        assert entry.until - at(now) == at(private.fail(KEY, now))


def test_forgiving_leaves_what_was_asked_for() -> None:
    entry = penalised(struck(None, KEY, FATAL, at(10), 0, A), KEY, SOFT, at(4), 0, B, asked=True)
    left = forgiven(entry, at(1))
    assert left == Entry(KEY, at(4), SOFT, at(4), 0, 0, A.mark + B.mark, "b")
    assert forgiven(entry, at(4)) is None
    assert forgiven(struck(None, KEY, HARD, at(10), 0, A), 0) is None


@pytest.mark.parametrize(
    ("duration", "stored"),
    [(0.1, at(0.1)), (10, at(10)), (1e-9, at(0.001)), (1e9, LONGEST), (10**400, LONGEST), (MAX_PENALTY, LONGEST)],
)
def test_a_duration_is_stored_as_it_is_within_limits(duration: float, stored: int) -> None:
    assert nanoseconds(duration) == stored


@pytest.mark.parametrize("duration", [0, -1, 0.0, -0.0, math.nan, math.inf, -math.inf, True, "1", None, 1j])
def test_a_duration_that_cannot_be_is_refused(duration: object) -> None:
    with pytest.raises(ValueError, match="duration must be a finite number of seconds above 0"):
        nanoseconds(duration)  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["", "x" * 256, "ü" * 128, "\ud800", b"tcp:x", None, 5])
def test_a_key_that_cannot_be_is_refused(key: object) -> None:
    with pytest.raises(ValueError, match="key must be a text of 1 to 255 bytes"):
        encoded_key(key)  # type: ignore[arg-type]


def test_severities_are_given_by_themselves_or_by_their_text() -> None:
    assert [rank(severity) for severity in FailureSeverity] == [rank(text) for text in ("soft", "hard", "fatal")]
    nonsense: list[object] = ["HARD", "", 1, None, []]
    for severity in nonsense:
        with pytest.raises(ValueError, match="severity must be one of soft, hard, fatal"):
            rank(severity)  # type: ignore[arg-type]


reports = st.tuples(
    st.integers(0, 5),  # how much later, in seconds
    st.sampled_from([SOFT, HARD, FATAL]),
    st.integers(1, 8),  # for how long
    st.booleans(),  # asked for
    st.integers(0, 10),  # by whom
)


@settings(deadline=None, derandomize=True)
@given(st.lists(reports, max_size=30))
def test_any_series_of_reports_is_what_a_plain_model_makes_of_it(series: list[tuple[int, int, int, bool, int]]) -> None:
    """The model keeps every report of the present life of an entry, and derives everything from all of them."""
    entry: Entry | None = None
    life: list[tuple[int, int, bool, int]] = []
    now = 0
    for later, severity, duration, asked, who in series:
        now += later
        if max((end for end, *_ in life), default=0) <= now:
            life = []
        before = _verdict(life)
        life.append((now + duration, severity, asked, who))
        new = penalised(entry, KEY, severity, at(duration), at(now), reporter(str(who), 0), asked=asked)
        until, worst, asked_until, reporters = _verdict(life)
        assert (new.until, new.severity, new.asked) == (at(until), worst, at(asked_until))
        assert new.penalty(at(now)).reporters == min(MAX_REPORTERS, reporters)
        if before[:3] != (until, worst, asked_until):
            assert new.source == str(who)
        elif len(life) > 1 and entry is not None:
            assert new.source == entry.source
        entry = new


def _verdict(life: list[tuple[int, int, bool, int]]) -> tuple[int, int, int, int]:
    return (
        max((end for end, *_ in life), default=0),
        max((severity for _, severity, *_ in life), default=-1),
        max((end for end, _, asked, _ in life if asked), default=0),
        len({who for *_, who in life}),
    )


texts = st.text(st.characters(codec="utf-8"), max_size=60)
entries = st.builds(
    lambda key, until, left, severity, strikes, pace, marks, source: Entry(
        key, until, severity, until - left, pace, strikes, b"".join(marks), source
    ),
    texts.filter(lambda key: 0 < len(key.encode()) <= 255),
    st.integers(LONGEST, 2 * LONGEST),
    st.integers(0, LONGEST),
    st.integers(0, 2),
    st.integers(0, 2**32 - 1),
    st.integers(1, LONGEST),
    st.lists(st.binary(min_size=4, max_size=4), max_size=MAX_REPORTERS),
    texts.filter(lambda source: len(source.encode()) <= 80),
)


@settings(deadline=None, derandomize=True)
@given(entries)
def test_what_was_written_is_read(entry: Entry) -> None:
    payload = encode(entry)
    assert len(payload) <= PAYLOAD
    assert decode(payload, LONGEST) == entry


@settings(deadline=None, derandomize=True)
@given(st.binary(max_size=PAYLOAD), st.integers(0, 2**63))
def test_random_bytes_are_nothing_or_an_entry_that_could_be(payload: bytes, now: int) -> None:
    assert _is_sound(decode(payload, now), now)


@settings(deadline=None, derandomize=True)
@given(entries, st.integers(0, 100), st.integers(0, 255))
def test_a_changed_byte_makes_nothing_or_an_entry_that_could_be(entry: Entry, at: int, value: int) -> None:
    payload = bytearray(encode(entry))
    payload[at % len(payload)] = value
    assert _is_sound(decode(bytes(payload), LONGEST), LONGEST)


def _is_sound(entry: Entry | None, now: int) -> bool:
    if entry is None:
        return True
    penalty = entry.penalty(now)
    return (
        0.0 <= penalty.remaining <= MAX_PENALTY
        and penalty.severity in FailureSeverity
        and 0 <= penalty.reporters <= MAX_REPORTERS
        and 0 < len(entry.key.encode()) <= 255
        and (not entry.strikes or 0 < entry.pace <= LONGEST)
    )


GOOD = encode(Entry("key", at(10), HARD, at(5), at(1), 3, b"mark", "source"))


@pytest.mark.parametrize(
    "payload",
    [
        GOOD[:-1],
        GOOD + b"x",
        GOOD[:31],
        b"",
        GOOD[:28] + b"\x03" + GOOD[29:],  # severity
        GOOD[:29] + b"\x09" + GOOD[30:],  # reporters
        GOOD[:30] + b"\x00" + GOOD[31:],  # key
        GOOD[:31] + b"\x51" + GOOD[32:],  # source
        GOOD[:36] + b"\xff" + GOOD[37:],  # UTF-8 of the key
        GOOD[:-1] + b"\xff",  # UTF-8 of the source
        at(10_000).to_bytes(8, "little") + GOOD[8:],  # until
        GOOD[:8] + at(11).to_bytes(8, "little") + GOOD[16:],  # asked for longer than barred
        GOOD[:16] + (LONGEST + 1).to_bytes(8, "little") + GOOD[24:],  # pace
        GOOD[:16] + bytes(8) + GOOD[24:],  # strikes without pace
    ],
)
def test_what_no_writer_of_ours_writes_is_nothing(payload: bytes) -> None:
    assert decode(GOOD, 0) is not None
    assert decode(payload, 0) is None


def test_an_end_further_ahead_than_any_penalty_is_nothing() -> None:
    payload = encode(Entry("key", LONGEST + 7, HARD))
    assert decode(payload, 7) is not None
    assert decode(payload, 6) is None


def test_payloads_are_laid_out_as_drawn() -> None:
    """The drawing in the module's docstring is evaluated for one entry and compared with its bytes."""
    assert module.__doc__ is not None
    r, k, s = 2, 3, 6
    entry = Entry("key", 1 << 8, FATAL, 2 << 8, 3 << 8, 4 << 8, b"onetwo!!", "source")
    payload = encode(entry)
    sizes = {"until": 8, "asked": 8, "pace": 8, "strikes": 4, "severity": 1, "r": 1, "k": 1, "s": 1, "reporters": 4 * r}
    rows = re.findall(r"^    (\d+)(?: \.\. (\S+))?(?: \.\.)? +([a-z]+)", module.__doc__, re.MULTILINE)
    assert [name for *_, name in rows] == list(sizes)
    begin = 0
    for (first, last, name), size in zip(rows, sizes.values(), strict=False):
        assert int(first) == begin, name
        assert (31 + 4 * r if last == "31+4r" else int(last or first)) == begin + size - 1, name
        begin += size
    assert (payload[28], payload[29], payload[30], payload[31]) == (FATAL, r, k, s)
    numbers = [int.from_bytes(payload[i:j], "little") for i, j in itertools.pairwise((0, 8, 16, 24, 28))]
    assert numbers == [entry.until, entry.asked, entry.pace, entry.strikes]
    assert payload[32 : 32 + 4 * r] == entry.reporters
    assert payload[32 + 4 * r :] == b"keysource"
