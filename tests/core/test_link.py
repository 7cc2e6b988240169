"""A link in literal bytes and times: deliveries, acknowledgements, pings, faults and the end."""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshvisor.shared.core import frames
from meshvisor.shared.core.frames import (
    CALLS,
    CONTROL_KINDS,
    DATA_KINDS,
    HEADER_SIZE,
    MESSAGES,
    Frame,
    FrameReader,
    Kind,
)
from meshvisor.shared.core.link import (
    ACK_DELAY,
    Delivered,
    Event,
    Failed,
    Left,
    Link,
    LinkState,
    Recovered,
    RoundTrip,
    Suspected,
    WindowOpened,
)
from meshvisor.shared.core.liveness import Heartbeat
from meshvisor.shared.core.session import Limits, ProtocolFault

BUDGET = 256 * 1024
HEARTBEAT = Heartbeat(interval=0.25, timeout=2.0)


def attached(
    limits: Limits | None = None, *, heartbeat: Heartbeat | None = None, peer_limits: Limits | None = None
) -> Link:
    """Return a link whose first connection began at 10.0."""
    link = Link(limits or Limits(), peer_limits, heartbeat=heartbeat)
    link.attach((0, 0), 10.0)
    return link


def single(number: int, body: bytes = b"x", *, lane: int = MESSAGES, ack: int = 0) -> Frame:
    return Frame(Kind.SINGLE, lane, 1, number, ack, body)


def control(kind: Kind, *, lane: int = 0, number: int = 0, ack: int = 0) -> Frame:
    return Frame(kind, lane, 0, number, ack, b"")


def send(link: Link, *bodies: bytes, lane: int = MESSAGES) -> list[Frame]:
    """Offer ``bodies``, and return what goes out on the data channel as the frames that it is."""
    for body in bodies:
        link.lanes[lane].offer(body)
    return on_the_wire(link.data_to_send(BUDGET))


def on_the_wire(buffers: Iterable[bytes | bytearray | memoryview]) -> list[Frame]:
    reader = FrameReader(DATA_KINDS, BUDGET)
    out = reader.receive(b"".join(buffers))
    assert reader.fault is None
    return out


def said(link: Link) -> list[Frame]:
    """Return what goes out on the control channel now."""
    return FrameReader(CONTROL_KINDS, 1000).receive(link.control_to_send())


# Messages.


def test_what_one_side_sends_the_other_delivers_and_its_ack_opens_the_window() -> None:
    one, other = attached(Limits(messages=4)), attached(Limits(messages=4))
    assert other.receive(send(one, b"a", b"b"), 10.0) == [Delivered(MESSAGES, 1, [b"a", b"b"])]
    assert other.consumed(MESSAGES, 2, 10.0)
    assert one.receive(said(other), 10.0) == [WindowOpened(MESSAGES)]
    assert one.is_drained


def test_the_bytes_of_a_data_frame_are_a_header_and_the_body() -> None:
    link = attached()
    link.receive([single(1, lane=CALLS)], 10.0)
    link.consumed(CALLS, 1, 10.0)
    link.lanes[CALLS].offer(b"hello")
    assert link.data_to_send(BUDGET) == [
        b"\x05\x00\x00\x00\x11\x01\x01\x00" + b"\x01" + bytes(7) + b"\x01" + bytes(7),
        b"hello",
    ]


def test_a_data_frame_acknowledges_what_was_consumed_on_its_lane() -> None:
    link = attached()
    send(link, b"a", b"b")
    events = link.receive([single(1, ack=1)], 10.0)
    assert events == [Delivered(MESSAGES, 1, [b"x"]), WindowOpened(MESSAGES)]
    assert link.receive([single(2, ack=1)], 10.0) == [Delivered(MESSAGES, 2, [b"x"])]


def test_calls_go_out_before_messages_and_the_two_lanes_count_apart() -> None:
    link = attached()
    link.lanes[MESSAGES].offer(b"message")
    link.lanes[CALLS].offer(b"call")
    assert link.has_data
    assert on_the_wire(link.data_to_send(BUDGET)) == [single(1, b"call", lane=CALLS), single(1, b"message")]
    assert not link.has_data


