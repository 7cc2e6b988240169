"""Plugins of every bad kind, in real processes: the application goes on, and is told what happened."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from meshvisor import (
    CallTimeout,
    PluginError,
    PluginEvent,
    PluginFault,
    PluginHost,
    PluginNews,
    PluginSpec,
    RemoteError,
    UnknownPeer,
    rpc,
)

PLUGIN = """
import asyncio, ctypes, os, signal, time
from meshvisor import Worker, rpc

class Bad(Worker):
    version = "2.1"

    @rpc
    async def pid(self) -> int:
        return os.getpid()

    @rpc
    async def oom_score(self) -> int:
        return int(open("/proc/self/oom_score_adj").read())

    @rpc
    async def exits(self) -> None:
        os._exit(7)

    @rpc
    async def segfaults(self) -> None:
        ctypes.string_at(0)

    @rpc
    async def blocks(self) -> None:
        time.sleep(1000)

    @rpc
    async def freezes(self) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    @rpc
    async def leaks(self) -> None:
        self.hoard = bytearray(100_000_000)
        await asyncio.sleep(1000)

    @rpc
    async def sends(self) -> None:
        while True:
            await self.send("host", b"and another one")

    @rpc
    async def calls(self) -> None:
        while True:
            await asyncio.gather(*(self.call("host", "add", 1, 2) for _ in range(100)))

    @rpc
    async def lies(self):
        return "seven"

    @rpc
    async def raises(self) -> None:
        raise ValueError("no such picture")

    @rpc
    async def sleeps(self) -> None:
        await asyncio.sleep(1000)

    @rpc
    async def asks(self, x: int, y: int) -> int:
        return await self.call("host", "add", x, y=y)

    @rpc
    async def dies_once(self) -> int:
        if self.incarnation == 1:
            os._exit(1)
        return self.incarnation

class Older(Bad):
    version = "1.9"

class Poor(Worker):
    @rpc
    async def pid(self, which: str) -> int:
        return os.getpid()

class Broken(Worker):
    async def on_start(self) -> None:
        raise RuntimeError("no such device")
"""


class Needed:
    """What the application needs of them."""

    @rpc
    async def pid(self) -> int: ...  # type: ignore[empty-body]

    @rpc
    async def lies(self) -> int: ...  # type: ignore[empty-body]


class Application:
    """What it offers to them."""

    @rpc
    async def add(self, x: int, y: int) -> int:
        return x + y


class Told:
    """What an application has been told."""

    def __init__(self) -> None:
        self.events: list[PluginEvent] = []

    def __call__(self, event: PluginEvent) -> None:
        self.events.append(event)

    def of(self, plugin: str) -> list[tuple[PluginNews, PluginFault | None]]:
        return [(event.event, event.fault) for event in self.events if event.plugin == plugin]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where plugins are imported from."""
    folder = tmp_path_factory.mktemp("plugins")
    (folder / "bad_plugins.py").write_text(PLUGIN)
    return folder


def bad(folder: Path, name: str = "Bad", **options: Any) -> PluginSpec:
    return PluginSpec(f"bad_plugins:{name}", cwd=folder, **{"interface": Needed, "version": ">=2, <3", **options})


BAD = ("exits", "segfaults", "blocks", "freezes", "sends", "calls")


@pytest.fixture(scope="module")
def told() -> Told:
    return Told()


@pytest.fixture(scope="module")
def host(folder: Path, told: Told) -> Iterator[PluginHost]:
    """A host of one plugin for each way to fail, and of one that goes on as if nothing had happened."""
    plugins = {name: bad(folder, hang_timeout="250ms", max_rate=500) for name in (*BAD, "steady")}
    with PluginHost(plugins, offer=Application(), on_event=told) as host:
        steady = host.call("steady", "pid")
        yield host
        assert host.call("steady", "pid") == steady
        assert host.status()["steady"].incarnation == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plugin", "fault", "text"),
    [
        ("exits", PluginFault.CRASHED, "ended with status 7"),
        ("segfaults", PluginFault.CRASHED, "was killed by SIGSEGV"),
        ("blocks", PluginFault.HUNG, "hung and was killed"),
        ("freezes", PluginFault.FROZEN, "was frozen and was killed"),
        ("sends", PluginFault.FLOODED, "it floods the application"),
        ("calls", PluginFault.FLOODED, "it floods the application"),
    ],
)
def test_a_plugin_that_fails_is_replaced_and_the_application_told(
    host: PluginHost, told: Told, plugin: str, fault: PluginFault, text: str
) -> None:
    before = host.call(plugin, "pid")
    with pytest.raises(PluginError) as caught:
        host.call(plugin, plugin)
    assert (caught.value.plugin, caught.value.fault) == (plugin, fault)
    assert text in str(caught.value)
    assert host.call(plugin, "pid") != before
    assert told.of(plugin) == [(PluginNews.READY, None), (PluginNews.ENDED, fault), (PluginNews.READY, None)]
    trouble = host.status()[plugin].trouble
    assert trouble is not None
    assert trouble.fault is fault


