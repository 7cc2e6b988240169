"""A record is read whole or not at all, whatever its writer was doing when it ended."""

import random
import re
from collections.abc import Iterator
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.memory.tools import Dying, Interrupted

from meshvisor.shared.memory import record as module
from meshvisor.shared.memory.record import Records, record_words
from meshvisor.shared.memory.segment import HEADER_WORDS, Layout, Segment

PAYLOAD = 20  # three words, the last one half used
N = 3
LAYOUT = Layout(kind=7, version=1, name="records", unit=record_words(PAYLOAD) * 8)


@pytest.fixture
def segment() -> Iterator[Segment]:
    made = Segment.create(LAYOUT, 3)
    yield made
    made.close()


@pytest.fixture
def records(segment: Segment) -> Records:
    return Records(segment, HEADER_WORDS, 3, PAYLOAD)


def checked(payload: bytes, sequence: int) -> int:
    return len(payload) << 32 | crc32(payload, sequence)


def test_what_was_written_is_read(records: Records) -> None:
    assert len(records) == 3
    assert records.read(1) == (0, b"")
    assert records.write(1, b"first") == 1
    assert records.write(1, b"second, and twenty b") == 2
    assert records.read(1) == (2, b"second, and twenty b")
    assert records.write(1, b"") == 3
    assert records.read(1) == (3, b"")
    assert records.read(0) == records.read(2) == (0, b"")


def test_a_payload_that_is_too_long_is_refused_and_changes_nothing(records: Records) -> None:
    records.write(0, b"good")
    with pytest.raises(ValueError, match="21 bytes are too many"):
        records.write(0, bytes(21))
    assert records.read(0) == (1, b"good")


def test_a_word_can_be_looked_at_in_passing(records: Records) -> None:
    for number in (7, 8, 9):
        records.write(2, bytes(8) + number.to_bytes(8, "little"))
        assert records.peek(2, 1) == number


def test_records_are_laid_out_as_drawn(segment: Segment, records: Records) -> None:
    """The drawing in the module's docstring is evaluated for n = 3 and compared with the words in memory."""
    assert module.__doc__ is not None
    drawn: dict[int, str] = {}
    for row in re.findall(r"^    (\d\S*|n\S*)( \.\. (\S+))? +(\S.*)$", module.__doc__, re.MULTILINE):
        first, _, last, holds = row
        at, end = (eval(text.replace("2n", "2*n"), {"n": N}) for text in (first, last or first))
        drawn |= dict.fromkeys(range(at, end + 1), holds.split(" (")[0].split(", n")[0])
    assert sorted(drawn) == list(range(record_words(PAYLOAD)))

    payloads = [b"copy 1 is this and 20", b"copy 0 is this"]
    payloads[0] = payloads[0][:PAYLOAD]
    for payload in payloads:
        records.write(1, payload)
    at = HEADER_WORDS + record_words(PAYLOAD)
    assert records.word(1) == at
    expected = {
        "sequence: how often the record was written; copy ``sequence & 1`` counts": [2],
        "copy 0: CRC-32 of its payload | length of its payload in bytes << 32": [checked(payloads[1], 2)],
        "copy 1: CRC-32 of its payload | length of its payload in bytes << 32": [checked(payloads[0], 1)],
        "copy 0: payload": [int.from_bytes(payloads[1].ljust(24, b"\0")[i : i + 8], "little") for i in (0, 8, 16)],
        "copy 1: payload": [int.from_bytes(payloads[0].ljust(24, b"\0")[i : i + 8], "little") for i in (0, 8, 16)],
    }
    assert set(drawn.values()) == set(expected)
    for word, holds in drawn.items():
        assert segment.words[at + word] == expected[holds].pop(0), f"word {word}: {holds}"


def dying(segment: Segment, stores: int) -> Records:
    """Return the records as a writer sees them that ends after so many stores (of words, or of single bytes)."""
    records = Records(segment, HEADER_WORDS, 3, PAYLOAD)
    budget = [stores]
    records._words = Dying(segment.words, budget)  # type: ignore[assignment]
    records._data = Dying(segment.data, budget)  # type: ignore[assignment]
    return records


