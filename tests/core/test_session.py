"""Exactly once, in order, bounded: one lane at a time, then two lanes against a model of what they promise."""

from array import array
from collections import deque

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from meshvisor.shared.core.frames import LARGE, Frame, Kind
from meshvisor.shared.core.session import (
    BATCH_BYTES,
    BATCH_MESSAGES,
    LONGEST_BATCH,
    Entry,
    Lane,
    Limits,
    ProtocolFault,
    view_of,
)

pack = msgspec.msgpack.encode


def lane(messages: int = 8192, size: int = 4 * 1024 * 1024) -> Lane:
    return Lane(Limits(messages, size))


def sent(*bodies: bytes) -> Lane:
    """Return a lane on which each of ``bodies`` was sent as an entry of its own."""
    out = lane()
    for body in bodies:
        out.offer(body)
        out.take()
    return out


def single(number: int, body: bytes = b"x") -> Frame:
    return Frame(Kind.SINGLE, 0, 1, number, 0, body)


def batch(number: int, *bodies: bytes) -> Frame:
    return Frame(Kind.BATCH, 0, len(bodies), number, 0, pack(list(bodies)))


def unsent(out: Lane) -> list[tuple[int, int]]:
    """Take everything that ``out`` has to write, and return the numbers of each entry."""
    entries = []
    while (entry := out.take()) is not None:
        entries.append((entry.first, entry.last))
    return entries


# Sending: numbers and batches.


@pytest.mark.parametrize("body", [b"abc", bytearray(b"abc"), memoryview(b"abc"), array("B", b"abc")])
def test_any_buffer_can_be_sent(body: object) -> None:
    assert view_of(body).tobytes() == b"abc"


@pytest.mark.parametrize(("body", "what"), [("text", "a str; encode it"), (3, "a int"), (None, "a NoneType")])
def test_what_is_no_buffer_is_refused_in_words_for_its_sender(body: object, what: str) -> None:
    with pytest.raises(TypeError, match=f"^a message must be bytes or another buffer, and not {what}$"):
        view_of(body)


def test_messages_are_numbered_from_1_and_go_out_as_one_batch() -> None:
    out = lane()
    assert [out.offer(body) for body in (b"a", bytearray(b"b"), memoryview(b"c"))] == [1, 2, 3]
    assert [out.has_unsent, out.take(), out.has_unsent, out.take()] == [
        True,
        Entry(1, 3, 3, Kind.BATCH, b"\x93\xc4\x01a\xc4\x01b\xc4\x01c"),
        False,
        None,
    ]


def test_a_lone_message_goes_out_as_its_plain_bytes() -> None:
    out = lane()
    out.offer(b"alone")
    assert out.take() == Entry(1, 1, 5, Kind.SINGLE, b"alone")


def test_a_small_message_is_copied_when_it_is_accepted() -> None:
    out = lane()
    body = bytearray(b"before")
    out.offer(body)
    body[:] = b"after!"
    assert out.take() == Entry(1, 1, 6, Kind.SINGLE, b"before")


def test_a_message_of_64_kib_is_never_copied_and_ends_the_batch_before_it() -> None:
    out = lane()
    large = bytearray(LARGE)
    assert [out.offer(body) for body in (b"a", b"b", large, b"c")] == [1, 2, 3, 4]
    first, second, third = out.take(), out.take(), out.take()
    assert first == Entry(1, 2, 2, Kind.BATCH, b"\x92\xc4\x01a\xc4\x01b")
    assert second is not None
    assert second.body is large
    assert (second.first, second.last, second.kind) == (3, 3, Kind.SINGLE)
    assert third == Entry(4, 4, 1, Kind.SINGLE, b"c")


def test_large_messages_in_a_row_have_no_empty_batches_between_them() -> None:
    out = lane()
    for _ in range(2):
        out.offer(bytes(LARGE))
    assert unsent(out) == [(1, 1), (2, 2)]


