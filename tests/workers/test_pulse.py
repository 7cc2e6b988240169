"""The loop stamps its own turns: exactly around its waits, and nothing when there is no board."""

import asyncio
import os
import selectors
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from meshvisor import LivenessBoard
from meshvisor.shared.control.lifeline import Assignment, Failure, Links, Listening, Ready
from meshvisor.shared.memory.board import BoardEntry, Stage
from meshvisor.workers.peers import make_peer
from meshvisor.workers.presence import Presence, open_board
from meshvisor.workers.pulse import Pulse, PulsedLoop, PulsedSelector
from meshvisor.workers.testing import run_virtual


def entry_of(board: LivenessBoard, index: int = 0) -> BoardEntry:
    entry = board.read(index)
    assert entry is not None
    return entry


def well(late: float, is_idle: bool) -> bool:
    return True


@pytest.fixture
def board() -> Iterator[LivenessBoard]:
    made = LivenessBoard.create(4)
    yield made
    made.close()


def assignment(incarnation: int = 1) -> Assignment:
    return Assignment(
        mesh="m",
        name="counter",
        group="counter",
        replica=0,
        incarnation=incarnation,
        epoch=99,
        class_path="x:Y",
        path=".",
        settings={},
        listen=(),
        secret=b"",
        roster=(),
        board_index=2,
    )


def test_the_selector_says_that_it_waits_and_then_when_it_went_on(board: LivenessBoard) -> None:
    writer = board.claim(0, "a", 1, 1)
    reader, writing = os.pipe()
    seen: list[float | None] = []
    selector = PulsedSelector()
    selector.register(reader, 1)
    selector.attach(writer, well)
    os.write(writing, b"x")
    before = time.monotonic()
    assert [key.fd for key, _ in selector.select()] == [reader]
    seen.append(board.turn(board.stamp(0), 1))
    os.read(reader, 1)
    assert selector.select(0) == []  # ready work makes a turn, too
    seen.append(board.turn(board.stamp(0), 1))
    after = time.monotonic()
    first, second = seen
    assert first is not None
    assert second is not None
    assert before <= first < second <= after
    selector.detach()
    selector.select(0)
    assert board.turn(board.stamp(0), 1) == second
    selector.close()
    os.close(reader)
    os.close(writing)


@dataclass
class Waits:
    """The waits of a selector on a clock of its own: each takes its time, or the one given by ``ready``."""

    selector: PulsedSelector
    board: LivenessBoard
    now: int = 1_000_000_000
    ready: list[float] = field(default_factory=list)  # seconds after which something is ready, once each
    waits: list[tuple[float, float | None]] = field(default_factory=list)  # when, and for how long
    beats: list[tuple[float, float, bool]] = field(default_factory=list)  # when, how late, whether idle
    accounts: list[float] = field(default_factory=list)  # when
    beats_left: int = 1_000

    @property
    def at(self) -> float:
        return round(self.now / 1e9 - 1.0, 6)

    def wait(self, timeout: float | None) -> list[object]:
        assert self.board.turn(self.board.stamp(0), 1) is None
        self.waits.append((self.at, timeout if timeout is None else round(timeout, 6)))
        if self.ready and (timeout is None or self.ready[0] <= timeout):
            self.now += round(self.ready.pop(0) * 1e9)
            return ["ready"]
        assert timeout is not None, "it would wait for ever"
        self.now += max(0, round(timeout * 1e9))
        self.ready = [left - timeout for left in self.ready]
        return []

    def beat(self, late: float, is_idle: bool) -> bool:
        self.beats.append((self.at, round(late, 6), is_idle))
        self.beats_left -= 1
        return self.beats_left >= 0