def test_a_write_ends_with_the_frame_that_passes_its_budget() -> None:
    link = attached()
    for _ in range(3):
        link.lanes[MESSAGES].offer(b"x" * 100)
        link.lanes[MESSAGES].seal()
    assert [frame.number for frame in on_the_wire(link.data_to_send(HEADER_SIZE + 101))] == [1, 2]
    assert link.data_to_send(0) == []
    assert [frame.number for frame in on_the_wire(link.data_to_send(1))] == [3]


def test_a_write_has_at_most_512_buffers_because_the_kernel_takes_1024() -> None:
    link = attached()
    for lane in (CALLS, MESSAGES):
        for _ in range(200):
            link.lanes[lane].offer(b"x")
            link.lanes[lane].seal()
    assert len(link.data_to_send(BUDGET)) == 512
    assert len(link.data_to_send(BUDGET)) == 288


def test_a_message_that_is_offered_alone_has_the_bytes_and_the_number_of_any_other() -> None:
    alone, other = attached(), attached()
    for link in (alone, other):
        link.receive([single(1)], 10.0)
        link.consumed(MESSAGES, 1, 10.0)
        send(link, b"first")
    other.lanes[MESSAGES].offer(b"second")
    assert alone.offer_alone(MESSAGES, b"second") == b"".join(other.data_to_send(BUDGET))
    assert not alone.has_data


def test_a_message_that_was_offered_alone_is_sent_again_until_it_is_acknowledged() -> None:
    link = attached()
    link.offer_alone(CALLS, b"call")
    link.detach()
    link.attach((0, 0), 11.0)
    assert on_the_wire(link.data_to_send(BUDGET)) == [single(1, b"call", lane=CALLS)]
    assert link.receive([control(Kind.ACK, lane=CALLS, ack=1)], 11.1) == [WindowOpened(CALLS)]
    assert link.is_drained
    assert link.lanes[CALLS].size == 0


def test_room_is_that_of_the_lane() -> None:
    link = attached(Limits(messages=1))
    link.lanes[MESSAGES].offer(b"x")
    assert not link.has_room(MESSAGES, b"")
    assert link.has_room(CALLS, b"")


def test_a_large_call_and_what_follows_it_may_be_read_at_once() -> None:
    link = attached()
    large, small = single(1, bytes(10 * 1024 * 1024), lane=CALLS), single(2, bytes(100_000), lane=CALLS)
    assert link.receive([large, small], 10.0) == [
        Delivered(CALLS, 1, [large.body]),
        Delivered(CALLS, 2, [small.body]),
    ]


def test_calls_have_no_window_so_a_small_one_for_messages_does_not_bound_them() -> None:
    one, other = attached(Limits(1, 1)), attached(Limits(1, 1))
    other.detach()
    other.attach((0, 0), 10.0, Limits(1, 1))
    calls = send(one, *[b"call"] * 1000, lane=CALLS)
    assert sum(len(event.bodies) for event in other.receive(calls, 10.0) if isinstance(event, Delivered)) == 1000


def test_the_window_of_the_peer_is_told_with_each_connection() -> None:
    link = Link(Limits(1, 1))
    link.attach((0, 0), 10.0, Limits(2, 100))
    assert len(link.receive([single(1), single(2)], 10.0)) == 2
    (event,) = link.receive([single(3)], 10.0)
    assert event == Failed("the peer sent more than the 2 messages of its window", broken=True)


# Acknowledgements.


def test_an_ack_goes_out_20_ms_after_the_first_message_consumed() -> None:
    link = attached()
    link.receive([single(1), single(2)], 10.0)
    assert link.deadline() is None
    assert not link.consumed(MESSAGES, 1, 10.0)
    assert not link.consumed(MESSAGES, 2, 10.01)
    assert link.deadline() == 10.0 + ACK_DELAY
    assert link.tick(10.019) == []
    assert said(link) == []
    assert link.tick(10.0 + ACK_DELAY) == []
    assert said(link) == [control(Kind.ACK, ack=2)]
    assert link.deadline() is None
    assert said(link) == []