def test_where_a_plugin_hangs_is_told(host: PluginHost, told: Told) -> None:
    host.call("blocks", "pid")
    end = next(event for event in told.events if event.plugin == "blocks" and event.event is PluginNews.ENDED)
    assert "in blocks" in end.traceback
    assert "in blocks" in str(end.error())


@pytest.mark.slow  # memory is looked at once a second
def test_a_plugin_that_grows_without_end_is_ended(folder: Path) -> None:
    with (
        PluginHost({"leaks": bad(folder, max_memory="90MiB")}) as host,
        pytest.raises(PluginError, match=r"plugin leaks grew too large and was ended") as caught,
    ):
        host.call("leaks", "leaks")
    assert caught.value.fault is PluginFault.MEMORY


def test_when_memory_runs_out_the_kernel_takes_a_plugin_before_the_application(host: PluginHost) -> None:
    assert host.call("steady", "oom_score") == 1000


def test_a_result_of_another_type_is_an_error_and_the_plugin_goes_on(host: PluginHost) -> None:
    pid = host.call("steady", "pid")
    with pytest.raises(PluginError, match="Expected `int`, got `str`") as caught:
        host.call("steady", "lies")
    assert caught.value.fault is PluginFault.BAD_RESULT
    assert host.call("steady", "pid") == pid


def test_what_a_method_raises_and_a_call_that_takes_too_long_are_no_fault_of_the_plugin(host: PluginHost) -> None:
    with pytest.raises(RemoteError, match="ValueError: no such picture"):
        host.call("steady", "raises")
    with pytest.raises(CallTimeout):
        host.call("steady", "sleeps", timeout=0.05)
    with pytest.raises(UnknownPeer, match="no node or group is called 'stead'"):
        host.call("stead", "pid")


def test_a_plugin_calls_what_the_application_offers(host: PluginHost) -> None:
    assert host.call("steady", "asks", 3, y=4) == 7


def test_calls_come_from_any_thread(host: PluginHost) -> None:
    results: list[int] = []
    threads = [
        threading.Thread(target=lambda: results.append(host.call("steady", "asks", 1, 2)), daemon=True)
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [3] * 8


def test_the_host_never_imports_a_plugin(host: PluginHost) -> None:
    host.call("steady", "pid")
    assert "bad_plugins" not in sys.modules


@pytest.mark.slow
def test_what_is_not_needed_is_refused_and_not_tried_again(folder: Path) -> None:
    told = Told()
    plugins = {
        "older": bad(folder, "Older", version=">=2"),
        "poor": bad(folder, "Poor", version=""),
        "broken": bad(folder, "Broken", restart="never", interface=(), version=""),
        "good": bad(folder),
    }

    async def main() -> None:
        async with PluginHost(plugins, on_event=told) as host:
            with pytest.raises(PluginError, match=r"plugin older is refused: it is version 1\.9, and >=2 is needed"):
                await host.call("older", "pid")
            with pytest.raises(PluginError, match=r"needs an argument 'which' that the host does not give") as caught:
                await host.call("poor", "pid")
            assert caught.value.fault is PluginFault.REFUSED
            with pytest.raises(PluginError, match="has failed, and is not started again") as caught:
                await host.call("broken", "pid")
            assert caught.value.fault is PluginFault.FAILED
            with pytest.raises(PluginError, match="is refused") as caught:
                await host.enable("older")
            assert isinstance(await host.call("good", "pid"), int)
            states = {name: (status.state, status.version) for name, status in host.status().items()}
            assert states == {
                "older": ("refused", "1.9"),
                "poor": ("refused", ""),
                "broken": ("failed", ""),
                "good": ("ready", "2.1"),
            }
            assert host.status()["older"].incarnation == 2  # at the start, and when it was enabled

    asyncio.run(main())
    assert told.of("older") == [(PluginNews.REFUSED, PluginFault.REFUSED)] * 2
    assert told.of("broken") == [(PluginNews.ENDED, PluginFault.CRASHED)]
    (end,) = [event for event in told.events if event.plugin == "broken"]
    assert "RuntimeError: no such device" in end.traceback


def test_an_application_that_needs_a_plugin_is_not_entered_without_it(folder: Path) -> None:
    threads = threading.active_count()
    host = PluginHost({"older": bad(folder, "Older", required=True)})
    with pytest.raises(PluginError, match="is refused"), host:
        raise AssertionError("the block must not run")
    assert threading.active_count() == threads


def test_a_plugin_that_lies_about_its_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "liar").mkdir()
    (tmp_path / "liar" / "plugin.toml").write_text('class = "liar:Liar"\nversion = "3.0"\n')
    (tmp_path / "liar" / "liar.py").write_text(
        'from meshvisor import Worker\nclass Liar(Worker):\n    version = "1.0"\n'
    )
    text = r"plugin liar is refused: it says that it is version 1\.0, and what was found is 3\.0"
    with PluginHost(folder=tmp_path) as host, pytest.raises(PluginError, match=text):
        host.call("liar", "anything")