@pytest.fixture
def waits(board: LivenessBoard, monkeypatch: pytest.MonkeyPatch) -> Iterator[Waits]:
    made = Waits(PulsedSelector(), board)
    board.base = 0
    monkeypatch.setattr(time, "monotonic_ns", lambda: made.now)
    monkeypatch.setattr(selectors.EpollSelector, "select", lambda selector, timeout: made.wait(timeout))
    made.selector.attach(board.claim(0, "a", 1, 1), made.beat, lambda: made.accounts.append(made.at))
    yield made
    made.selector.close()


def test_while_it_waits_the_stamp_says_so_and_after_that_since_when_it_goes_on(waits: Waits) -> None:
    waits.selector.select(0)
    waits.selector.select(0.5)
    assert waits.board.turn(waits.board.stamp(0), 1) == 1.5
    assert waits.waits == [(0.0, 0), (0.0, 0.5)]
    assert waits.beats == []


def test_a_long_wait_is_made_in_slices_for_the_beats_and_ends_when_it_should(waits: Waits) -> None:
    assert waits.selector.select(5.0) == []
    assert waits.waits == [(0.0, 2.0), (2.0, 2.0), (4.0, 1.0)]
    # In the turn before the first one something may have been done.
    assert waits.beats == [(2.0, 0.0, False), (4.0, 0.0, True)]
    assert waits.board.turn(waits.board.stamp(0), 1) == 6.0


def test_a_wait_without_an_end_ends_when_something_is_ready(waits: Waits) -> None:
    waits.ready = [60.5]
    assert waits.selector.select(None)
    assert waits.at == 60.5
    assert len(waits.beats) == 30


def test_a_loop_that_never_waits_for_long_gives_its_beats_between_two_turns(waits: Waits) -> None:
    waits.selector.select(1.75)
    waits.now += 750_000_000  # a callback that takes so long
    waits.selector.select(0)
    waits.selector.select(1.75)
    waits.selector.select(0.5)
    assert waits.beats == [(2.5, 0.5, False), (4.5, 0.0, False)]
    assert waits.waits == [(0.0, 1.75), (2.5, 0), (2.5, 1.75), (4.25, 0.25), (4.5, 0.25)]


def test_a_turn_begins_with_an_account_unless_there_has_just_been_one(waits: Waits) -> None:
    for seconds in (0.009, 0.001, 0.009, 0.5, 0.009):
        waits.selector.select(seconds)
    assert waits.accounts == [0.01, 0.519]
    waits.selector.select(1.472)  # until the beat is due, which has one with it
    waits.selector.select(0.009)
    assert waits.beats == [(2.0, 0.0, False)]
    assert waits.accounts == [0.01, 0.519]
    waits.selector.select(0.001)
    assert waits.accounts == [0.01, 0.519, 2.01]


def test_while_it_waits_nothing_is_told_of_the_thread(waits: Waits) -> None:
    waits.selector.select(1.9)
    assert waits.accounts == [1.9]


def test_once_a_beat_is_refused_the_wait_goes_on_and_nothing_more_is_stamped(waits: Waits) -> None:
    waits.beats_left = 1
    waits.selector.select(7.0)
    assert waits.waits == [(0.0, 2.0), (2.0, 2.0), (4.0, 3.0)]
    assert waits.board.turn(waits.board.stamp(0), 1) is None


def test_every_turn_of_a_loop_is_stamped_with_its_own_time(board: LivenessBoard) -> None:
    async def main() -> list[float | None]:
        pulse = Pulse(board.claim(0, "a", 1, 1), asyncio.get_running_loop())
        pulse.start()
        stamps = []
        for _ in range(3):
            await asyncio.sleep(0)
            stamps.append(board.turn(board.stamp(0), 1))
        pulse.stop()
        pulse.stop()
        return stamps

    begin = time.monotonic()
    with asyncio.Runner(loop_factory=PulsedLoop) as runner:
        first, second, third = runner.run(main())
    assert first is not None
    assert second is not None
    assert third is not None
    assert begin <= first < second < third <= time.monotonic()