def test_an_ack_goes_out_at_once_at_a_quarter_of_the_window() -> None:
    link = attached(Limits(messages=8))
    link.receive([single(1), single(2), single(3)], 10.0)
    assert not link.consumed(MESSAGES, 1, 10.0)
    assert link.consumed(MESSAGES, 2, 10.001)
    assert said(link) == [control(Kind.ACK, ack=2)]
    assert link.deadline() is None


def test_the_ack_of_one_lane_that_went_out_leaves_the_other_ones_deadline() -> None:
    link = attached(Limits(messages=8))
    link.receive([single(1), single(2), single(1, lane=CALLS)], 10.0)
    assert not link.consumed(CALLS, 1, 10.0)
    assert link.consumed(MESSAGES, 2, 10.001)
    assert said(link) == [control(Kind.ACK, ack=2)]
    assert link.deadline() == 10.0 + ACK_DELAY
    link.tick(10.0 + ACK_DELAY)
    assert said(link) == [control(Kind.ACK, lane=CALLS, ack=1)]


def test_an_ack_that_is_due_and_cannot_be_written_wakes_nobody_and_is_not_forgotten() -> None:
    link = attached()
    link.receive([single(1), single(2)], 10.0)
    link.consumed(MESSAGES, 1, 10.0)
    link.tick(10.0 + ACK_DELAY)
    assert link.deadline() is None
    assert link.consumed(MESSAGES, 2, 10.5)
    assert link.deadline() is None
    assert said(link) == [control(Kind.ACK, ack=2)]


def test_r12_a_duplicate_is_acknowledged_again_at_once() -> None:
    link = attached()
    link.receive([single(1)], 10.0)
    link.consumed(MESSAGES, 1, 10.0)
    link.tick(10.1)
    assert said(link) == [control(Kind.ACK, ack=1)]
    assert link.receive([single(1)], 10.2) == []
    assert said(link) == [control(Kind.ACK, ack=1)]


def test_consuming_what_was_consumed_owes_nothing() -> None:
    link = attached()
    link.receive([single(1)], 10.0)
    link.consumed(MESSAGES, 1, 10.0)
    link.tick(10.1)
    link.control_to_send()
    assert not link.consumed(MESSAGES, 1, 10.2)
    assert link.deadline() is None


def test_what_is_taken_and_not_yet_reported_is_asked_after_when_an_ack_may_be_due() -> None:
    """A tick then finds nothing owed, if nothing was reported meanwhile; what is owed earlier stays so."""
    link = attached()
    link.ack_soon(10.0)
    link.ack_soon(10.01)
    assert link.deadline() == 10.0 + ACK_DELAY
    link.tick(10.0 + ACK_DELAY)
    assert said(link) == []
    assert link.deadline() is None
    link.receive([single(1)], 11.0)
    link.ack_soon(11.0)
    link.consumed(MESSAGES, 1, 11.01)
    link.tick(11.0 + ACK_DELAY)
    assert said(link) == [control(Kind.ACK, ack=1)]


def test_a_detached_link_wakes_nobody_for_an_ack() -> None:
    link = attached()
    link.detach()
    link.ack_soon(10.0)
    link.attach((0, 0), 11.0)
    assert link.deadline() is None


# Heartbeats.


def test_without_a_heartbeat_there_is_no_deadline_and_no_timeout() -> None:
    link = attached()
    assert link.deadline() is None
    assert link.tick(1e9) == []
    assert said(link) == []


def test_an_idle_connection_is_pinged_each_interval_with_a_new_number() -> None:
    link = attached(heartbeat=HEARTBEAT)
    assert link.deadline() == 10.25
    assert link.tick(10.25) == []
    assert said(link) == [control(Kind.PING, number=1)]
    assert link.deadline() == 10.5
    link.tick(10.5)
    assert said(link) == [control(Kind.PING, number=2)]