@pytest.mark.parametrize("before", [0, 1, 2, 3])
def test_a_writer_that_ends_at_any_store_leaves_the_old_or_the_new_record(segment: Segment, before: int) -> None:
    new = b"this is the new one"
    stores = len(new) + 2
    for stop in range(stores):
        records = Records(segment, HEADER_WORDS, 3, PAYLOAD)
        for number in range(before):
            records.write(0, b"old %d" % number)
        old = records.read(0)
        with pytest.raises(Interrupted):
            dying(segment, stop).write(0, new)
        assert records.read(0) == old
        # The next writer is not in the way of anything, and nothing is in its way.
        sequence = records.write(0, b"next")
        assert records.read(0) == (sequence, b"next")
    dying(segment, stores).write(0, new)
    assert Records(segment, HEADER_WORDS, 3, PAYLOAD).read(0) == (sequence + 1, new)


class Racing:
    """Memory in which something happens at a reader's n-th load."""

    def __init__(self, memory: object, happenings: dict[int, object], loads: list[int]) -> None:
        self._memory = memory
        self._happenings = happenings
        self._loads = loads

    def __getitem__(self, key: object) -> object:
        happening = self._happenings.pop(self._loads[0], None)
        self._loads[0] += 1
        if callable(happening):
            happening()
        return self._memory[key]  # type: ignore[index]


def racing(segment: Segment, happenings: dict[int, object]) -> Records:
    records = Records(segment, HEADER_WORDS, 3, PAYLOAD)
    loads = [0]
    records._words = Racing(segment.words, happenings, loads)  # type: ignore[assignment]
    records._data = Racing(segment.data, happenings, loads)  # type: ignore[assignment]
    return records


@settings(deadline=None, derandomize=True)
@given(
    st.dictionaries(st.integers(0, 20), st.integers(1, 5), max_size=6),
    st.integers(0, 3),
    st.integers(0, 21),
)
def test_a_reader_never_sees_a_mixture_however_often_it_is_overtaken(
    writes: dict[int, int], before: int, stop: int
) -> None:
    """At chosen loads of the reader so many writes happen, and then one that ends halfway."""
    segment = Segment.create(LAYOUT, 3)
    records = Records(segment, HEADER_WORDS, 3, PAYLOAD)
    written = {(0, b"")}

    def write() -> None:
        payload = bytes([len(written) % 251]) * (len(written) % PAYLOAD + 1)
        written.add((records.write(0, payload), payload))

    def happen(times: int) -> None:
        for _ in range(times):
            write()
        if stop < 2:
            return
        try:
            dying(segment, min(stop, 4)).write(0, b"\xff" * PAYLOAD)
        except Interrupted:
            return

    for _ in range(before):
        write()
    seen = racing(segment, {load: lambda times=times: happen(times) for load, times in writes.items()}).read(0)
    assert seen is None or seen in written
    segment.close()


def test_a_reader_that_is_overtaken_every_time_gives_up(segment: Segment, records: Records) -> None:
    records.write(0, b"first")
    always = {load: lambda: records.write(0, b"again") for load in range(1000)}
    assert racing(segment, dict(always)).read(0) is None
    assert records.read(0) == (segment.words[HEADER_WORDS], b"again")


@pytest.mark.parametrize("seed", range(10))
def test_garbage_is_never_taken_for_a_record_and_can_be_written_over(
    segment: Segment, records: Records, seed: int
) -> None:
    rng = random.Random(seed)
    segment.data[HEADER_WORDS * 8 :] = rng.randbytes(LAYOUT.unit * 3)
    for index in range(3):
        assert records.read(index) is None
        records.write(index, b"good again")
        seen = records.read(index)
        assert seen is not None
        assert seen[1] == b"good again"


def test_the_last_sequence_of_all_is_followed_by_one_of_a_written_record(segment: Segment, records: Records) -> None:
    segment.words[records.word(0)] = 2**64 - 1
    assert records.write(0, b"after the end") == 2
    assert records.read(0) == (2, b"after the end")