def test_a_beat_tells_how_late_the_timers_are_and_what_was_measured(board: LivenessBoard) -> None:
    told: list[tuple[int, float, int, int, int]] = []
    lags: list[tuple[int, float]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        pulse = Pulse(board.claim(0, "a", 1, 1), loop)
        pulse.count_messages = lambda: (len(told), 10 * len(told))
        pulse.start()
        for pause in (1.0, 2.0, 2.0):
            pulse.links_up += 1
            await asyncio.sleep(pause)
            entry = entry_of(board)
            told.append((entry.beats, entry.lag, entry.messages_in, entry.messages_out, entry.links_up))
        loop._jumping.now += 3.25  # type: ignore[attr-defined]  # a callback that took so long
        for pause in (0.001, 19.0, 2.0):
            await asyncio.sleep(pause)
            lags.append((entry_of(board).beats, entry_of(board).lag))
        pulse.stop()

    run_virtual(main())
    assert told == [(1, 0.0, 0, 0, 0), (2, 0.0, 1, 10, 2), (3, 0.0, 2, 20, 3)]
    assert lags == [(4, 2.25), (13, 2.25), (14, 0.0)]


def test_a_loop_without_our_selector_is_stamped_each_beat(board: LivenessBoard) -> None:
    async def main() -> list[int]:
        writer = board.claim(0, "a", 1, 1)
        pulse = Pulse(writer, asyncio.get_running_loop(), beat=0.1)
        pulse.start()
        stamps = []
        for _ in range(4):
            await asyncio.sleep(0.05)
            stamps.append(board.stamp(0))
        pulse.stop()
        await asyncio.sleep(1.0)
        stamps.append(board.stamp(0))
        return stamps

    first, second, third, fourth, last = run_virtual(main())
    assert first < second == third < fourth == last


def test_uvloop_is_stamped_each_beat(board: LivenessBoard) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def main() -> None:
        pulse = Pulse(board.claim(0, "a", 1, 1), asyncio.get_running_loop(), beat=0.005)
        pulse.start()
        first = board.stamp(0)
        while board.stamp(0) == first:
            await asyncio.sleep(0.001)
        pulse.stop()

    uvloop.run(main())


def test_the_kernels_account_of_the_thread_goes_with_the_beat(board: LivenessBoard) -> None:
    async def main() -> None:
        pulse = Pulse(board.claim(0, "a", 1, 1), asyncio.get_running_loop())
        pulse.start()
        account = pulse._account
        assert os.readlink(f"/proc/self/fd/{account}").endswith("/schedstat")
        pulse.stop()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(account)

    with asyncio.Runner(loop_factory=PulsedLoop) as runner:
        runner.run(main())
    entry = entry_of(board)
    assert entry.executed is not None
    assert 0 < entry.executed <= time.thread_time() + 0.001


def test_what_was_done_before_a_turn_is_told_apart_from_what_is_done_in_it(board: LivenessBoard) -> None:
    """Who computed until a moment ago, and then blocks, has been quiet since that turn began."""

    async def main() -> None:
        pulse = Pulse(board.claim(0, "a", 1, 1), asyncio.get_running_loop())
        pulse.start()
        before = time.thread_time()
        while time.thread_time() < before + 0.03:
            pass
        await asyncio.sleep(0)
        entry = entry_of(board)
        assert entry.executed is not None
        assert entry.executed >= before + 0.03
        pulse.stop()

    with asyncio.Runner(loop_factory=PulsedLoop) as runner:
        runner.run(main())


def test_a_pulse_ends_when_a_later_incarnation_has_the_slot(board: LivenessBoard) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        pulse = Pulse(board.claim(0, "a", 1, 1), loop, beat=0.1)
        pulse.start()
        await asyncio.sleep(0.5)
        board.claim(0, "a", 2, 2)
        await asyncio.sleep(2.0)
        stamp = board.stamp(0)
        await asyncio.sleep(60.0)
        assert board.stamp(0) == stamp

    run_virtual(main())


def test_messages_are_not_counted_anew_while_the_loop_has_made_no_turn(board: LivenessBoard) -> None:
    async def main() -> None:
        pulse = Pulse(board.claim(0, "a", 1, 1), asyncio.get_running_loop())
        pulse.count_messages = lambda: (next(counts), 0)
        pulse.start()
        told = [entry_of(board).messages_in]
        for is_idle in (True, False):
            assert pulse._give_beat(0.0, is_idle)
            told.append(entry_of(board).messages_in)
        assert told == [1, 1, 2]
        pulse.stop()

    counts = iter((1, 2))
    with asyncio.Runner(loop_factory=PulsedLoop) as runner:
        runner.run(main())


def test_a_loop_of_ours_beats_without_a_turn_and_keeps_its_times(
    board: LivenessBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshvisor.workers.pulse._INTERVAL", 10_000_000)
    turns: list[None] = []

    class Counting(PulsedLoop):
        def _run_once(self) -> None:
            turns.append(None)
            super()._run_once()  # type: ignore[misc]

    async def main() -> float:
        loop = asyncio.get_running_loop()
        pulse = Pulse(board.claim(0, "a", 1, 1), loop)
        pulse.start()
        begin = loop.time()
        turns.clear()
        await asyncio.sleep(0.055)
        took = loop.time() - begin
        pulse.stop()
        return took

    with asyncio.Runner(loop_factory=Counting) as runner:
        took = runner.run(main())
        assert len(turns) <= 4
    assert took >= 0.0549
    assert entry_of(board).beats >= 3


def test_a_presence_says_on_the_board_what_the_supervisor_is_told(board: LivenessBoard) -> None:
    async def main() -> list[tuple[Stage, tuple[str, ...]]]:
        presence = Presence(open_board({"board": board.fileno()}), asyncio.get_running_loop())
        presence.begin(assignment())
        presence.count_messages(lambda: (4, 5))
        said = []
        for message in (None, Listening(("unix:/a",)), Ready(), Links(3, 9), Failure("run", "...")):
            if message is not None:
                presence.heard(message)
            entry = entry_of(board, 2)
            said.append((entry.stage, entry.endpoints))
        await asyncio.sleep(4.5)
        entry = entry_of(board, 2)
        assert (entry.name, entry.epoch, entry.selector) == ("counter", 99, -1)
        assert (entry.messages_in, entry.messages_out, entry.links_up) == (4, 5, 3)
        assert presence.lag_of("nobody") is None
        lag = presence.lag_of("counter")
        assert lag is not None
        assert 0 <= lag < 60
        return said

    assert run_virtual(main()) == [
        (Stage.STARTING, ()),
        (Stage.LISTENING, ("unix:/a",)),
        (Stage.READY, ("unix:/a",)),
        (Stage.READY, ("unix:/a",)),
        (Stage.STOPPING, ("unix:/a",)),
    ]


def test_without_a_board_nothing_is_said_and_nothing_fails() -> None:
    async def main() -> None:
        presence = Presence(open_board({}), asyncio.get_running_loop())
        presence.begin(assignment())
        for message in (Listening(("unix:/a",)), Ready(), Links(1, 2), Failure("run", "")):
            presence.heard(message)
        presence.stopping()
        assert presence.lag_of("counter") is None

    run_virtual(main())


def test_what_is_no_board_is_logged_and_the_worker_lives(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        presence = Presence(open_board({"board": descriptor}), asyncio.get_running_loop())
        presence.begin(assignment())
        presence.heard(Ready())

    descriptor = os.memfd_create("no-board")
    run_virtual(main())
    os.close(descriptor)
    assert "no liveness board" in caplog.text


def test_a_peer_tells_its_lag_when_it_is_asked() -> None:
    lags = iter([None, 0.25])
    peer = make_peer("a", None, 1, up=True, lag_of=lambda name: next(lags) if name == "a" else -1.0)
    assert [peer.lag, peer.lag] == [None, 0.25]