def test_whatever_is_heard_puts_the_ping_off() -> None:
    link = attached(heartbeat=replace(HEARTBEAT, grace=0.1875))
    link.receive([control(Kind.PING, number=7)], 10.125)
    assert said(link) == [control(Kind.PONG, number=7)]
    assert link.deadline() == 10.3125
    link.tick(10.25)
    assert said(link) == []
    link.receive([control(Kind.PONG, number=99)], 10.25)
    assert link.deadline() == 10.4375
    link.receive([control(Kind.PING, number=8)], 10.5)
    assert link.deadline() == 10.6875


def test_messages_under_way_are_asked_after_though_the_peer_is_heard() -> None:
    link = attached(heartbeat=HEARTBEAT)
    send(link, b"swallowed")
    link.written = 33
    for step in range(1, 9):
        now = 10.0 + step * 0.25
        assert link.receive([single(step)], now - 0.05) == [Delivered(MESSAGES, step, [b"x"])]
        assert link.deadline() == now
        assert link.tick(now) == []
        assert said(link) == [control(Kind.PING, number=step)]
        link.receive([control(Kind.PONG, number=step, ack=0)], now)
    assert link.tick(12.25) == [Failed("what is written to the data channel does not arrive", broken=False)]


def test_messages_that_are_acknowledged_get_through_whatever_the_pongs_say() -> None:
    link = attached(heartbeat=HEARTBEAT)
    send(link, *[b"slow"] * 16)
    link.written = 33
    for step in range(1, 13):
        now = 10.0 + step * 0.25
        assert link.tick(now) == []
        link.probe(now)
        (ping,) = said(link)
        acked, answered = control(Kind.ACK, ack=step), control(Kind.PONG, number=ping.number, ack=0)
        events = link.receive([acked, answered], now + 0.125)
        assert events == [WindowOpened(MESSAGES), RoundTrip(0.125)]
    assert link.state is LinkState.ATTACHED


def test_a_pong_is_nothing_to_a_link_that_asks_nobody() -> None:
    link = attached()
    assert link.receive([control(Kind.PONG, number=1)], 10.1) == []
    assert link.state is LinkState.ATTACHED


def test_who_only_listens_says_so_twice_an_interval_or_the_peer_would_hear_nothing() -> None:
    """Half of a long message, and more of it, and more: there is nothing to acknowledge, and no reason to ask."""
    link = attached(heartbeat=replace(HEARTBEAT, interval=1.0))
    spoken = []
    for step in range(1, 25):
        now = 10.0 + step * 0.125
        assert link.receive([], now) == []
        if link.has_control:
            spoken.append(now)
            said(link)
    assert spoken == [10.5, 11.0, 11.5, 12.0, 12.5, 13.0]


@pytest.mark.parametrize("speak", [lambda link: send(link, b"x"), lambda link: link.receive([control(Kind.PING)], 0.0)])
def test_who_says_anything_else_need_not_say_that_it_listens(speak: Callable[[Link], object]) -> None:
    link = attached(heartbeat=replace(HEARTBEAT, interval=1.0))
    for step in range(1, 25):
        link.receive([], 10.0 + step * 0.125)
        assert not link.has_control
        if step % 3 == 2:
            speak(link)
            said(link)


def test_a_pong_says_how_much_has_arrived_on_the_data_channel() -> None:
    link = attached()
    link.arrived = 4096
    link.receive([control(Kind.PING, number=7)], 10.0)
    assert said(link) == [control(Kind.PONG, number=7, ack=4096)]


def test_the_nearer_of_ping_and_ack_is_the_deadline() -> None:
    link = attached(heartbeat=HEARTBEAT)
    link.receive([single(1)], 10.0)
    link.consumed(MESSAGES, 1, 10.0)
    assert link.deadline() == 10.0 + ACK_DELAY
    link.tick(10.0 + ACK_DELAY)
    assert len(said(link)) == 1
    assert link.deadline() == 10.25


def test_a_ping_is_answered_with_its_number() -> None:
    link = attached()
    assert link.receive([control(Kind.PING, number=7)], 10.0) == []
    assert said(link) == [control(Kind.PONG, number=7)]
    assert said(link) == []


