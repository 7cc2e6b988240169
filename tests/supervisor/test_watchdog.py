"""The watchdog over a real board on virtual time; what /proc would say is pretended."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from tests.bare_timers import bare_timers

from meshvisor import LivenessBoard
from meshvisor.shared.memory.board import BEAT_AT, OWNER, BoardWriter, Stage
from meshvisor.supervisor import procfs, watchdog
from meshvisor.supervisor.verdict import Look, Verdict
from meshvisor.supervisor.watchdog import Watchdog
from meshvisor.workers.testing import run_virtual

BEAT = 0.025
PID = os.getpid()
QUIET = Look(now=0.0, state="S", executed=5.0, waited=1.0, ticks=5.0, cpu=7.0)


@dataclass
class Scene:
    """A board with its times at zero, a watchdog, and what it said."""

    board: LivenessBoard
    clock: Callable[[], float]
    judged: list[tuple[float, int, Verdict, str]] = field(default_factory=list)
    suspected: list[tuple[float, int, bool]] = field(default_factory=list)
    looks: list[tuple[float, int]] = field(default_factory=list)
    look: Look | None = QUIET
    dog: Watchdog = field(init=False)

    def __post_init__(self) -> None:
        def look(pid: int, tid: int, started: int, now: float) -> Look | None:
            self.looks.append((round(now, 4), pid))
            return self.look and replace(self.look, now=now)

        self.dog = Watchdog(
            asyncio.get_running_loop(),
            self.board,
            BEAT,
            lambda index, verdict, text: self.judged.append((round(self.clock(), 4), index, verdict, text)),
            lambda index, is_late: self.suspected.append((round(self.clock(), 4), index, is_late)),
            look=look,
            clock=self.clock,
        )

    def worker(self, index: int = 0, incarnation: int = 1) -> BoardWriter:
        writer = self.board.claim(index, f"worker-{index}", incarnation, 1)
        writer.set_stage(Stage.READY)
        self.beat(writer)
        self.wait(writer)
        return writer

    def watch(self, index: int = 0, incarnation: int = 1, hang: float | None = 0.1, busy: float | None = 1.0) -> None:
        self.dog.watch(index, PID, incarnation, hang_timeout=hang, busy_timeout=busy, start_time=1)

    def beat(self, writer: BoardWriter) -> None:
        writer.beat()
        writer.account(0, 0, 5_000_000_000, 1_000_000_000)
        writer.words[writer._pulse + BEAT_AT] = writer.waiting + max(1, round(self.clock() * 1e9))

    def wait(self, writer: BoardWriter) -> None:
        writer.words[writer.stamp_at] = writer.waiting

    def turn(self, writer: BoardWriter, at: float | None = None) -> None:
        writer.words[writer.stamp_at] = writer.waiting + round((self.clock() if at is None else at) * 1e9)


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Scene], object]], Scene]:
    def run(act: Callable[[Scene], object]) -> Scene:
        async def main() -> Scene:
            board = LivenessBoard.create(8)
            board.base = 0
            scene = Scene(board, asyncio.get_running_loop().time)
            await act(scene)  # type: ignore[misc]
            scene.dog.close()
            board.close()
            return scene

        return run_virtual(main())

    monkeypatch.setattr(procfs, "waits_on", lambda pid, tid: None)
    monkeypatch.setattr(procfs, "sleeps_in", lambda pid, tid: "futex_wait_queue")
    return run


Play = Callable[[Callable[[Scene], object]], Scene]


def test_workers_that_wait_are_well_and_nobody_looks_at_them(play: Play) -> None:
    async def act(scene: Scene) -> None:
        writers = [scene.worker(index) for index in range(5)]
        for index in (0, 2, 4):
            scene.watch(index)
        for _ in range(30):
            await asyncio.sleep(1.0)
            for writer in writers:
                scene.beat(writer)

    scene = play(act)
    assert (scene.judged, scene.suspected, scene.looks) == ([], [], [])


def test_a_turn_that_does_not_end_is_suspected_after_four_beats_and_judged_at_its_time_out(play: Play) -> None:
    async def act(scene: Scene) -> None:
        writer = scene.worker()
        scene.watch(hang=0.5)
        await asyncio.sleep(0.99)
        scene.turn(writer)
        await asyncio.sleep(2.0)

    scene = play(act)
    ((at, index, late),) = scene.suspected
    assert (index, late) == (0, True)
    assert 1.09 < at <= 1.09 + BEAT
    ((at, index, verdict, text),) = scene.judged
    assert 1.49 <= at <= 1.49 + BEAT
    assert (index, verdict) == (0, Verdict.BLOCKED)
    assert text == "its event loop made no turn for 0.50 s and used no CPU (state S, in futex_wait_queue)"


@pytest.mark.parametrize("hang", [0.1, 0.15, 0.2, 0.5])
@pytest.mark.parametrize("begin", [0.95 + step / 100 for step in range(10)])
def test_the_verdict_comes_at_the_time_out_wherever_between_two_scans_the_turn_began(
    play: Play, hang: float, begin: float
) -> None:
    async def act(scene: Scene) -> None:
        writer = scene.worker()
        scene.watch(hang=hang)
        await asyncio.sleep(begin)
        scene.turn(writer)
        await asyncio.sleep(0.3)
        scene.beat(writer)
        await asyncio.sleep(0.7)

    ((at, *_),) = play(act).judged
    assert at == pytest.approx(begin + hang, abs=0.0011)


def test_whoever_is_watched_by_a_shorter_time_out_is_looked_at_in_time(play: Play) -> None:
    async def act(scene: Scene) -> None:
        writers = [scene.worker(index) for index in range(2)]
        scene.watch(0, hang=1.0)
        await asyncio.sleep(0.96)  # right after a scan
        scene.watch(1, hang=0.1)
        scene.turn(writers[1])
        await asyncio.sleep(0.5)

    ((at, index, *_),) = play(act).judged
    assert index == 1
    assert at == pytest.approx(1.06, abs=0.0011)


def test_a_worker_that_recovers_at_the_last_moment_is_no_longer_suspected(play: Play) -> None:
    async def act(scene: Scene) -> None:
        writer = scene.worker()
        scene.watch(hang=0.5)
        await asyncio.sleep(0.99)
        scene.turn(writer)
        await asyncio.sleep(0.499)
        scene.wait(writer)
        await asyncio.sleep(0.4)
        scene.beat(writer)

    scene = play(act)
    assert scene.judged == []
    assert [late for _, _, late in scene.suspected] == [True, False]


def test_turns_that_are_long_but_end_are_never_judged(play: Play) -> None:
    async def act(scene: Scene) -> None:
        writer = scene.worker()
        scene.watch()
        for _ in range(50):
            scene.turn(writer)
            await asyncio.sleep(0.09)
            scene.beat(writer)

    scene = play(act)
    assert (scene.judged, scene.suspected) == ([], [])
    assert scene.looks


def test_a_turn_made_while_the_last_look_was_taken_saves_the_worker(play: Play) -> None:
    async def act(scene: Scene) -> None:
        writer = scene.worker()
        scene.watch()
        await asyncio.sleep(0.99)
        scene.turn(writer)

        def look(pid: int, tid: int, started: int, now: float) -> Look:
            if now >= 1.09:
                scene.wait(writer)
            return replace(QUIET, now=now)

        scene.dog._look_at = look
        await asyncio.sleep(0.5)

    assert play(act).judged == []


def test_a_stamp_is_not_believed_while_the_kernel_says_that_the_loop_waits(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(scene: Scene) -> None:
        writer = scene.board.claim(0, "worker-0", 1, 1, selector=17)
        writer.set_stage(Stage.READY)
        scene.beat(writer)
        scene.watch()
        await asyncio.sleep(0.99)
        scene.turn(writer, at=0.5)
        await asyncio.sleep(0.5)
        waits_on.append(4)  # another one, from within a callback
        await asyncio.sleep(0.5)

    waits_on = [17]
    monkeypatch.setattr(procfs, "waits_on", lambda pid, tid: waits_on[-1])
    ((at, _, verdict, _),) = play(act).judged
    assert verdict is Verdict.BLOCKED
    assert at > 1.49


def test_an_idle_loop_that_misses_its_beats_is_frozen_while_it_waits(play: Play) -> None:
    async def act(scene: Scene) -> None:
        scene.worker()
        scene.watch(hang=1.0)
        await asyncio.sleep(10.0)

    ((at, index, verdict, text),) = play(act).judged
    # A beat is due each 2 s; a second after that it is overdue, and a time-out later there is a verdict.
    assert (index, verdict) == (0, Verdict.BLOCKED)
    assert 4.0 <= at <= 4.3
    assert text.startswith("its event loop waits and is 1.")


def test_a_stopped_process_is_judged_at_the_first_look(play: Play) -> None:
    async def act(scene: Scene) -> None:
        writer = scene.worker()
        scene.watch(hang=30.0)
        await asyncio.sleep(0.99)
        scene.turn(writer)
        scene.look = replace(QUIET, state="T", stop_signal=19)
        await asyncio.sleep(1.0)

    ((at, _, verdict, text),) = play(act).judged
    assert verdict is Verdict.STOPPED
    assert at <= 0.99 + 3 * BEAT + 0.001
    assert text.startswith("it is stopped (state T, by SIGSTOP)")


def test_after_a_pause_of_its_own_the_watchdog_tells_nothing_for_a_while_and_counts_none_of_it(play: Play) -> None:
    # The clocks go on while the machine stands still; here only the watchdog's does.
    async def act(scene: Scene) -> None:
        skipped = 0.0
        clock = scene.clock
        scene.dog._clock = scene.clock = lambda: clock() + skipped
        writer = scene.worker()
        scene.watch()
        await asyncio.sleep(0.99)
        scene.turn(writer)
        await asyncio.sleep(0.06)
        skipped = 3600.0
        await asyncio.sleep(2.0)

    scene = play(act)
    ((at, _, verdict, _),) = scene.judged
    assert verdict is Verdict.BLOCKED
    # Silence until the last look before, at 1.05 at the latest, counts; then four beats of grace do not.
    assert 3600.0 + 1.05 + 0.1 + 0.04 <= at <= 3600.0 + 1.05 + 0.2 + 3 * BEAT
    assert all(at >= 3600.0 + 1.05 + 0.1 for at, _, _ in scene.suspected)


def test_pauses_that_come_again_and_again_delay_a_verdict_and_do_not_prevent_it(play: Play) -> None:
    async def act(scene: Scene) -> None:
        skipped = 0.0
        clock = scene.clock
        scene.dog._clock = scene.clock = lambda: clock() + skipped
        writer = scene.worker()
        scene.watch(hang=0.5)
        await asyncio.sleep(0.99)
        scene.turn(writer)
        for _ in range(20):
            await asyncio.sleep(0.3)
            skipped += 0.2

    ((at, _, verdict, _),) = play(act).judged
    assert verdict is Verdict.BLOCKED
    assert 1.9 <= at <= 2.6


def test_only_the_incarnation_that_is_watched_is_judged_by_its_own_stamps(play: Play) -> None:
    async def act(scene: Scene) -> None:
        old = scene.worker(incarnation=1)
        scene.worker(incarnation=2)
        scene.watch(incarnation=2)
        await asyncio.sleep(0.99)
        scene.turn(old, at=0.1)  # whatever it still stores: the other one is late for nothing
        await asyncio.sleep(0.9)

    scene = play(act)
    assert (scene.judged, scene.looks) == ([], [])


@pytest.mark.parametrize("word", [1, 2**64 - 1, 0xDEAD_BEEF, 1 << 63])
def test_garbage_accuses_nobody(play: Play, word: int) -> None:
    async def act(scene: Scene) -> None:
        writer = scene.worker()
        scene.watch()
        await asyncio.sleep(0.5)
        writer.words[writer.stamp_at] = word
        writer.words[writer._pulse + BEAT_AT] = word
        await asyncio.sleep(5.0)
        scene.wait(writer)
        writer.words[writer._pulse + OWNER] = word
        await asyncio.sleep(5.0)

    scene = play(act)
    assert (scene.judged, scene.suspected) == ([], [])


def test_a_worker_on_its_way_out_is_not_judged(play: Play) -> None:
    async def act(scene: Scene) -> None:
        writer = scene.worker()
        scene.watch()
        writer.set_stage(Stage.STOPPING)
        await asyncio.sleep(0.5)
        scene.turn(writer)
        await asyncio.sleep(5.0)

    assert play(act).judged == []


def test_a_worker_that_begins_to_stop_in_the_turn_that_it_is_late_by_is_not_judged_either(play: Play) -> None:
    async def act(scene: Scene) -> None:
        writer = scene.worker()
        scene.watch()
        await asyncio.sleep(0.5)
        scene.turn(writer)
        await asyncio.sleep(0.05)
        writer.set_stage(Stage.STOPPING)
        await asyncio.sleep(5.0)

    scene = play(act)
    assert scene.looks
    assert scene.judged == []


def test_whoever_is_told_may_raise_and_the_watch_goes_on(play: Play) -> None:
    async def act(scene: Scene) -> None:
        writers = [scene.worker(index) for index in range(2)]
        for index in range(2):
            scene.watch(index)
        errors: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: errors.append(context["exception"]))
        scene.dog._suspected = lambda index, is_late: list[int]().remove(index)
        await asyncio.sleep(0.5)
        scene.turn(writers[0])
        await asyncio.sleep(0.5)
        scene.turn(writers[1])
        await asyncio.sleep(0.5)
        assert {type(error) for error in errors} == {ValueError}

    assert [index for _, index, _, _ in play(act).judged] == [0, 1]


def test_a_slot_that_the_board_does_not_have_cannot_be_watched(play: Play) -> None:
    async def act(scene: Scene) -> None:
        with pytest.raises(ValueError, match="the board has slots 0 to 7, not 8"):
            scene.watch(8)

    play(act)


def test_a_process_that_is_gone_is_somebody_elses_to_tell(play: Play) -> None:
    async def act(scene: Scene) -> None:
        writer = scene.worker()
        scene.watch()
        await asyncio.sleep(0.5)
        scene.turn(writer)
        scene.look = None
        await asyncio.sleep(5.0)

    scene = play(act)
    assert (scene.judged, scene.suspected) == ([], [])


def test_a_process_that_nobody_could_look_at_is_watched_all_the_same(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(scene: Scene) -> None:
        writer = scene.worker()
        monkeypatch.setattr(procfs, "start_time", lambda pid: None)  # no descriptor left
        scene.dog.watch(0, PID, 1, hang_timeout=0.1, busy_timeout=1.0)
        await asyncio.sleep(0.5)
        scene.turn(writer)
        await asyncio.sleep(1.0)
        assert scene.looks == []
        monkeypatch.setattr(procfs, "start_time", lambda pid: 7)
        await asyncio.sleep(1.0)

    scene = play(act)
    assert [(index, verdict) for _, index, verdict, _ in scene.judged] == [(0, Verdict.BLOCKED)]


def test_what_is_no_longer_watched_is_not_judged_and_what_is_watched_again_is(play: Play) -> None:
    async def act(scene: Scene) -> None:
        writer = scene.worker()
        scene.watch()
        await asyncio.sleep(0.49)
        scene.turn(writer)
        await asyncio.sleep(0.07)
        scene.dog.unwatch(0)
        scene.dog.unwatch(0)
        await asyncio.sleep(1.0)
        assert scene.judged == []
        scene.watch()
        await asyncio.sleep(1.0)

    ((at, *_),) = play(act).judged
    assert 1.66 <= at <= 1.66 + 2 * BEAT


def test_each_is_judged_once_and_a_verdict_may_take_others_out(play: Play) -> None:
    async def act(scene: Scene) -> None:
        writers = [scene.worker(index) for index in range(3)]
        for index in range(3):
            scene.watch(index)
        judged = scene.dog._judged

        def judge(index: int, verdict: Verdict, text: str) -> None:
            judged(index, verdict, text)
            scene.dog.unwatch(index)
            scene.dog.unwatch(2)

        scene.dog._judged = judge
        await asyncio.sleep(0.49)
        for writer in writers:
            scene.turn(writer)
        await asyncio.sleep(5.0)

    assert [index for _, index, _, _ in play(act).judged] == [0, 1]


def test_it_scans_no_more_often_than_the_shortest_time_out_asks_for(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(scene: Scene) -> None:
        for index in range(2):
            scene.worker(index)
        for index, hang in ((0, 0.2), (1, 0.1), (1, None)):
            scans.append(0)
            scene.watch(index, hang=hang)
            await asyncio.sleep(0.8)  # three times: no beat is overdue before 3 s

    scans: list[int] = []
    scan = LivenessBoard.scan

    def count(board: LivenessBoard, slots: int) -> bytes:
        scans[-1] += 1
        return scan(board, slots)

    monkeypatch.setattr(LivenessBoard, "scan", count)
    play(act)
    assert scans == [pytest.approx(number, abs=1) for number in (8, 17, 8)]


def test_a_verdict_may_end_the_watch_and_begin_another_one(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(scene: Scene) -> None:
        writer = scene.worker()
        scene.watch()

        def judge(index: int, verdict: Verdict, text: str) -> None:
            scene.dog.unwatch(0)
            scene.wait(writer)
            scene.watch()

        scene.dog._judged = judge
        await asyncio.sleep(0.49)
        scene.turn(writer)
        await asyncio.sleep(0.2)
        scans.clear()
        await asyncio.sleep(0.5)

    scans: list[int] = []
    scan = LivenessBoard.scan

    def count(board: LivenessBoard, slots: int) -> bytes:
        scans.append(slots)
        return scan(board, slots)

    monkeypatch.setattr(LivenessBoard, "scan", count)
    play(act)
    assert len(scans) == pytest.approx(10, abs=1)  # and not twice as many: there is one timer


def test_who_was_suspected_and_stops_is_suspected_no_more(play: Play) -> None:
    async def act(scene: Scene) -> None:
        writer = scene.worker()
        scene.watch(hang=None)
        await asyncio.sleep(0.5)
        scene.turn(writer)
        await asyncio.sleep(0.2)
        writer.set_stage(Stage.STOPPING)
        scene.turn(writer)
        await asyncio.sleep(0.2)
        assert scene.dog._late == set()

    assert [late for _, _, late in play(act).suspected] == [True, False]


def test_the_timer_runs_only_while_somebody_is_watched(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(scene: Scene) -> None:
        scene.worker()
        for _ in range(2):
            await asyncio.sleep(0.5)
            scans.append(0)
            scene.watch()
            await asyncio.sleep(0.5)
            scene.dog.unwatch(0)

    scans: list[int] = []
    scan = LivenessBoard.scan

    def count(board: LivenessBoard, slots: int) -> bytes:
        scans[-1] += 1
        return scan(board, slots)

    monkeypatch.setattr(LivenessBoard, "scan", count)
    play(act)
    assert scans == [pytest.approx(10, abs=1), pytest.approx(10, abs=1)]


def test_the_watchdog_looks_no_further_than_its_scan_while_all_are_well(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(scene: Scene) -> None:
        scene.worker()
        scene.watch()
        await asyncio.sleep(0.9)

    examined: list[float] = []
    monkeypatch.setattr(watchdog.Watchdog, "_examine", lambda self, watched, stamp, now: examined.append(round(now, 3)))
    play(act)
    assert len(examined) == 3  # at each scan that comes a quarter of a second later, for the sake of the beats


def test_a_hang_is_found_on_a_loop_whose_timers_know_no_time(play: Play) -> None:
    async def act(scene: Scene) -> None:
        with bare_timers():
            writer = scene.worker()
            scene.watch(hang=0.5)
            await asyncio.sleep(0.1)
            scene.worker(1)
            scene.watch(1, hang=0.1)
            scene.turn(writer)
            await asyncio.sleep(0.6)

    [(at, index, verdict, _)] = play(act).judged
    assert (at, index, verdict) == (0.6, 0, Verdict.BLOCKED)


def test_how_late_the_loop_itself_was_is_told_once(play: Play) -> None:
    async def act(scene: Scene) -> None:
        scene.beat(scene.worker())
        assert scene.dog.take_lag() == 0.0
        scene.watch()
        timer = scene.dog._timer
        assert timer is not None
        asyncio.get_running_loop()._jumping.now = timer.when() + 0.3  # type: ignore[attr-defined]
        await asyncio.sleep(BEAT)
        assert scene.dog.take_lag() == pytest.approx(0.3)
        await asyncio.sleep(1.0)
        assert scene.dog.take_lag() == pytest.approx(0.0)

    play(act)