def test_a_batch_ends_at_128_messages_or_32_kib() -> None:
    out = lane()
    for _ in range(BATCH_MESSAGES + 1):
        out.offer(b"")
    assert unsent(out) == [(1, 128), (129, 129)]
    out.offer(bytes(BATCH_BYTES - 1))
    out.offer(b"x")
    out.offer(b"y")
    assert unsent(out) == [(130, 131), (132, 132)]


def test_no_batch_is_longer_than_the_longest() -> None:
    out = lane()
    for _ in range(BATCH_MESSAGES - 2):
        out.offer(bytes(260))
    out.offer(b"x" * (BATCH_BYTES - 1 - 260 * (BATCH_MESSAGES - 2)))
    out.offer(bytes(LARGE - 1))
    entry = out.take()
    assert entry is not None
    assert (entry.first, entry.last) == (1, BATCH_MESSAGES)
    assert LONGEST_BATCH - 300 < len(entry.body) <= LONGEST_BATCH


# Sending: the window.


def test_a_lane_may_make_shorter_batches() -> None:
    out = Lane(Limits(), batch_messages=2)
    for number in range(5):
        out.offer(bytes([number]))
    assert [(entry.first, entry.last) for entry in iter(out.take, None)] == [(1, 2), (3, 4), (5, 5)]


def test_r14_r21_the_window_closes_at_its_last_message_and_opens_with_the_ack_that_makes_room() -> None:
    out = lane(messages=2)
    assert out.has_room(1)
    out.offer(b"a")
    assert out.has_room(1)
    out.offer(b"b")
    assert not out.has_room(0)
    out.take()
    assert out.acknowledge(1)
    assert out.has_room(1)


def test_the_window_is_8192_messages_and_4_mib_unless_it_is_said_otherwise() -> None:
    """DESIGN 4.1."""
    assert Limits() == Limits(8192, 4_194_304)


def test_the_window_closes_at_its_last_byte() -> None:
    out = lane(size=10)
    out.offer(b"x" * 6)
    assert out.has_room(4)
    assert not out.has_room(5)


def test_a_message_larger_than_the_window_goes_alone() -> None:
    out = lane(size=10)
    assert out.has_room(11)
    out.offer(b"x" * 11)
    assert not out.has_room(0)
    out.take()
    out.acknowledge(1)
    assert out.has_room(11)


def test_the_bytes_of_a_batch_leave_the_window_when_all_of_it_is_acknowledged() -> None:
    out = lane(size=10)
    out.offer(b"x" * 5)
    out.offer(b"y" * 5)
    out.take()
    assert out.acknowledge(1)
    assert out.size == 10
    assert out.acknowledge(2)
    assert out.size == 0


# Acknowledgements.


def test_r4_an_ack_of_what_was_never_sent_is_a_fault_and_changes_nothing() -> None:
    out = sent(*[b"x"] * 8)
    out.offer(b"accepted, and not sent")
    with pytest.raises(ProtocolFault, match="message 10 was acknowledged, but only 8 were sent"):
        out.acknowledge(10)
    with pytest.raises(ProtocolFault, match="message 9 was acknowledged, but only 8 were sent"):
        out.acknowledge(9)
    out.resume(0)
    assert unsent(out) == [(number, number) for number in range(1, 10)]


@pytest.mark.parametrize(("ack", "left"), [(0, [1, 2, 3]), (1, [2, 3]), (2, [3]), (3, [])])
def test_an_ack_is_the_number_of_the_last_one_consumed(ack: int, left: list[int]) -> None:
    out = sent(b"a", b"b", b"c")
    assert out.acknowledge(ack) == (ack > 0)
    out.resume(ack)
    assert unsent(out) == [(number, number) for number in left]


def test_r5_an_ack_lower_than_an_earlier_one_is_ignored() -> None:
    out = sent(b"a", b"b", b"c")
    out.acknowledge(2)
    assert not out.acknowledge(1)
    assert not out.acknowledge(2)
    assert (out.acknowledged, out.size) == (2, 1)


