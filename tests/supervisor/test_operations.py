"""Changes that operators ask for: begun once, carried out to the end, whoever still listens."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.supervisor.fake import FakeSupervisor, mesh
from tests.supervisor.stage import Part, Stage

from meshvisor.shared.config import load_config
from meshvisor.shared.config.model import WorkerConfig
from meshvisor.shared.control.requests import (
    Accepted,
    Answer,
    Change,
    Difference,
    Done,
    Faulty,
    Refusal,
    Refused,
    Reload,
    Restart,
    Scale,
    Start,
    Step,
    Stop,
)
from meshvisor.shared.errors import SupervisorError
from meshvisor.supervisor.operations import Operations
from meshvisor.workers.testing import run_virtual


class Desk:
    """Operations on a fake supervisor, and what was told."""

    def __init__(self) -> None:
        self.supervisor = FakeSupervisor()
        self.notes: list[str] = []
        self.operations = Operations(self.supervisor, self.notes.append)
        self.told: list[Answer] = []

    def begin(self, change: Change) -> None:
        self.operations.begin(change, self.told.append)

    async def carry_out(self, change: Change) -> list[Answer]:
        self.begin(change)
        await self.end()
        return self.told

    async def end(self) -> None:
        while self.operations.pending:
            await asyncio.sleep(0.001)


def on_desk(work: Callable[[Desk], Awaitable[None]]) -> Desk:
    async def main() -> Desk:
        desk = Desk()
        await work(desk)
        return desk

    return run_virtual(main())


@pytest.mark.parametrize(
    ("change", "asked"),
    [
        (Start(("a",)), [("start", "a")]),
        (Start(("a", "b", "a")), [("start", "a"), ("start", "b")]),
        (Stop(("b-1",)), [("stop", "b-1")]),
        (Restart(("a", "b")), [("restart", "a", False), ("restart", "b", False)]),
        (Restart(("b",), at_once=True), [("restart", "b", True)]),
        (Scale({"a": 3, "b": 0}), [("scale", {"a": 3, "b": 0})]),
    ],
)
def test_a_change_is_passed_on_and_done(change: Change, asked: list[tuple[object, ...]]) -> None:
    async def work(desk: Desk) -> None:
        begun, done = await desk.carry_out(change)
        assert (begun, type(done)) == (Accepted(), Done)

    assert on_desk(work).supervisor.asked == asked


def test_its_steps_are_told_as_they_are_made_and_once_more_at_the_end() -> None:
    async def work(desk: Desk) -> None:
        desk.supervisor.hold()
        desk.begin(Restart(("b",)))
        await asyncio.sleep(1.0)
        desk.supervisor.publish("slot-stopping", "b-0", 1)
        desk.supervisor.publish("slot-ready", "a", 5)
        await asyncio.sleep(0.5)
        desk.supervisor.publish("slot-ready", "b-0", 2)
        assert desk.told == [Accepted(), Step("b-0", "ready", 2, 0.5)]
        desk.supervisor.finish()
        await desk.end()
        done = desk.told[-1]
        assert isinstance(done, Done)
        assert done.seconds == pytest.approx(1.5, abs=0.01)
        assert done.steps == (Step("b-0", "ready", 2, 0.5), Step("b-1", "ready", 1, None))

    on_desk(work)


@pytest.mark.parametrize("change", [Stop(("a", "c")), Start(("c",)), Restart(("c",)), Scale({"a": 2, "c": 1})])
def test_one_unknown_name_keeps_all_of_it_from_being_done(change: Change) -> None:
    async def work(desk: Desk) -> None:
        (refused,) = await desk.carry_out(change)
        assert isinstance(refused, Refused)
        assert (refused.why, "'c'" in refused.text) == (Refusal.NO_SUCH_SLOT, True)

    assert on_desk(work).supervisor.asked == []


def test_what_cannot_be_at_all_is_refused() -> None:
    async def work(desk: Desk) -> None:
        assert await desk.carry_out(Scale({"a": 1001})) == [Refused(Refusal.FAILED, "not 1001")]
        desk.supervisor.trouble = "the mesh is stopping"
        assert (await desk.carry_out(Stop(("a",))))[1:] == [Refused(Refusal.FAILED, "the mesh is stopping")]

    assert on_desk(work).supervisor.asked == []


def test_the_first_goal_that_is_missed_is_told_and_the_others_go_on() -> None:
    async def work(desk: Desk) -> None:
        desk.supervisor.hold()
        desk.begin(Start(("bad", "a")))
        await asyncio.sleep(1.0)
        assert desk.told == [Accepted(), Refused(Refusal.FAILED, "bad did not become ready: exit status 3")]
        assert desk.operations.pending == 1
        desk.supervisor.finish()
        await desk.end()
        assert len(desk.told) == 2

    desk = on_desk(work)
    assert (desk.supervisor.asked, desk.supervisor.cancelled) == ([("start", "bad"), ("start", "a")], 0)


def test_who_does_not_wait_is_told_only_that_it_has_begun() -> None:
    async def work(desk: Desk) -> None:
        desk.supervisor.hold()
        desk.begin(Restart(("a",), wait=False))
        await asyncio.sleep(1.0)
        desk.supervisor.publish("slot-ready", "a", 2)
        desk.supervisor.finish()
        await desk.end()
        assert desk.told == [Accepted()]

    assert on_desk(work).supervisor.asked == [("restart", "a", False)]


def test_a_failure_that_nobody_waits_for_is_noted() -> None:
    async def work(desk: Desk) -> None:
        assert await desk.carry_out(Start(("bad",), wait=False)) == [Accepted()]
        await desk.carry_out(Start(("bad",)))

    assert on_desk(work).notes == ["the start failed: bad did not become ready: exit status 3"]


def test_they_begin_in_the_order_in_which_they_were_asked_for() -> None:
    async def work(desk: Desk) -> None:
        desk.supervisor.hold()
        for change in (Restart(("a",)), Stop(("a",)), Start(("a",))):
            desk.begin(change)
        await asyncio.sleep(1.0)
        desk.supervisor.finish()
        await desk.end()

    assert on_desk(work).supervisor.asked == [("restart", "a", False), ("stop", "a"), ("start", "a")]


def test_so_many_go_on_at_once_and_no_more() -> None:
    async def work(desk: Desk) -> None:
        desk.supervisor.hold()
        for _ in range(65):
            desk.begin(Stop(("a",)))
        await asyncio.sleep(1.0)
        assert desk.told[:64] == [Accepted()] * 64
        last = desk.told[64]
        assert isinstance(last, Refused)
        assert last.why is Refusal.BUSY
        desk.supervisor.finish()
        await desk.end()
        assert (await desk.carry_out(Stop(("a",))))[-2] == Accepted()

    assert len(on_desk(work).supervisor.asked) == 65


def test_the_end_of_the_mesh_is_the_end_of_what_goes_on() -> None:
    async def work(desk: Desk) -> None:
        desk.supervisor.hold()
        desk.begin(Stop(("a",)))
        await asyncio.sleep(1.0)
        await desk.operations.close()
        assert desk.operations.pending == 0

    assert on_desk(work).supervisor.cancelled == 1


# Two operators at once, on a supervisor that is real but for its processes.


def on_stage(part: Part, *changes: Change, pause: float = 0.01) -> tuple[dict[str, str], list[list[Answer]]]:
    """Begin the changes one after the other, and return the states in the end, and what each was told."""
    stage = Stage(*(WorkerConfig(name, Path("/"), command=("x",), stop_timeout=60.0) for name in ("a", "b")))
    told: list[list[Answer]] = [[] for _ in changes]

    async def story() -> dict[str, str]:
        await stage.supervisor.start_all()
        await asyncio.sleep(1.0)
        stage.parts["a"] = part
        operations = Operations(stage.supervisor)
        for change, answers in zip(changes, told, strict=True):
            operations.begin(change, answers.append)
            await asyncio.sleep(pause)
        while operations.pending:
            await asyncio.sleep(0.01)
        states = stage.states
        stage.supervisor.request_kill()
        await stage.supervisor.wait()
        return states

    with stage.opened():
        return run_virtual(story()), told


def outcome(answers: list[Answer]) -> str:
    last = answers[-1]
    return last.text if isinstance(last, Refused) else type(last).__name__


def test_a_stop_overtakes_a_restart_that_does_not_get_on() -> None:
    states, (first, second) = on_stage(Part(ready=None), Restart(("a",)), Stop(("a",)), pause=0.5)
    assert states == {"a": "stopped", "b": "ready"}
    assert outcome(first) == "a did not become ready: it was stopped"
    assert outcome(second) == "Done"


def test_a_start_overtakes_a_stop_that_takes_its_time() -> None:
    states, (first, second) = on_stage(Part(), Restart(("a",)), Stop(("a",)), pause=0.5)
    assert (states["a"], outcome(first), outcome(second)) == ("stopped", "Done", "Done")
    states, (first, second) = on_stage(Part(), Stop(("a",)), Start(("a",)))
    assert states == {"a": "ready", "b": "ready"}
    assert outcome(first) == "a: started again while it stopped"
    assert outcome(second) == "Done"


def test_two_restarts_of_a_slot_are_both_done() -> None:
    states, told = on_stage(Part(ready=0.2), Restart(("a",)), Restart(("a",)), Restart(("b",)))
    assert (states, [outcome(answers) for answers in told]) == ({"a": "ready", "b": "ready"}, ["Done"] * 3)


def test_the_latest_scale_counts_and_the_ones_before_come_to_an_end() -> None:
    states, told = on_stage(Part(ready=0.2), Scale({"b": 3}), Scale({"b": 1}), Scale({"b": 2}))
    assert states == {"a": "ready", "b": "ready", "b-1": "ready"}
    assert outcome(told[2]) == "Done"
    assert all(isinstance(answers[-1], Done | Refused) for answers in told)


def test_nothing_is_scaled_unless_all_of_it_can_be() -> None:
    stage = Stage(*(WorkerConfig(name, Path("/"), command=("x",)) for name in ("a", "b", "a-1")))

    async def story() -> None:
        await stage.supervisor.start_all()
        await asyncio.sleep(1.0)
        for replicas, text in [
            ({"b": 3, "c": 1}, "there is no worker and no slot called 'c'"),
            ({"b": 3, "a": 2}, "2 of a would need a slot a-1, which is a worker"),
        ]:
            with pytest.raises(SupervisorError, match=text):
                await stage.supervisor.scale_all(replicas)
        with pytest.raises(ValueError, match="from 0 to 1000"):
            await stage.supervisor.scale_all({"b": 3, "a": -1})
        assert list(stage.states) == ["a", "b", "a-1"]
        stage.supervisor.request_stop()
        await stage.supervisor.wait()

    with stage.opened():
        run_virtual(story())


def test_what_was_scaled_stays_so_until_a_reload_has_another_number() -> None:
    """DESIGN, section 4.4: it lasts until a reload that changes ``replicas``."""
    stage = Stage(WorkerConfig("a", Path("/"), command=("x",), replicas=2))

    async def story() -> None:
        supervisor = stage.supervisor
        await supervisor.start_all()
        await asyncio.sleep(1.0)
        in_file = supervisor.config
        await supervisor.scale("a", 4)
        await supervisor.scale("a", 3)
        assert supervisor.difference(in_file).is_empty
        assert (await supervisor.reload(in_file)).is_empty
        assert list(stage.states) == ["a-0", "a-1", "a-2"]
        one = replace(in_file, workers=(replace(in_file.workers[0], replicas=1),))
        assert supervisor.difference(one).rescaled == {"a": (3, 1)}
        assert (await supervisor.reload(one)).rescaled == {"a": (3, 1)}
        assert list(stage.states) == ["a-0"]
        assert (await supervisor.reload(in_file)).rescaled == {"a": (1, 2)}
        await supervisor.scale("a", 1)
        assert (await supervisor.reload(one)).is_empty  # the file says the same now, and counts again
        assert (await supervisor.reload(in_file)).rescaled == {"a": (1, 2)}
        supervisor.request_stop()
        await supervisor.wait()

    with stage.opened():
        run_virtual(story())


# Reloading.

FILE = '[mesh]\nname = "demo"\n[workers.a]\ncommand = ["sleep", "600"]\n'


def with_file(desk: Desk, file: Path, text: str) -> None:
    file.write_text(FILE)
    desk.supervisor.config = load_config(file)
    file.write_text(text)


def on_real_desk(work: Callable[[Desk], Awaitable[None]]) -> Desk:
    """The file is read in a thread: that takes real time."""

    async def main() -> Desk:
        desk = Desk()
        await work(desk)
        return desk

    return asyncio.run(main())


def test_a_reload_tells_what_changes_and_then_does_it(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        with_file(desk, tmp_path / "mesh.toml", FILE + "replicas = 2\n")
        found, done = await desk.carry_out(Reload())
        assert isinstance(found, Difference)
        assert found.rescaled == {"a": (1, 2)}
        assert isinstance(done, Done)

    desk = on_real_desk(work)
    assert desk.supervisor.asked == [("reload", "mesh.toml")]
    assert desk.notes == [f"reloading {tmp_path / 'mesh.toml'}", "reloaded"]


def test_a_dry_run_tells_what_would_change_and_no_more(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        with_file(desk, tmp_path / "mesh.toml", FILE + "replicas = 2\n")
        (found,) = await desk.carry_out(Reload(dry_run=True))
        assert isinstance(found, Difference)
        assert found.rescaled == {"a": (1, 2)}

    desk = on_real_desk(work)
    assert (desk.supervisor.asked, desk.notes) == ([], [])


def test_a_file_with_faults_changes_nothing(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        with_file(desk, tmp_path / "mesh.toml", FILE + "replica = 2\n")
        (answer,) = await desk.carry_out(Reload())
        assert isinstance(answer, Faulty)
        assert [(fault.line, fault.path, fault.hint) for fault in answer.faults] == [
            (5, "workers.a.replica", "replicas")
        ]

    desk = on_real_desk(work)
    assert desk.supervisor.asked == []
    assert desk.notes[1].startswith("the reload failed: ")


def test_what_cannot_change_is_refused_at_once_to_whoever_does_not_wait_as_well(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        with_file(desk, tmp_path / "mesh.toml", FILE.replace("demo", "other"))
        text = "mesh.name cannot change while the mesh runs"
        assert await desk.carry_out(Reload(wait=False)) == [Refused(Refusal.FAILED, text)]
        assert desk.notes[1] == f"the reload failed: {text}"
        *_, found = await desk.carry_out(Reload(dry_run=True))
        assert isinstance(found, Difference)
        assert found.refused == (text,)

    assert on_real_desk(work).supervisor.asked == []


def test_a_reload_without_anything_to_do_says_so(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        with_file(desk, tmp_path / "mesh.toml", FILE)
        found, done = await desk.carry_out(Reload())
        assert isinstance(found, Difference)
        assert found.is_empty
        assert isinstance(done, Done)

    assert on_real_desk(work).notes[1] == f"nothing has changed in {tmp_path / 'mesh.toml'}"


def test_a_reload_that_is_one_too_many_is_noted_as_well() -> None:
    async def work(desk: Desk) -> None:
        desk.supervisor.config = mesh()
        desk.supervisor.hold()
        for _ in range(64):
            desk.begin(Stop(("a",)))
        desk.begin(Reload())
        assert isinstance(desk.told[64], Refused)
        desk.supervisor.finish()
        await desk.end()

    assert on_desk(work).notes == ["not reloading: 64 changes are being carried out; try again in a moment"]