def test_a_flood_of_pings_is_answered_once() -> None:
    link = attached()
    link.receive([control(Kind.PING, number=number) for number in range(1000)], 10.0)
    link.receive([control(Kind.PING, number=1000)], 10.0)
    assert said(link) == [control(Kind.PONG, number=1000)]


def drive(link: Link, until: float) -> list[tuple[float, Event]]:
    """Tick at each deadline up to ``until``; return what happened, and when."""
    events: list[tuple[float, Event]] = []
    while (deadline := link.deadline()) is not None and deadline <= until:
        events += [(deadline, event) for event in link.tick(deadline)]
        link.control_to_send()
    return events


def test_a_silent_connection_is_given_up_at_the_timeout_once() -> None:
    link = attached(heartbeat=HEARTBEAT)
    assert drive(link, 100.0) == [(12.0, Failed("nothing was heard for 2.000 s", broken=False))]
    assert link.silence == 2.0
    assert link.state is LinkState.DETACHED
    assert link.tick(13.0) == []
    assert link.deadline() is None


def test_a_silence_that_phi_finds_too_long_is_suspected_first() -> None:
    link = attached(heartbeat=replace(HEARTBEAT, samples=0, failure=math.inf))
    (suspected_at, suspected), failed = drive(link, 100.0)
    assert isinstance(suspected, Suspected)
    assert 10.5 < suspected_at < 11.75
    assert failed[0] == 12.0


def test_two_probes_without_an_answer_and_a_phi_without_a_doubt_are_a_verdict_before_the_timeout() -> None:
    link = attached(heartbeat=replace(HEARTBEAT, samples=0))
    (suspected_at, _), (failed_at, failed) = drive(link, 100.0)
    assert suspected_at + 0.25 <= failed_at < 12.0
    assert isinstance(failed, Failed)


def test_a_suspected_peer_that_is_heard_recovers() -> None:
    link = attached(heartbeat=replace(HEARTBEAT, samples=0, failure=math.inf))
    assert [type(event) for _, event in drive(link, 11.5)] == [Suspected]
    assert link.receive([control(Kind.PONG, number=99)], 11.5) == [Recovered()]
    assert link.receive([control(Kind.PONG, number=99)], 11.5) == []


def test_an_answered_ping_is_a_round_trip_and_a_forged_answer_is_none() -> None:
    link = attached(heartbeat=HEARTBEAT)
    link.tick(10.25)
    assert said(link) == [control(Kind.PING, number=1)]
    assert link.receive([control(Kind.PONG, number=2)], 10.3) == []
    assert link.receive([control(Kind.PONG, number=1)], 10.375) == [RoundTrip(0.125)]
    assert link.receive([control(Kind.PONG, number=1)], 10.5) == []


def test_a_probe_is_a_ping_now() -> None:
    link = attached(heartbeat=HEARTBEAT)
    link.probe(10.1)
    assert said(link) == [control(Kind.PING, number=1)]
    assert link.deadline() == 10.35
    plain = attached()
    plain.probe(10.1)
    assert said(plain) == []


@given(
    st.lists(st.floats(0, 0.3), max_size=20),
    st.lists(st.tuples(st.integers(0, 19), st.floats(0, 1)), max_size=20),
)
def test_a_tick_that_comes_early_or_twice_changes_nothing(gaps: list[float], extra: list[tuple[int, float]]) -> None:
    def run(early: list[tuple[int, float]]) -> list[tuple[float, bytes, list[Event]]]:
        link = attached(heartbeat=HEARTBEAT)
        now, trace = 10.0, []
        for step, gap in enumerate(gaps):
            deadline = link.deadline()
            assert deadline is not None
            for _, share in (item for item in early if item[0] == step):
                assert link.tick(now + (deadline - now) * share * 0.99) == []
                assert link.control_to_send() == b""
            now += gap
            if now >= deadline:
                events = link.tick(now)
                trace.append((now, link.control_to_send(), events))
                assert link.tick(now) == []
                assert link.control_to_send() == b""
            else:
                link.receive([single(link.received[MESSAGES] + 1)], now)
                link.consumed(MESSAGES, link.received[MESSAGES], now)
                trace.append((now, link.control_to_send(), []))
        return trace

    assert run(extra) == run([])