def test_an_ack_may_come_for_what_waits_to_be_sent_again() -> None:
    out = sent(b"a", b"b", b"c")
    out.resume(0)
    out.take()
    assert out.acknowledge(2)
    assert unsent(out) == [(3, 3)]
    assert out.size == 1


# A new connection.


def test_r1_only_what_was_not_received_is_sent_again_and_before_anything_new() -> None:
    out = sent(b"a", b"b", b"c")
    out.acknowledge(1)
    out.offer(b"new")
    out.check_resume(2)
    out.resume(2)
    assert unsent(out) == [(3, 3), (4, 4)]


def test_r2_nothing_is_sent_again_when_everything_was_received() -> None:
    out = sent(b"a", b"b", b"c")
    out.check_resume(3)
    out.resume(3)
    assert unsent(out) == []
    assert out.size == 3  # received is not consumed: the window stays as it was


def test_r3_everything_is_sent_again_in_order_when_nothing_was_received() -> None:
    out = sent(b"a", b"b", b"c")
    out.check_resume(0)
    out.resume(0)
    out.resume(0)
    assert unsent(out) == [(1, 1), (2, 2), (3, 3)]


def test_what_is_sent_again_is_counted_by_message() -> None:
    out = lane()
    for body in (b"a", b"b", b"c"):
        out.offer(body)
    out.take()
    out.offer(b"d")
    out.take()
    out.resume(3)
    assert out.replayed == 1
    out.take()
    out.resume(0)
    assert out.replayed == 5


def test_r13_what_is_accepted_while_reconnecting_is_sent_after_the_rest_once() -> None:
    out = sent(b"a")
    out.offer(b"b")
    out.resume(0)
    out.offer(b"c")
    assert unsent(out) == [(1, 1), (2, 3)]
    out.resume(3)
    assert unsent(out) == []


def test_a_batch_that_was_received_in_part_is_sent_again_whole() -> None:
    out = lane()
    for body in (b"a", b"b", b"c"):
        out.offer(body)
    out.take()
    out.resume(2)
    assert unsent(out) == [(1, 3)]


def test_r4_a_peer_cannot_have_received_what_was_never_sent() -> None:
    out = sent(b"a")
    out.offer(b"accepted, and not sent")
    with pytest.raises(ProtocolFault, match="claims to have received message 2, but only 1 were sent"):
        out.check_resume(2)


def test_what_a_peer_says_it_received_may_be_older_than_its_acknowledgement_over_another_connection() -> None:
    out = sent(b"a", b"b", b"c")
    out.acknowledge(2)
    out.check_resume(1)
    out.resume(1)
    entry = out.take()
    assert entry is not None
    assert (entry.first, entry.last) == (3, 3)
    assert out.take() is None


def test_an_ack_may_have_been_lost_with_the_connection_so_it_is_said_again() -> None:
    out = lane()
    out.resume(0)
    assert not out.owes_ack
    out.accept(single(1))
    out.consume(1)
    assert out.tell() == 1
    assert not out.owes_ack
    out.resume(0)
    assert out.ack_due
    assert out.tell() == 1


# Receiving.


def test_messages_are_handed_over_in_order_with_the_number_of_the_first() -> None:
    into = lane()
    assert into.accept(single(1, b"a")) == (1, [b"a"])
    assert into.accept(batch(2, b"b", b"c")) == (2, [b"b", b"c"])
    assert into.received == 3
    assert into.consumed == 0


def test_r12_what_was_received_before_is_dropped_and_acknowledged_again() -> None:
    into = lane()
    into.accept(batch(1, b"a", b"b"))
    into.consume(2)
    into.tell()
    assert into.accept(batch(1, b"a", b"b")) is None
    assert into.ack_due
    assert into.tell() == 2
    assert into.inbound_size == 0


def test_what_came_again_is_counted_by_message() -> None:
    into = lane()
    into.accept(batch(1, b"a", b"b"))
    into.accept(batch(1, b"a", b"b", b"c"))
    assert into.duplicates == 2
    into.accept(batch(2, b"b", b"c"))
    assert into.duplicates == 4


