"""The testing kit: a mesh of workers in one process, killed, hung and cut at will. Itself on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from meshvisor import ChaosOptions, Message, Peer, PeerLost, PeerUnavailable, Worker, load_config, rpc
from meshvisor.testing import LocalMesh, WorkerFailed, run_virtual

Scenario = Callable[[LocalMesh], Coroutine[Any, Any, None]]


class Counter(Worker):
    async def on_start(self) -> None:
        self.calls = 0

    @rpc
    async def count(self, text: str) -> int:
        self.calls += 1
        return len(text.split())

    @rpc
    async def count_slowly(self, text: str, seconds: float) -> int:
        await asyncio.sleep(seconds)
        return len(text.split())


class Sink(Worker):
    async def on_start(self) -> None:
        self.got: list[bytes] = []
        self.lost: list[str] = []
        self.stopped = False

    async def on_message(self, message: Message) -> None:
        self.got.append(bytes(message.body))

    async def on_peer_down(self, peer: Peer, reason: Exception) -> None:
        self.lost.append(f"{peer} {peer.incarnation} {type(reason).__name__}")

    async def on_stop(self) -> None:
        self.stopped = True


class Stream(Worker):
    """Sends numbers to the sink, one each 10 ms."""

    async def run(self) -> None:
        for number in range(100):
            await self.send("sink", str(number).encode())
            await asyncio.sleep(0.01)


def in_mesh(scenario: Scenario, **options: Any) -> float:
    """Run ``scenario`` and return how long it took, in virtual seconds."""

    async def main() -> float:
        async with LocalMesh(**options) as mesh:
            await scenario(mesh)
            return asyncio.get_running_loop().time()

    return run_virtual(main())


def test_replicas_are_named_as_in_a_mesh_and_answer_the_test() -> None:
    async def scenario(mesh: LocalMesh) -> None:
        mesh.add("counter", Counter, replicas=3)
        mesh.add("sink", Sink)
        await mesh.ready()
        assert [await mesh.call("counter", "count", "to be or not to be") for _ in range(3)] == [6, 6, 6]
        assert [mesh.worker(f"counter-{n}", Counter).calls for n in range(3)] == [1, 1, 1]
        await mesh.send("sink", b"hello")
        await asyncio.sleep(0.01)
        assert mesh.worker("sink", Sink).got == [b"hello"]

    in_mesh(scenario)


def test_a_name_is_taken_once_and_an_unknown_one_is_said_to_be_so() -> None:
    async def scenario(mesh: LocalMesh) -> None:
        mesh.add("counter", Counter)
        with pytest.raises(ValueError, match="there is a node counter already"):
            mesh.add("counter", Counter)
        with pytest.raises(LookupError, match="there is no node 'countr', but: counter"):
            mesh.worker("countr")
        await mesh.ready()
        with pytest.raises(TypeError, match="counter is a Counter, not a Sink"):
            mesh.worker("counter", Sink)

    in_mesh(scenario)


def test_a_killed_worker_comes_back_and_a_call_to_it_ends_at_once() -> None:
    async def scenario(mesh: LocalMesh) -> None:
        mesh.add("counter", Counter)
        mesh.add("sink", Sink)
        await mesh.ready()
        await mesh.call("counter", "count", "")
        now = asyncio.get_running_loop().time
        call = asyncio.create_task(mesh.call("counter", "count_slowly", "a b", 60.0, timeout=None))
        await asyncio.sleep(1.0)
        before = now()
        mesh.kill("counter")
        with pytest.raises(PeerLost):
            await call
        assert now() - before < 0.005
        await mesh.ready()
        assert mesh.worker("counter").incarnation == 2
        assert mesh.worker("sink", Sink).lost == ["counter 1 PeerLost"]
        assert await mesh.call("counter", "count", "a b") == 2

    in_mesh(scenario)


def test_a_call_with_retry_is_made_again_to_the_next_life() -> None:
    async def scenario(mesh: LocalMesh) -> None:
        mesh.add("counter", Counter)
        await mesh.ready()
        call = asyncio.create_task(mesh.call("counter", "count_slowly", "a b c", 2.0, retry=True))
        await asyncio.sleep(1.0)
        mesh.kill("counter")
        assert await call == 3

    assert 3.0 <= in_mesh(scenario) < 3.1


def test_what_is_killed_for_good_is_down_until_it_is_started() -> None:
    async def scenario(mesh: LocalMesh) -> None:
        mesh.add("counter", Counter)
        await mesh.ready()
        mesh.kill("counter", restart=False)
        await mesh.ended("counter")
        with pytest.raises(LookupError, match="counter has no process now"):
            mesh.kill("counter")
        with pytest.raises(PeerUnavailable):
            await mesh.call("counter", "count", "a")
        mesh.start("counter")
        await mesh.ready()
        assert await mesh.call("counter", "count", "a") == 1

    in_mesh(scenario)


def test_a_worker_that_hangs_a_little_is_late_and_loses_nothing() -> None:
    async def scenario(mesh: LocalMesh) -> None:
        mesh.add("sink", Sink)
        mesh.add("stream", Stream)
        await mesh.ready()
        await asyncio.sleep(0.2)
        mesh.hang("sink", 0.5)
        got = len(mesh.worker("sink", Sink).got)
        await asyncio.sleep(0.4)
        assert len(mesh.worker("sink", Sink).got) == got
        assert await mesh.ended("stream") == 0
        await asyncio.sleep(0.1)
        assert mesh.worker("sink", Sink).got == [str(number).encode() for number in range(100)]
        assert mesh.worker("sink").incarnation == 1

    in_mesh(scenario)


def test_a_worker_that_hangs_for_long_is_replaced() -> None:
    async def scenario(mesh: LocalMesh) -> None:
        mesh.add("counter", Counter)
        mesh.add("sink", Sink)
        await mesh.ready()
        mesh.hang("counter")
        await asyncio.sleep(1.9)
        assert mesh.worker("counter").incarnation == 1
        await asyncio.sleep(0.2)
        await mesh.ready()
        assert mesh.worker("counter").incarnation == 2
        assert mesh.worker("sink", Sink).lost == ["counter 1 PeerLost"]

    in_mesh(scenario, hang_timeout=2.0)


def test_connections_break_and_links_do_not() -> None:
    async def scenario(mesh: LocalMesh) -> None:
        mesh.add("sink", Sink)
        mesh.add("stream", Stream)
        await mesh.ready()
        for _ in range(9):
            await asyncio.sleep(0.1)
            mesh.cut("sink", "stream")
        await mesh.ended("stream")
        await asyncio.sleep(0.1)
        assert mesh.worker("sink", Sink).got == [str(number).encode() for number in range(100)]
        assert mesh.worker("sink", Sink).lost == ["stream 1 PeerLeft"]

    in_mesh(scenario)


def test_what_is_severed_arrives_once_it_is_mended() -> None:
    async def scenario(mesh: LocalMesh) -> None:
        mesh.add("sink", Sink)
        mesh.add("stream", Stream)
        await mesh.ready()
        mesh.sever("stream", "sink")
        got = list(mesh.worker("sink", Sink).got)
        await asyncio.sleep(0.3)
        assert mesh.worker("sink", Sink).got == got
        mesh.mend("stream", "sink")
        await mesh.ended("stream")
        await asyncio.sleep(0.5)
        assert mesh.worker("sink", Sink).got == [str(number).encode() for number in range(100)]

    in_mesh(scenario)


def test_noise_on_every_connection_loses_nothing() -> None:
    async def scenario(mesh: LocalMesh) -> None:
        mesh.add("sink", Sink)
        mesh.add("stream", Stream)
        await mesh.ended("stream")
        await asyncio.sleep(60.0)
        assert mesh.worker("sink", Sink).got == [str(number).encode() for number in range(100)]

    in_mesh(scenario, seed=3, chaos=ChaosOptions(disconnect_probability=0.02, delay=(0.0, 0.01), delay_probability=0.5))


@pytest.mark.parametrize("seed", range(3))
def test_a_connection_that_cannot_be_written_is_given_up_though_reading_goes_on(seed: int) -> None:
    async def scenario(mesh: LocalMesh) -> None:
        mesh.add("counter", Counter)
        for _ in range(200):
            assert await mesh.call("counter", "count", "a b", timeout=5.0) == 2

    in_mesh(scenario, seed=seed, chaos=ChaosOptions(write_failure=0.01))


def test_what_cannot_be_a_worker_is_refused_with_a_sentence() -> None:
    async def scenario(mesh: LocalMesh) -> None:
        with pytest.raises(ValueError, match=r"the name of a worker must be a lower-case letter .* not 'The Sink'"):
            mesh.add("The Sink", Sink)
        with pytest.raises(ValueError, match="replicas must be 0 or more, not -1"):
            mesh.add("sink", Sink, replicas=-1)
        with pytest.raises(TypeError, match=r"'app:Sink' is not a subclass of meshvisor\.Worker"):
            mesh.add("sink", "app:Sink")  # type: ignore[arg-type]  # that it is refused is the point

    in_mesh(scenario)


class Broken(Worker):
    async def run(self) -> None:
        await asyncio.sleep(1.0)
        raise ValueError("no words")


def test_a_crash_that_nobody_expected_comes_out_of_the_mesh() -> None:
    async def scenario(mesh: LocalMesh) -> None:
        mesh.add("broken", Broken)
        await mesh.ready()
        await asyncio.sleep(1.005)

    with pytest.raises(WorkerFailed, match=r"broken \(incarnation 1\) failed in run:(.|\n)*ValueError: no words"):
        in_mesh(scenario)


def test_a_crash_that_was_expected_is_taken() -> None:
    async def scenario(mesh: LocalMesh) -> None:
        mesh.add("broken", Broken, restart="never")
        assert await mesh.ended("broken") == 1
        assert mesh.take_failure("broken").where == "run"
        with pytest.raises(LookupError, match="broken has not failed"):
            mesh.take_failure("broken")

    in_mesh(scenario)


def test_a_worker_that_keeps_crashing_is_given_up() -> None:
    async def scenario(mesh: LocalMesh) -> None:
        mesh.add("broken", Broken)
        assert await mesh.ended("broken") == 1
        assert [mesh.take_failure("broken").incarnation for _ in range(6)] == [1, 2, 3, 4, 5, 6]

    in_mesh(scenario)


def test_a_stop_is_an_orderly_one_and_leaving_the_mesh_stops_all() -> None:
    workers: list[Sink] = []

    async def scenario(mesh: LocalMesh) -> None:
        mesh.add("sink", Sink, replicas=2)
        await mesh.ready()
        workers.extend(mesh.worker(f"sink-{number}", Sink) for number in range(2))
        mesh.stop("sink-0")
        assert await mesh.ended("sink-0") == 0
        assert [worker.stopped for worker in workers] == [True, False]

    in_mesh(scenario)
    assert [worker.stopped for worker in workers] == [True, True]


class Careless(Worker):
    """Starts a task that nobody ends."""

    async def on_start(self) -> None:
        self.ticks = 0
        self.settings["tasks"].append(asyncio.create_task(self._tick()))

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(0.1)
            self.ticks += 1


def test_a_task_that_a_worker_leaves_behind_hangs_and_dies_with_it() -> None:
    tasks: list[asyncio.Task[None]] = []

    async def scenario(mesh: LocalMesh) -> None:
        mesh.add("careless", Careless, settings={"tasks": tasks})
        await mesh.ready()
        worker = mesh.worker("careless", Careless)
        mesh.hang("careless", 0.55)
        await asyncio.sleep(0.5)
        assert worker.ticks == 0
        await asyncio.sleep(0.5)
        assert worker.ticks > 0
        mesh.kill("careless")
        await mesh.ready()
        assert tasks[0].cancelled()
        assert not tasks[1].done()

    in_mesh(scenario)
    assert tasks[1].cancelled()


def test_the_same_seed_gives_the_same_run() -> None:
    def run(seed: int) -> list[float]:
        times: list[float] = []

        async def scenario(mesh: LocalMesh) -> None:
            mesh.add("counter", Counter, replicas=3)
            await mesh.ready()
            for _ in range(20):
                await mesh.call("counter", "count", "a", retry=True)
                times.append(asyncio.get_running_loop().time())

        in_mesh(scenario, seed=seed, chaos=ChaosOptions(delay=(0.001, 0.1), delay_probability=0.3))
        return times

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_a_mesh_toml_is_a_mesh(tmp_path: Path) -> None:
    (tmp_path / "kit_app.py").write_text(
        "from meshvisor import Worker, rpc\n"
        "class Echo(Worker):\n"
        "    @rpc\n"
        "    async def say(self) -> str:\n"
        "        return self.settings['word'] + self.name\n"
    )
    (tmp_path / "mesh.toml").write_text(
        '[mesh]\nname = "kit"\n'
        '[workers.echo]\nclass = "kit_app:Echo"\nreplicas = 2\nsettings = { word = "I am " }\n'
        '[workers.other]\ncommand = ["sleep", "9"]\n'
    )

    async def main() -> None:
        async with LocalMesh.of(load_config(str(tmp_path / "mesh.toml"))) as mesh:
            await mesh.ready()
            assert [await mesh.call("echo", "say") for _ in range(2)] == ["I am echo-0", "I am echo-1"]

    run_virtual(main())


pytest_plugins = ["pytester"]


@pytest.mark.slow
def test_the_fixture_runs_a_test_on_virtual_time(pytester: pytest.Pytester) -> None:
    pytester.makeconftest('pytest_plugins = ["meshvisor.testing.pytest"]')
    pytester.makepyfile(
        """
        import asyncio
        import pytest
        from meshvisor import Worker, rpc

        class Echo(Worker):
            @rpc
            async def say(self, word: str) -> str:
                return word

        @pytest.mark.parametrize("word", ["a", "b"])
        async def test_virtual(local_mesh, word):
            local_mesh.add("echo", Echo)
            await asyncio.sleep(3600)
            assert await local_mesh.call("echo", "say", word) == word

        async def test_bad(local_mesh):
            class Bad(Worker):
                async def on_start(self):
                    raise ValueError("bad")
            local_mesh.add("bad", Bad)
            await local_mesh.ready()
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*bad (incarnation 1) failed in on_start*"])