# Connections.


def test_r10_what_comes_before_a_connection_is_attached_is_ignored_and_not_counted() -> None:
    link = Link(Limits(), heartbeat=HEARTBEAT)
    assert link.receive([single(1)], 10.0) == []
    assert link.received == (0, 0)
    assert link.tick(100.0) == []
    assert link.deadline() is None


def test_a_new_connection_resumes_both_lanes_where_the_peer_says() -> None:
    one, other = attached(), attached()
    lost = send(one, b"m1") + send(one, b"m2") + send(one, b"c1", lane=CALLS)
    other.receive(lost[:1], 10.0)
    one.detach()
    other.detach()
    assert one.state is LinkState.DETACHED
    one.lanes[MESSAGES].offer(b"m3")
    assert other.received == (1, 0)
    one.check_resume(other.received)
    one.attach(other.received, 11.0)
    other.attach(one.received, 11.0)
    again = on_the_wire(one.data_to_send(BUDGET))
    assert again == [single(1, b"c1", lane=CALLS), single(2, b"m2"), single(3, b"m3")]
    assert other.receive(again, 11.0) == [
        Delivered(CALLS, 1, [b"c1"]),
        Delivered(MESSAGES, 2, [b"m2"]),
        Delivered(MESSAGES, 3, [b"m3"]),
    ]


def test_what_cannot_be_true_of_either_lane_is_found_before_resuming() -> None:
    link = attached()
    link.check_resume((0, 0))
    for received in ((1, 0), (0, 1)):
        with pytest.raises(ProtocolFault, match="claims to have received message 1, but only 0 were sent"):
            link.check_resume(received)


def test_a_new_connection_begins_with_a_clean_slate_of_time_and_says_its_acks_again() -> None:
    link = attached(heartbeat=HEARTBEAT)
    link.receive([single(1), control(Kind.PING, number=7)], 10.0)
    link.consumed(MESSAGES, 1, 10.0)
    link.tick(10.25)
    link.detach()
    link.attach((0, 0), 20.0)
    assert link.deadline() == 20.25
    assert said(link) == [control(Kind.ACK, ack=1)]
    assert link.tick(20.125) == []


def test_the_dialling_side_confirms_with_its_ack_whatever_that_is() -> None:
    link = attached()
    assert link.confirmation() == frames.encode(Kind.ACK, ack=0)
    link.receive([single(1), single(1, lane=CALLS)], 10.0)
    link.consumed(MESSAGES, 1, 10.0)
    assert link.confirmation() == frames.encode(Kind.ACK, ack=1)
    assert said(link) == []


def test_what_the_peer_acknowledged_is_known_by_lane() -> None:
    link = attached()
    send(link, b"a", b"b")
    send(link, b"c", lane=CALLS)
    link.receive([control(Kind.ACK, ack=1), control(Kind.ACK, lane=CALLS, ack=1)], 10.0)
    assert link.acknowledged == (1, 1)


def test_detaching_twice_changes_nothing() -> None:
    link = attached()
    link.detach()
    link.detach()
    assert link.state is LinkState.DETACHED


# Faults.


def test_a_fault_is_one_event_after_the_good_ones_and_ends_the_connection() -> None:
    link = attached()
    events = link.receive([single(1), single(3), single(2)], 10.0)
    assert events == [
        Delivered(MESSAGES, 1, [b"x"]),
        Failed("message 3 came, 2 was expected", broken=True),
    ]
    assert link.state is LinkState.DETACHED
    assert link.receive([single(2), single(9)], 10.0) == []
    assert link.received == (1, 0)


@pytest.mark.parametrize(
    "frame", [control(Kind.ACK, ack=10), control(Kind.ACK, lane=CALLS, ack=1), single(1, ack=10)], ids=repr
)
def test_r4_an_ack_of_what_was_never_sent_ends_the_connection_and_the_session_survives(frame: Frame) -> None:
    link = attached()
    send(link, *[b"x"] * 8)
    last = link.receive([frame], 10.0)[-1]
    assert isinstance(last, Failed)
    assert last.broken
    assert "was acknowledged, but only" in last.reason
    link.attach((0, 0), 11.0)
    assert [(frame.number, frame.messages) for frame in on_the_wire(link.data_to_send(BUDGET))] == [(1, 8)]