def test_of_a_batch_that_was_received_in_part_only_the_new_messages_are_handed_over() -> None:
    into = lane()
    into.accept(batch(1, b"a", b"b"))
    assert into.accept(batch(2, b"b", b"c", b"d")) == (3, [b"c", b"d"])
    assert into.received == 4


@pytest.mark.parametrize("number", [0, 3, 5, 2**64 - 1])
def test_r11_r18_a_gap_or_a_number_0_is_a_fault_and_nothing_is_delivered(number: int) -> None:
    into = lane()
    into.accept(single(1))
    with pytest.raises(ProtocolFault, match=f"message {number} came, 2 was expected"):
        into.accept(single(number))
    assert into.received == 1


def test_r17_a_session_begins_with_message_1() -> None:
    with pytest.raises(ProtocolFault, match="message 2 came, 1 was expected"):
        lane().accept(single(2))


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (Frame(Kind.SINGLE, 0, 2, 1, 0, b""), "a batch of 1 messages says that it has 2"),
        (Frame(Kind.SINGLE, 0, 0, 1, 0, b""), "a batch of 1 messages says that it has 0"),
        (Frame(Kind.BATCH, 0, 1, 1, 0, b"\x92\xc4\x00\xc4\x00"), "a batch of 2 messages says that it has 1"),
        (Frame(Kind.BATCH, 0, 0, 1, 0, b"\x90"), "a batch of 0 messages says that it has 0"),
        (Frame(Kind.BATCH, 0, 1, 1, 0, b""), "a batch is malformed"),
        (Frame(Kind.BATCH, 0, 1, 1, 0, b"\xdd\xff\xff\xff\xff"), "a batch is malformed"),
        (Frame(Kind.BATCH, 0, 1, 1, 0, b"\x91\xc6\xff\xff\xff\xff"), "a batch is malformed"),
        (Frame(Kind.BATCH, 0, 1, 1, 0, b"\x91\xa1a"), "a batch is malformed"),
        (Frame(Kind.BATCH, 0, 1, 1, 0, b"\x91\xa1\xff"), "a batch is malformed"),
        (Frame(Kind.BATCH, 0, 1, 1, 0, b"\x91\xc7\x01\x05a"), "a batch is malformed"),
        (Frame(Kind.BATCH, 0, 1, 1, 0, b"\x91" * 5000), "a batch is malformed"),
        (Frame(Kind.BATCH, 0, 1, 1, 0, b"\x91\xc4\x00\x00"), "a batch is malformed"),
    ],
)
def test_a_malformed_batch_is_a_fault_and_nothing_is_delivered(frame: Frame, why: str) -> None:
    into = lane()
    with pytest.raises(ProtocolFault) as caught:
        into.accept(frame)
    assert why in str(caught.value)
    assert (into.received, into.inbound_size) == (0, 0)


def test_r22_more_messages_than_the_window_are_a_fault() -> None:
    into = lane(messages=3)
    into.accept(batch(1, b"a", b"b", b"c"))
    with pytest.raises(ProtocolFault, match="more than the 3 messages of its window"):
        into.accept(single(4))
    into.consume(1)
    assert into.accept(single(4)) == (4, [b"x"])


def test_r22_more_bytes_than_the_window_are_a_fault() -> None:
    into = lane(messages=4, size=100)
    into.accept(single(1, b"x" * 100))
    with pytest.raises(ProtocolFault, match="more than the 100 bytes of its window"):
        into.accept(single(2, b"x" * 21))
    into.consume(1)
    assert into.accept(single(2, b"x" * 21)) == (2, [b"x" * 21])


def test_the_window_is_full_with_its_last_byte_and_five_more_for_each_message() -> None:
    into = lane(messages=4, size=100)
    into.accept(single(1, b"x" * 100))
    assert into.accept(single(2, b"x" * 20)) == (2, [b"x" * 20])
    with pytest.raises(ProtocolFault, match="more than the 100 bytes of its window"):
        into.accept(single(3))