@pytest.mark.slow
def test_a_call_may_be_made_again_when_the_plugin_dies_under_it(folder: Path) -> None:
    async def main() -> None:
        async with PluginHost({"bad": bad(folder)}) as host:
            assert await host.call("bad", "dies_once", retry=True) == 2

    asyncio.run(main())


ONE = (
    'from meshvisor import Worker, rpc\nclass One(Worker):\n    version = "1.0"\n    @rpc\n    async def say(self) -> '
)


@pytest.mark.slow
def test_one_plugin_is_changed_and_the_others_go_on(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "one.py"
    file.write_text(ONE + "str:\n        return 'one'\n")
    (tmp_path / "other.py").write_text(file.read_text().replace("'one'", "'other'").replace("One", "Other"))

    with PluginHost({"bad": bad(folder)}, folder=tmp_path) as host:
        bystander = host.call("bad", "pid")
        assert host.call("one", "say") == "one"
        host.disable("one")
        assert host.status()["one"].state == "stopped"
        with pytest.raises(PluginError, match="is stopped, and is not started again before it is enabled") as caught:
            host.call("one", "say")
        assert caught.value.fault is PluginFault.STOPPED
        host.enable("one")
        file.write_text(ONE.replace("1.0", "1.1") + "str:\n        return 'two'\n")
        host.upgrade("one")
        assert host.call("one", "say") == "two"
        assert host.status()["one"].version == "1.1"
        with pytest.raises(PluginError, match="has no @rpc method 'sing'"):  # and comes back as it was
            host.upgrade("one", PluginSpec("other:Other", cwd=tmp_path, interface=["sing"]))
        assert host.call("one", "say") == "two"
        host.disable("one")
        host.upgrade("one", PluginSpec("other:Other", cwd=tmp_path, interface=["say"]))
        assert host.call("one", "say") == "other"
        host.enable("new", PluginSpec("one:One", cwd=tmp_path))
        assert host.call("new", "say") == "two"
        assert host.call("bad", "pid") == bystander


def test_nothing_is_left_when_the_application_raises(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    pids: list[int] = []

    def application(host: PluginHost) -> None:
        with host:
            pids.append(host.call("bad", "pid"))
            raise ZeroDivisionError

    host = PluginHost({"bad": bad(folder)}, runtime_dir=run)
    with pytest.raises(ZeroDivisionError):
        application(host)
    (pid,) = pids
    assert not Path(f"/proc/{pid}").exists()
    assert list(run.iterdir()) == []
    with pytest.raises(RuntimeError, match="the host has ended"):
        host.call("bad", "pid")
    with pytest.raises(RuntimeError, match="entered once"):
        host.__enter__()


def test_a_host_is_used_as_it_was_entered(folder: Path) -> None:
    async def main() -> None:
        host = PluginHost()
        async with host:
            with pytest.raises(RuntimeError, match="use the object that it gives"):
                host.call("bad", "pid")

    asyncio.run(main())


def test_a_listener_that_waits_for_its_own_host_is_told(folder: Path) -> None:
    failures: list[str] = []

    def listen(event: PluginEvent) -> None:
        try:
            listening.status()
        except RuntimeError as error:
            failures.append(str(error))

    listening = PluginHost({"bad": bad(folder)}, on_event=listen)
    with listening:
        pass
    assert failures == ["the host is called from its own thread, which would wait for itself"]


APPLICATION = """
import os, subprocess, sys, time
from meshvisor import PluginHost, PluginSpec

with PluginHost({"parent": PluginSpec("parent:Parent")}, runtime_dir=sys.argv[1]) as host:
    print(*host.call("parent", "pids"), flush=True)
    sys.stdin.read()
"""

PARENT = """
import os, subprocess
from meshvisor import Worker, rpc

class Parent(Worker):
    @rpc
    async def pids(self) -> list[int]:
        return [os.getpid(), subprocess.Popen(["sleep", "1000"]).pid]
"""


@pytest.mark.slow
def test_nothing_outlives_an_application_that_is_killed(
    tmp_path: Path, witness: Callable[[int], Any], folder: Path
) -> None:
    (tmp_path / "application.py").write_text(APPLICATION)
    (tmp_path / "parent.py").write_text(PARENT)
    run = tmp_path / "run"
    arguments = [sys.executable, str(tmp_path / "application.py"), str(run)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as application:
        assert application.stdout is not None
        witnesses = [witness(int(pid)) for pid in application.stdout.readline().split()]
        assert len(witnesses) == 2
        os.kill(application.pid, signal.SIGKILL)
        assert all(one.saw_the_end() for one in witnesses)
    assert [entry.name.startswith("plugins-") for entry in run.iterdir()] == [True]
    with PluginHost(runtime_dir=run):
        (own,) = run.iterdir()
        assert own.name.startswith(f"plugins-{os.getpid()}-")