def test_r5_an_ack_lower_than_an_earlier_one_says_nothing() -> None:
    link = attached()
    send(link, b"a", b"b")
    assert link.receive([control(Kind.ACK, ack=2)], 10.0) == [WindowOpened(MESSAGES)]
    assert link.receive([control(Kind.ACK, ack=1), control(Kind.ACK, ack=2)], 10.0) == []


# The end.


def goodbye(link: Link) -> Frame:
    (frame,) = FrameReader(CONTROL_KINDS, 1000).receive(link.goodbye())
    return frame


def test_goodbye_names_the_last_number_of_each_lane() -> None:
    link = attached()
    send(link, b"a", b"b")
    send(link, b"c", lane=CALLS)
    assert goodbye(link) == control(Kind.GOODBYE, number=2, ack=1)


def test_a_goodbye_after_the_last_data_is_heard_at_once() -> None:
    one, other = attached(), attached()
    other.receive(send(one, b"a"), 10.0)
    assert other.receive([goodbye(one)], 10.0) == [Left()]


def test_a_goodbye_that_overtakes_the_data_waits_for_the_last_of_both_lanes() -> None:
    one, other = attached(), attached()
    call, message = send(one, b"c", lane=CALLS) + send(one, b"m")
    assert other.receive([goodbye(one)], 10.0) == []
    assert other.receive([message], 10.0) == [Delivered(MESSAGES, 1, [b"m"])]
    assert other.receive([call], 10.0) == [Delivered(CALLS, 1, [b"c"]), Left()]
    assert other.receive([control(Kind.PING), message, call], 10.0) == []


def test_a_goodbye_survives_the_connection_that_brought_it() -> None:
    one, other = attached(), attached()
    send(one, b"lost on the way")
    other.receive([goodbye(one)], 10.0)
    for link in (one, other):
        link.detach()
        link.attach((0, 0), 11.0)
    last = other.receive(on_the_wire(one.data_to_send(BUDGET)), 11.0)
    assert last == [Delivered(MESSAGES, 1, [b"lost on the way"]), Left()]


def test_over_is_over() -> None:
    link = attached(heartbeat=HEARTBEAT)
    send(link, b"a")
    link.lanes[MESSAGES].offer(b"b")
    link.end()
    link.detach()
    with pytest.raises(RuntimeError, match="the link is over"):
        link.attach((0, 0), 11.0)
    assert link.state is LinkState.OVER
    assert link.receive([single(1)], 11.0) == []
    assert link.tick(100.0) == []
    assert link.deadline() is None
    assert not link.has_data
    assert link.data_to_send(BUDGET) == []
    assert link.lanes[MESSAGES].tail() == (1, 2, 2)


def test_drained_is_when_everything_accepted_was_acknowledged_on_both_lanes() -> None:
    link = attached()
    steps = [link.is_drained]
    send(link, b"a")
    send(link, b"c", lane=CALLS)
    for lane in (MESSAGES, CALLS):
        steps.append(link.is_drained)
        link.receive([control(Kind.ACK, lane=lane, ack=1)], 10.0)
    assert [*steps, link.is_drained] == [True, False, False, True]


def test_a_transcript_of_the_control_channel_is_given_bytes() -> None:
    link = attached(heartbeat=HEARTBEAT)
    link.receive([control(Kind.PING, number=258), single(1, lane=CALLS)], 10.0)
    link.consumed(CALLS, 1, 10.0)
    link.tick(10.25)
    assert link.control_to_send() == (
        frames.encode(Kind.ACK, lane=1, ack=1)
        + b"\x00\x00\x00\x00\x21\x00\x00\x00\x02\x01" + bytes(14)
        + b"\x00\x00\x00\x00\x20\x00\x00\x00\x01" + bytes(15)
    )  # fmt: skip
