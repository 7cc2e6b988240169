"""One a turn."""

from __future__ import annotations

import asyncio
import os

from meshvisor.supervisor.turnstile import Turnstile


def test_in_each_turn_of_the_loop_one_is_let_in_and_in_the_end_all_are() -> None:
    async def main() -> list[int]:
        loop, stile = asyncio.get_running_loop(), Turnstile()
        turn, passed = 0, []
        done = asyncio.Event()

        def come(reader: int) -> None:
            if stile.lets_in():
                passed.append(turn)
                loop.remove_reader(reader)
                if len(passed) == 5:
                    done.set()

        pipes = [os.pipe() for _ in range(5)]
        for reader, writer in pipes:
            os.write(writer, b"x")
            loop.add_reader(reader, come, reader)
        while not done.is_set():
            await asyncio.sleep(0)
            turn += 1
        for ends in pipes:
            for descriptor in ends:
                os.close(descriptor)
        return passed

    passed = asyncio.run(main())
    assert len(set(passed)) == 5
