"""run_blocking: threads that are made when needed, bounded, and owned."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import Any

import pytest

from meshvisor.workers.blocking import THREADS, Blocking
from meshvisor.workers.worker import Worker

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def ours() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("blocking")]


def run(scenario: Callable[[Blocking], Any]) -> None:
    async def main() -> None:
        blocking = Blocking()
        try:
            await scenario(blocking)
        finally:
            blocking.close()

    asyncio.run(main())


def test_a_function_runs_in_a_thread_and_its_result_and_exceptions_arrive() -> None:
    def where(*, upper: bool) -> str:
        name = f"{variable.get()} in {threading.current_thread().name}"
        return name.upper() if upper else name

    def fails() -> None:
        raise ValueError("not today")

    def stops() -> None:
        next(iter(()))

    async def scenario(blocking: Blocking) -> None:
        assert not ours()
        variable.set("set")
        assert await blocking.run(where, upper=False) == "set in blocking_0"
        with pytest.raises(ValueError, match="not today"):
            await blocking.run(fails)
        with pytest.raises(RuntimeError, match="stops raised StopIteration"):
            await blocking.run(stops)
        # A pool that has not noticed yet that a thread is free makes another one.
        assert {"blocking_0"} <= set(ours()) <= {"blocking_0", "blocking_1", "blocking_2"}

    run(scenario)


def test_no_more_than_so_many_run_at_once_and_the_others_wait_in_order() -> None:
    gate, lock = threading.Event(), threading.Lock()
    running = most = 0

    def work(number: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        gate.wait()
        with lock:
            running -= 1
        return number

    async def scenario(blocking: Blocking) -> None:
        calls = [asyncio.create_task(blocking.run(work, number)) for number in range(3 * THREADS)]
        while running < THREADS:
            await asyncio.sleep(0.001)
        gone = calls.pop()
        gone.cancel()
        assert len(ours()) == THREADS
        gate.set()
        assert await asyncio.gather(*calls) == list(range(3 * THREADS - 1))
        assert most == THREADS

    run(scenario)


def test_a_caller_that_gives_up_leaves_its_thread_at_work_and_its_place_taken() -> None:
    gate, begun = threading.Event(), threading.Semaphore(0)

    def work() -> None:
        begun.release()
        gate.wait()

    async def scenario(blocking: Blocking) -> None:
        calls = [asyncio.create_task(blocking.run(work)) for _ in range(THREADS)]
        for _ in calls:
            while not begun.acquire(blocking=False):
                await asyncio.sleep(0.001)
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
        waiting = asyncio.create_task(blocking.run(int, "17"))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not waiting.done()
        gate.set()
        assert await waiting == 17

    run(scenario)


def test_what_is_no_plain_function_is_refused_with_a_sentence() -> None:
    async def scenario(blocking: Blocking) -> None:
        with pytest.raises(TypeError, match="run_blocking takes a plain function, and 17 is none: pass it, and"):
            await blocking.run(17)  # type: ignore[arg-type]  # that it is refused is the point
        with pytest.raises(TypeError, match=r"run_blocking takes a plain function, and .* is `async def`: await it"):
            await (await blocking.run(asyncio.sleep, 0))

    run(scenario)


def test_nothing_is_begun_after_the_end_and_no_thread_is_left() -> None:
    async def scenario(blocking: Blocking) -> None:
        assert await blocking.run(int, "17") == 17
        blocking.close()
        with pytest.raises(RuntimeError, match="this worker is at its end"):
            await blocking.run(int, "18")
        with pytest.raises(RuntimeError, match="this worker is at its end"):
            await blocking.run(int, "19")

    run(scenario)
    for thread in threading.enumerate():
        if thread.name.startswith("blocking"):
            thread.join(10)
    assert not ours()


def test_a_worker_runs_functions_in_threads_while_its_loop_goes_on() -> None:
    class Patient(Worker):
        async def work(self) -> list[Any]:
            gate = threading.Event()
            asyncio.get_running_loop().call_soon(gate.set)
            await self.run_blocking(gate.wait)
            return list(await asyncio.gather(*(self.run_blocking(pow, 2, n) for n in range(20))))

    async def main() -> None:
        blocking = Blocking()
        worker: Any = Patient()
        worker._node = type("Node", (), {"run_blocking": blocking.run})
        assert await worker.work() == [2**n for n in range(20)]
        blocking.close()

    asyncio.run(main())