def test_what_is_consumed_leaves_the_window_and_what_came_after_it_stays() -> None:
    into = lane()
    for number, size in enumerate((10, 200, 3000), 1):
        into.accept(single(number, b"x" * size))
    sizes = []
    for number in (1, 2, 3):
        into.consume(number)
        sizes.append((into.inbound_size, into.untold_size))
    assert sizes == [(3200, 10), (3000, 210), (0, 3210)]


def test_one_message_larger_than_the_window_is_taken_alone() -> None:
    into = lane(size=100)
    assert into.accept(single(1, b"x" * 1_000_000)) == (1, [b"x" * 1_000_000])


def test_empty_messages_fill_no_window_so_a_message_of_any_size_may_follow_them() -> None:
    out, into = lane(messages=4, size=100), lane(messages=4, size=100)
    for body in (b"", b""):
        out.offer(body)
    out.seal()
    assert out.has_room(1000)
    out.offer(b"x" * 1000)
    assert unsent(out) == [(1, 2), (3, 3)]
    assert into.accept(batch(1, b"", b"")) == (1, [b"", b""])
    assert into.accept(single(3, b"x" * 1000)) == (3, [b"x" * 1000])


def test_r22_the_window_is_the_senders_not_the_receivers() -> None:
    into = Lane(Limits(1, 1), peer_limits=Limits(2, 100))
    into.accept(batch(1, b"a", b"b"))
    with pytest.raises(ProtocolFault, match="more than the 2 messages"):
        into.accept(single(3))


# Consuming.


def consume(into: Lane, number: int) -> tuple[bool, bool]:
    """Consume up to ``number``; return whether an acknowledgement is owed, and whether it is due at once."""
    into.consume(number)
    return into.owes_ack, into.ack_due


def test_an_ack_is_due_at_once_at_a_quarter_of_the_window_in_messages() -> None:
    into = lane(messages=8)
    into.accept(batch(1, b"a", b"b", b"c"))
    assert consume(into, 1) == (True, False)
    assert consume(into, 2) == (True, True)
    assert into.tell() == 2
    assert consume(into, 3) == (True, False)


def test_an_ack_is_due_at_once_at_a_quarter_of_the_window_in_bytes() -> None:
    into = lane(size=100)
    into.accept(single(1, b"x" * 24))
    assert consume(into, 1) == (True, False)
    into.accept(single(2, b"x"))
    assert consume(into, 2) == (True, True)


def test_consuming_twice_or_backwards_changes_nothing() -> None:
    into = lane()
    into.accept(batch(1, b"a", b"b"))
    into.consume(2)
    into.tell()
    into.consume(2)
    into.consume(1)
    assert (into.consumed, into.owes_ack) == (2, False)


# The end.


def test_the_tail_is_what_was_accepted_and_never_acknowledged_sent_or_not() -> None:
    out = lane()
    assert out.tail() == (1, 0, 0)
    for body in (b"a", b"b", b"c"):
        out.offer(body)
    assert out.tail() == (1, 3, 3)
    out.take()
    out.acknowledge(2)  # within the batch
    out.offer(b"d")
    assert out.tail() == (3, 4, 2)
    out.forget()
    assert out.tail() == (3, 4, 2)
    assert not out.has_unsent
    assert out.take() is None
    assert out.size == 0


def test_a_lane_that_is_forgotten_lets_nothing_in_by_the_short_way() -> None:
    for bodies in ([], [b"a"], [b"a", b"b"]):
        out = lane()
        for body in bodies:
            out.offer(body)
        out.forget()
        assert out.fast_last <= out.last


def test_r6_numbers_are_64_bits_on_the_wire_and_unbounded_here() -> None:
    into = lane()
    into.received = into.consumed = into.told = 2**64 - 2
    assert into.accept(single(2**64 - 1)) == (2**64 - 1, [b"x"])


