"""``run --watch``: what has changed is gone over to, and nothing else is touched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from tests.supervisor.fake import mesh

from meshvisor.shared.config.model import WorkerConfig
from meshvisor.shared.control.requests import Accepted, Answer, Change, Done, Refusal, Refused, Reload, Restart
from meshvisor.supervisor import autoreload
from meshvisor.supervisor.autoreload import AutoReload
from meshvisor.supervisor.snapshot import MeshState, MeshStatus, WorkerState, WorkerStatus
from meshvisor.supervisor.sources import Sources
from meshvisor.workers.testing import run_virtual

APP = Path("/app")


def slot(name: str, state: WorkerState = WorkerState.READY) -> WorkerStatus:
    return WorkerStatus(name, state, 1, 1, 0, 1.0, True, 0.0, 0, 0, 0, None)


class FakeSources:
    """Files that change when the test says so."""

    made: list[FakeSources]

    def __init__(self, folders: Any, files: Any, changed: Callable[[frozenset[Path]], None], failed: Any) -> None:
        self.folders, self.changed, self.failed = folders, changed, failed
        self.state = "made"
        self.made.append(self)

    def start(self) -> None:
        self.state = "started"

    async def close(self) -> None:
        self.state = "closed"


class Scene:
    """A mesh of ``a`` (two slots, with a zygote), ``b`` (without), and a command, and what is asked of it."""

    def __init__(self) -> None:
        self.config = mesh(
            WorkerConfig("a", APP, class_path="app:A", replicas=2),
            WorkerConfig("b", Path("/other"), class_path="other:B"),
            WorkerConfig("script", APP, command=("python3", "script.py")),
            file=APP / "mesh.toml",
        )
        self.states = [slot("a-0"), slot("a-1"), slot("b"), slot("script")]
        self.stale: dict[str, tuple[str, ...] | None] = {"a": (), "b": None}
        self.asked: list[Change] = []
        self.answers: list[Answer] = []
        self.notes: list[str] = []
        self.watch = AutoReload(self, self.begin, self.notes.append)

    def status(self) -> MeshStatus:
        return MeshStatus("demo", 1, MeshState.RUNNING, 1.0, tuple(self.states))

    async def changed_files(self, worker: WorkerConfig) -> tuple[str, ...] | None:
        return self.stale[worker.name]

    def begin(self, change: Change, tell: Callable[[Answer], None]) -> None:
        self.asked.append(change)
        tell(Accepted())
        tell(self.answers.pop(0) if self.answers else Done(0.25, ()))

    async def change(self, *files: str) -> None:
        """Have files change, and wait until what follows has been done."""
        (sources, *_) = reversed(FakeSources.made)
        sources.changed(frozenset(map(Path, files)))
        await asyncio.sleep(1.0)


@pytest.fixture(autouse=True)
def sources(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeSources.made = []
    monkeypatch.setattr(autoreload, "Sources", FakeSources)


def play(scene: Scene, script: Callable[[], Coroutine[None, None, None]]) -> None:
    async def main() -> None:
        scene.watch.start()
        await script()
        await scene.watch.close()

    run_virtual(main())
    assert FakeSources.made[-1].state == "closed"


def test_the_zygote_says_whose_files_they_are() -> None:
    scene = Scene()

    async def script() -> None:
        await scene.change("/app/unused.py")
        assert scene.asked == []
        scene.stale["a"] = ("/app/helper.py",)
        await scene.change("/app/helper.py")

    play(scene, script)
    assert scene.asked == [Restart(("a",))]
    assert scene.notes[1:] == ["helper.py has changed: restarting a", "a restarted in 250 ms"]


def test_where_no_zygote_can_say_it_what_is_below_the_folder_counts() -> None:
    scene = Scene()

    async def script() -> None:
        await scene.change("/other/deep/x.py", "/other/y.py")

    play(scene, script)
    assert scene.asked == [Restart(("b",))]
    assert scene.notes[1] == "x.py, y.py have changed: restarting b"


def test_a_command_is_restarted_for_the_files_that_it_names() -> None:
    scene = Scene()

    async def script() -> None:
        await scene.change("/app/script.py")

    play(scene, script)
    assert scene.asked == [Restart(("script",))]


def test_what_is_stopped_stays_so() -> None:
    scene = Scene()
    scene.states = [slot("a-0", WorkerState.STOPPED), slot("a-1", WorkerState.BACKOFF), slot("b", WorkerState.STOPPED)]
    scene.stale = {"a": ("/app/x.py",), "b": None}

    async def script() -> None:
        await scene.change("/app/x.py", "/other/x.py")

    play(scene, script)
    assert scene.asked == [Restart(("a-1",))]


def test_code_that_cannot_be_imported_is_told_and_tried_again_with_the_next_change() -> None:
    scene = Scene()
    scene.stale["a"] = ("/app/x.py",)
    scene.answers = [Refused(Refusal.FAILED, "the code in /app cannot be imported: SyntaxError: invalid syntax")]

    async def script() -> None:
        await scene.change("/app/x.py")
        await scene.change("/app/x.py")

    play(scene, script)
    assert scene.asked == [Restart(("a",))] * 2
    assert scene.notes[2::2] == [
        "the restart failed: the code in /app cannot be imported: SyntaxError: invalid syntax",
        "a restarted in 250 ms",
    ]


def test_a_changed_configuration_is_reloaded_and_other_folders_are_watched_from_then_on() -> None:
    scene = Scene()

    async def script() -> None:
        await scene.change("/app/mesh.toml")
        scene.config = mesh(WorkerConfig("a", Path("/new"), class_path="app:A"), file=APP / "mesh.toml")
        await scene.change("/app/mesh.toml")

    play(scene, script)
    assert scene.asked == [Reload(), Reload()]
    assert [(one.folders, one.state) for one in FakeSources.made] == [
        ({APP, Path("/other")}, "closed"),
        ({Path("/new")}, "closed"),
    ]


def test_a_kernel_without_watches_is_told_of() -> None:
    scene = Scene()

    async def script() -> None:
        FakeSources.made[0].failed("no space left")

    play(scene, script)
    assert scene.notes[-1] == "changes of files are not seen any more: no space left"


# Real files.


def test_python_files_and_the_configuration_are_seen_and_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("watchfiles")
    for folder in ("app/pkg", "app/.venv/lib", "app/.meshvisor"):
        (tmp_path / folder).mkdir(parents=True)

    async def main() -> None:
        seen: asyncio.Queue[frozenset[Path]] = asyncio.Queue()
        mesh_toml = tmp_path / "mesh.toml"
        sources = Sources([tmp_path / "app"], [mesh_toml], seen.put_nowait, pytest.fail)
        sources.start()
        try:
            found: frozenset[Path] = frozenset()
            while not found:  # it has begun to watch when it sees something
                (tmp_path / "app" / "begun.py").write_text("")
                try:
                    found = await asyncio.wait_for(seen.get(), 0.2)
                except TimeoutError:
                    continue
            for name in ("app/.venv/lib/x.py", "app/.meshvisor/a.log", "app/notes.txt", "other.py", "app/pkg/new.py"):
                (tmp_path / name).write_text("x")
            mesh_toml.write_text("x")
            found = frozenset()
            while len(found - {tmp_path / "app" / "begun.py"}) < 2:
                found |= await seen.get()
            assert found - {tmp_path / "app" / "begun.py"} == {tmp_path / "app" / "pkg" / "new.py", mesh_toml}
        finally:
            await sources.close()

    asyncio.run(main())


def test_that_there_is_no_watch_to_have_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watchfiles = pytest.importorskip("watchfiles")

    def watch(*paths: Path, **options: Any) -> None:
        raise OSError("OS file watch limit reached")

    monkeypatch.setattr(watchfiles, "watch", watch)

    async def main() -> None:
        told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        sources = Sources([tmp_path], [], lambda files: None, told.set_result)
        sources.start()
        assert await told == "OS file watch limit reached"
        await sources.close()

    asyncio.run(main())