# Two lanes against a model.

MODEL_LIMITS = Limits(messages=6, size=40)
BODIES = st.sampled_from([0, 0, 1, 5, 17, 40, 90])


class TwoLanes(RuleBasedStateMachine):
    """One direction of messages from ``out`` to ``into``; what is under way when the connection is cut is gone.

    The model is a list of bodies: whatever happens, what was delivered is a prefix of what was accepted.
    """

    @initialize()
    def begin(self) -> None:
        self.out = Lane(MODEL_LIMITS)
        self.into = Lane(MODEL_LIMITS)
        self.accepted: list[bytes] = []
        self.delivered: list[bytes] = []
        self.frames: deque[Frame] = deque()
        self.acks: deque[int] = deque()

    @rule(sizes=st.lists(BODIES, min_size=1, max_size=4))
    def send(self, sizes: list[int]) -> None:
        for size in sizes:
            if self.out.has_room(size):
                body = bytes([len(self.accepted) % 256]) * size
                self.accepted.append(body)
                assert self.out.offer(body) == len(self.accepted)

    @rule()
    def write(self) -> None:
        entry = self.out.take()
        if entry is not None:
            count = entry.last - entry.first + 1
            self.frames.append(Frame(entry.kind, 0, count, entry.first, 0, bytes(entry.body)))

    @rule()
    def read(self) -> None:
        if self.frames:
            news = self.into.accept(self.frames.popleft())
            if news is not None:
                assert news[0] == len(self.delivered) + 1
                self.delivered += [bytes(body) for body in news[1]]

    @rule(share=st.sampled_from([0.3, 1.0]))
    def consume(self, share: float) -> None:
        self.into.consume(self.into.consumed + int((self.into.received - self.into.consumed) * share))

    @rule()
    def acknowledge(self) -> None:
        if self.into.owes_ack:
            self.acks.append(self.into.tell())

    @rule()
    def take_ack(self) -> None:
        if self.acks:
            self.out.acknowledge(self.acks.popleft())

    @rule(frames_arrive=st.integers(0, 3), acks_arrive=st.integers(0, 3))
    def cut(self, frames_arrive: int, acks_arrive: int) -> None:
        for _ in range(frames_arrive):
            self.read()
        for _ in range(acks_arrive):
            self.take_ack()
        self.frames.clear()
        self.acks.clear()
        for side, received in ((self.out, self.into.received), (self.into, self.out.received)):
            side.check_resume(received)
            side.resume(received)

    @invariant()
    def what_was_delivered_is_a_prefix_of_what_was_accepted(self) -> None:
        assert self.delivered == self.accepted[: len(self.delivered)]

    @invariant()
    def numbers_are_in_order(self) -> None:
        out, into = self.out, self.into
        assert out.acknowledged <= into.consumed <= into.received <= out.sent <= out.last == len(self.accepted)
        assert out.tail() == (out.acknowledged + 1, out.last, out.last - out.acknowledged)

    @invariant()
    def bounds_hold(self) -> None:
        assert self.out.last - self.out.acknowledged <= MODEL_LIMITS.messages
        assert self.out.size <= max(MODEL_LIMITS.size, 90)
        assert self.into.received - self.into.consumed <= MODEL_LIMITS.messages
        assert self.into.inbound_size <= 90 + 5 * MODEL_LIMITS.messages

    def teardown(self) -> None:
        if not hasattr(self, "out"):
            return
        for _ in range(2):
            while self.out.has_unsent:
                self.write()
            while self.frames:
                self.read()
            self.consume(1.0)
            self.acknowledge()
            while self.acks:
                self.take_ack()
        assert self.delivered == self.accepted
        assert self.out.tail()[2] == 0
        assert self.out.size == self.into.inbound_size == 0
        assert not self.into.owes_ack


TestTwoLanes = TwoLanes.TestCase
TestTwoLanes.settings = settings(max_examples=80, stateful_step_count=40)
