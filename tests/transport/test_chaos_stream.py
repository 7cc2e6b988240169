"""One chaotic stream: each fault alone, with scripted dice and literal bytes (the seed's scenarios B 49-66 first)."""

import asyncio
import random
from collections import deque
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

import pytest

from meshvisor.shared.transport.base import Stream
from meshvisor.shared.transport.chaos import ChaosOptions, ChaosStream, Fault, Operation
from meshvisor.shared.transport.chaos_path import HELD
from meshvisor.shared.transport.memory import memory_pair
from meshvisor.workers.testing import run_virtual

T = TypeVar("T")


class Tape:
    """An inner stream: reads come from ``content``, writes are kept."""

    def __init__(self, content: bytes = b"") -> None:
        self.content = content
        self.position = 0
        self.written = bytearray()
        self.reads: list[int] = []
        self.closed = 0

    async def read(self, limit: int) -> bytes:
        data = self.content[self.position : self.position + limit]
        self.position += len(data)
        self.reads.append(len(data))
        return data

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def close(self) -> None:
        self.closed += 1


class Dice(random.Random):
    """Dice that fall as they are told, whole numbers clamped into the range asked for; then as chance has it."""

    def __init__(self, chances: Iterable[float] = (), numbers: Iterable[int] = ()) -> None:
        super().__init__(0)
        self.chances = deque(chances)
        self.numbers = deque(numbers)

    def random(self) -> float:
        return self.chances.popleft() if self.chances else super().random()

    def randint(self, low: int, high: int) -> int:
        return max(low, min(high, self.numbers.popleft())) if self.numbers else super().randint(low, high)


class Sleeps:
    """A sleep that takes no time and is remembered."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


class ManualClock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def play(main: Coroutine[Any, Any, T]) -> T:
    """Run on virtual time; nothing may be left running."""

    async def all_of_it() -> T:
        result = await main
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"still running: {left}"
        return result

    return run_virtual(all_of_it())


def now() -> float:
    return asyncio.get_running_loop().time()


async def read_exactly(stream: Stream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = await stream.read(count - len(data))
        assert part, f"the stream ended after {len(data)} of {count} bytes"
        data += part
    return data


# The seed's scenarios.


def test_a_dropped_read_looks_like_the_end_and_leaves_the_inner_stream_alone() -> None:  # B 49
    tape = Tape(b"\1\2\3")
    stream = ChaosStream(tape, ChaosOptions(read_drop=1.0))
    assert play(stream.read(3)) == b""
    assert tape.position == 0
    assert stream.injected == {Fault.DROP: 1}


def test_a_truncated_read_has_consumed_what_it_does_not_return() -> None:  # B 50
    tape = Tape(b"\1\2\3")
    assert play(ChaosStream(tape, ChaosOptions(read_truncate=1.0)).read(3)) == b"\1\2"
    assert tape.position == 3


def test_a_flipped_read_differs_in_the_bit_that_the_dice_chose() -> None:  # B 51
    stream = ChaosStream(Tape(b"\0"), ChaosOptions(read_flip=1.0), rng=Dice(numbers=[0]))
    assert play(stream.read(1)) == b"\1"


def test_a_dropped_write_is_swallowed() -> None:  # B 52
    tape = Tape()
    play(ChaosStream(tape, ChaosOptions(write_drop=1.0)).write(b"\1\2\3"))
    assert tape.written == b""


def test_a_flipped_write_differs_in_the_bit_that_the_dice_chose() -> None:  # B 53
    tape = Tape()
    play(ChaosStream(tape, ChaosOptions(write_flip=1.0), rng=Dice(numbers=[0])).write(b"\0"))
    assert tape.written == b"\1"


def test_a_failed_read_raises_and_the_stream_goes_on() -> None:  # B 54
    async def main() -> None:
        stream = ChaosStream(Tape(b"x"), ChaosOptions(read_failure=0.5), rng=Dice([0.4, 0.6]))
        with pytest.raises(OSError, match="chaos: the read failed"):
            await stream.read(1)
        assert await stream.read(1) == b"x"

    play(main())


def test_a_delay_is_slept_through_the_injected_sleep() -> None:  # B 55
    sleeps = Sleeps()
    stream = ChaosStream(Tape(b"x"), ChaosOptions(delay=(5, 5), delay_probability=1.0), sleep=sleeps)
    assert play(stream.read(1)) == b"x"
    assert sleeps.seconds == [5]


def test_a_stall_provider_replaces_the_stall_s_probability_and_range() -> None:  # B 56
    sleeps, asked = Sleeps(), []

    def provider(operation: str, number: int, bytes_so_far: int, elapsed: float) -> float:
        asked.append((operation, number, bytes_so_far, elapsed))
        return 12.0

    options = ChaosOptions(delay_probability=0.0, stall=(1, 1), stall_probability=0.0, stall_provider=provider)
    assert play(ChaosStream(Tape(b"x"), options, sleep=sleeps, clock=ManualClock()).read(1)) == b"x"
    assert sleeps.seconds == [12.0]
    assert asked == [("read", 1, 0, 0.0)]


@pytest.mark.parametrize(
    "trigger",
    [
        {"disconnect_when": lambda operation, number, *_: operation == "read" and number == 2},
        {"disconnect_at": 2},
        {"disconnect_at_byte": 1},
    ],
    ids=lambda trigger: next(iter(trigger)),
)
def test_a_disconnect_is_for_good(trigger: dict[str, Any]) -> None:  # B 57
    async def main() -> None:
        tape = Tape(b"\1\2\3")
        stream = ChaosStream(tape, ChaosOptions(disconnect_message="Simulated disconnect", **trigger))
        assert await stream.read(1) == b"\1"
        for _ in range(2):
            with pytest.raises(ConnectionResetError) as caught:
                await stream.read(1)
            assert str(caught.value) == "Simulated disconnect"
        with pytest.raises(ConnectionResetError, match="Simulated disconnect"):
            await stream.write(b"x")
        assert tape.closed == 1
        assert stream.injected == {Fault.DISCONNECT: 1}

    play(main())


def test_a_delay_per_byte_follows_the_operation_as_one_sleep() -> None:  # B 58
    sleeps = Sleeps()
    options = ChaosOptions(per_byte_delay=4, delay_probability=0.0)
    play(ChaosStream(Tape(), options, sleep=sleeps).write(b"\1\2\3"))
    assert sleeps.seconds == [12]


def test_a_noise_filter_can_choose_one_operation() -> None:  # B 59
    async def main() -> list[bytes]:
        options = ChaosOptions(
            read_flip=1.0, noise_filter=lambda operation, number, *_: (operation, number) == ("read", 2)
        )
        stream = ChaosStream(Tape(bytes(3)), options, rng=Dice(numbers=[0]))
        return [await stream.read(1) for _ in range(3)]

    assert play(main()) == [b"\0", b"\1", b"\0"]


def test_a_noise_filter_can_go_by_elapsed_time() -> None:  # B 60
    async def main() -> None:
        clock, tape = ManualClock(), Tape()
        options = ChaosOptions(write_flip=1.0, noise_filter=lambda operation, number, moved, elapsed: elapsed >= 1.0)
        stream = ChaosStream(tape, options, rng=Dice(numbers=[0]), clock=clock)
        await stream.write(b"\0")
        clock.now += 2.0
        await stream.write(b"\0")
        assert tape.written == b"\0\1"

    play(main())


def test_a_noise_filter_can_go_by_the_bytes_moved() -> None:  # B 61
    async def main() -> None:
        tape = Tape()
        options = ChaosOptions(write_flip=1.0, noise_filter=lambda operation, number, moved, elapsed: moved >= 4)
        stream = ChaosStream(tape, options, rng=Dice(numbers=[0]))
        for size in (2, 2, 1):
            await stream.write(bytes(size))
        assert tape.written == b"\0\0\0\0\1"

    play(main())


def test_several_bits_of_a_read_flip_where_the_dice_say() -> None:  # B 62
    options = ChaosOptions(read_flip=1.0, flip_max_bits=3)
    assert play(ChaosStream(Tape(bytes(2)), options, rng=Dice(numbers=[2, 0, 15])).read(2)) == b"\x01\x80"


def test_several_bits_of_a_write_flip_where_the_dice_say() -> None:  # B 63
    tape = Tape()
    options = ChaosOptions(write_flip=1.0, flip_max_bits=3)
    play(ChaosStream(tape, options, rng=Dice(numbers=[2, 5, 10])).write(bytes(2)))
    assert tape.written == b"\x20\x04"


def test_a_truncated_write_loses_its_tail() -> None:  # B 64
    tape = Tape()
    options = ChaosOptions(write_truncate=1.0, truncate_max_bytes=4)
    play(ChaosStream(tape, options, rng=Dice(numbers=[3])).write(b"\1\2\3\4\5"))
    assert tape.written == b"\1\2"


def test_a_truncation_is_no_longer_than_its_cap() -> None:  # B 65
    tape = Tape(b"\1\2\3\4\5")
    options = ChaosOptions(read_truncate=1.0, truncate_max_bytes=2)
    assert play(ChaosStream(tape, options, rng=Dice(numbers=[5])).read(5)) == b"\1\2\3"
    assert tape.position == 5


def test_what_the_dice_do_not_hit_passes_unchanged() -> None:  # B 66
    tape = Tape()
    play(ChaosStream(tape, ChaosOptions(write_drop=0.5), rng=Dice([0.75])).write(b"\7\x08\x09"))
    assert tape.written == b"\7\x08\x09"


# Beyond the seed: order and numbers.


def test_faults_apply_in_their_order_and_each_is_counted() -> None:
    sleeps, tape = Sleeps(), Tape()
    options = ChaosOptions(
        stall=(7, 7), delay=(5, 5), write_truncate=1.0, write_flip=1.0, truncate_max_bytes=1, per_byte_delay=1
    )
    stream = ChaosStream(tape, options, rng=Dice(numbers=[0]), sleep=sleeps)
    play(stream.write(b"\0\0\0"))
    assert sleeps.seconds == [7, 5, 2]
    assert tape.written == b"\1\0"
    assert stream.injected == {Fault.STALL: 1, Fault.DELAY: 1, Fault.TRUNCATION: 1, Fault.FLIP: 1}


def test_a_write_truncated_to_nothing_is_skipped() -> None:
    tape = Tape()
    play(ChaosStream(tape, ChaosOptions(write_truncate=1.0)).write(b"x"))
    assert tape.written == b""


def test_a_stall_and_a_disconnect_do_not_ask_the_noise_filter() -> None:
    async def main() -> None:
        sleeps = Sleeps()
        options = ChaosOptions(stall=(3, 3), delay=(1, 1), disconnect_at=2, noise_filter=lambda *_: False)
        stream = ChaosStream(Tape(), options, sleep=sleeps)
        await stream.write(b"x")
        with pytest.raises(ConnectionResetError):
            await stream.write(b"x")
        assert sleeps.seconds == [3]

    play(main())


def test_disconnect_at_counts_reads_and_writes_together() -> None:
    async def main() -> None:
        stream = ChaosStream(Tape(b"abc"), ChaosOptions(disconnect_at=3))
        await stream.write(b"x")
        assert await stream.read(1) == b"a"
        with pytest.raises(ConnectionResetError):
            await stream.write(b"x")

    play(main())


def test_the_dice_can_disconnect() -> None:
    async def main() -> None:
        stream = ChaosStream(Tape(b"abc"), ChaosOptions(disconnect_probability=0.5), rng=Dice([0.6, 0.4]))
        assert await stream.read(1) == b"a"
        with pytest.raises(ConnectionResetError, match="the connection was cut by chaos"):
            await stream.read(1)

    play(main())


@pytest.mark.parametrize("offset", range(7))
def test_a_write_is_cut_at_every_byte(offset: int) -> None:
    async def main() -> None:
        near, far = memory_pair()
        stream = ChaosStream(near, ChaosOptions(disconnect_at_byte=offset))
        try:
            await stream.write(b"abcdef")
            assert offset == 6
        except ConnectionResetError:
            assert offset < 6
        with pytest.raises(ConnectionResetError):
            await stream.write(b"x")
        got = b""
        while part := await far.read(10):
            got += part
        assert got == b"abcdef"[:offset]

    play(main())


def test_a_read_ends_exactly_at_the_byte_of_the_cut() -> None:
    async def main() -> None:
        tape = Tape(b"abcdef")
        stream = ChaosStream(tape, ChaosOptions(disconnect_at_byte=4))
        await stream.write(b"x")
        assert await stream.read(10) == b"abc"
        assert tape.closed == 1
        with pytest.raises(ConnectionResetError):
            await stream.read(10)

    play(main())


# Time.


def test_rechunking_reads_and_writes_one_byte_at_a_time() -> None:
    async def main() -> None:
        near, far = memory_pair()
        tape = Tape(b"abc")
        assert await ChaosStream(tape, ChaosOptions(rechunk=1)).read(3) == b"a"
        writing = asyncio.create_task(ChaosStream(near, ChaosOptions(rechunk=1)).write(b"xyz"))
        assert [await far.read(10) for _ in range(3)] == [b"x", b"y", b"z"]
        await writing

    play(main())


def test_random_pieces_are_drawn_from_their_range() -> None:
    async def main() -> None:
        near, far = memory_pair()
        stream = ChaosStream(near, ChaosOptions(rechunk=(1, 4)), rng=Dice(numbers=[3, 1, 9]))
        writing = asyncio.create_task(stream.write(b"abcdefgh"))
        assert [await far.read(10) for _ in range(3)] == [b"abc", b"d", b"efgh"]
        await writing

    play(main())


def test_bandwidth_bounds_both_directions() -> None:
    async def main() -> None:
        near, far = memory_pair()
        stream = ChaosStream(near, ChaosOptions(bandwidth=1000))
        await stream.write(bytes(500))
        assert now() == pytest.approx(0.5)
        await far.write(bytes(250))
        await read_exactly(stream, 250)
        assert now() == pytest.approx(0.75)

    play(main())


def test_bandwidth_lets_bytes_arrive_as_they_pass_and_not_all_at_the_end() -> None:
    async def main() -> None:
        near, far = memory_pair()
        writing = asyncio.create_task(ChaosStream(near, ChaosOptions(bandwidth=1000)).write(bytes(300)))
        arrivals = []
        for _ in range(3):
            data = await far.read(1000)
            arrivals.append((round(now(), 6), len(data)))
        await writing
        assert arrivals == [(0.1, 100), (0.2, 100), (0.3, 100)]

    play(main())


def test_latency_delays_each_byte_without_holding_the_writer_up() -> None:
    async def main() -> None:
        near, far = memory_pair()
        stream = ChaosStream(near, ChaosOptions(latency=(0.1, 0.1)))
        await stream.write(b"a")
        await stream.write(b"b")
        assert now() == 0.0
        assert await read_exactly(far, 2) == b"ab"
        assert now() == pytest.approx(0.1)
        await far.write(b"c")
        await asyncio.sleep(0.05)
        assert await stream.read(1) == b"c"
        assert now() == pytest.approx(0.2)
        stream.close()
        await stream.wait_closed()

    play(main())


def test_jitter_never_reorders() -> None:
    async def main() -> None:
        near, far = memory_pair()
        stream = ChaosStream(near, ChaosOptions(latency=(0.0, 1.0)), rng=random.Random(3))
        for number in range(100):
            await stream.write(bytes([number]))
        assert await read_exactly(far, 100) == bytes(range(100))
        stream.close()
        await stream.wait_closed()

    play(main())


def test_a_line_takes_no_more_than_its_bound_from_a_writer() -> None:
    async def main() -> None:
        near, far = memory_pair()
        stream = ChaosStream(near, ChaosOptions(latency=(1.0, 1.0)))
        writing = asyncio.create_task(stream.write(bytes(3 * HELD)))
        await asyncio.sleep(0.5)
        assert not writing.done()
        assert await read_exactly(far, 3 * HELD) == bytes(3 * HELD)
        await writing
        stream.close()
        await stream.wait_closed()

    play(main())


def test_closing_loses_nothing_that_is_on_its_way() -> None:
    async def main() -> None:
        near, far = memory_pair()
        stream = ChaosStream(near, ChaosOptions(latency=(0.1, 0.1)))
        await stream.write(b"last words")
        stream.close()
        with pytest.raises(OSError, match="the stream is closed"):
            await stream.write(b"x")
        assert await far.read(100) == b"last words"
        assert await far.read(1) == b""
        assert now() == pytest.approx(0.1)
        await stream.wait_closed()

    play(main())


def test_a_late_stream_passes_on_the_end_and_the_errors_of_the_inner_one() -> None:
    async def main() -> None:
        near, far = memory_pair()
        stream = ChaosStream(near, ChaosOptions(latency=(0.1, 0.1)))
        await far.write(b"bye")
        far.close()
        assert await stream.read(3) == b"bye"
        assert [await stream.read(3) for _ in range(2)] == [b"", b""]
        await stream.write(b"x")
        await asyncio.sleep(0.2)
        with pytest.raises(BrokenPipeError):
            await stream.write(b"x")
        stream.close()
        await stream.wait_closed()

    play(main())


def test_a_slow_close_is_seen_by_the_peer_only_later() -> None:
    async def main() -> None:
        near, far = memory_pair()
        stream = ChaosStream(near, ChaosOptions(close_delay=3.0))
        await stream.write(b"x")
        stream.close()
        assert not stream.is_released
        assert await far.read(1) == b"x"
        assert await far.read(1) == b""
        assert now() == pytest.approx(3.0)
        await stream.wait_closed()
        assert stream.is_released

    play(main())


@pytest.mark.parametrize("end", ["close", "cut"])
def test_whoever_waits_in_a_stall_hears_of_the_end_at_once(end: str) -> None:
    async def main() -> None:
        near, _ = memory_pair()
        stream = ChaosStream(near, ChaosOptions(stall=(1000, 1000)))
        tasks = [asyncio.create_task(stream.read(1)), asyncio.create_task(stream.write(b"x"))]
        await asyncio.sleep(1)
        getattr(stream, end)()
        for task in tasks:
            with pytest.raises(OSError, match=r"the stream is closed|was cut by chaos"):
                await task
        assert now() == 1.0

    play(main())


# Cancellation, misuse, and faults that end.


def test_a_read_cancelled_after_its_bytes_came_loses_none_of_them() -> None:
    async def main() -> None:
        stream = ChaosStream(Tape(b"abcdef"), ChaosOptions(per_byte_delay=1.0))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await stream.read(4)
        assert await stream.read(3) == b"abc"
        assert await stream.read(3) == b"d"
        assert await stream.read(3) == b"ef"

    play(main())


def test_two_writers_are_a_mistake_that_is_told() -> None:
    async def main() -> None:
        stream = ChaosStream(Tape(), ChaosOptions(stall=(1, 1)))
        writing = asyncio.create_task(stream.write(b"x"))
        await asyncio.sleep(0.5)
        with pytest.raises(RuntimeError, match="two tasks write one chaos stream"):
            await stream.write(b"y")
        await writing

    play(main())


def test_half_open_from_the_start_reads_nothing_and_raises_nothing() -> None:
    async def main() -> None:
        near, far = memory_pair()
        stream = ChaosStream(near, ChaosOptions(half_open="read"))
        await far.write(b"unheard")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3600):
                await stream.read(1)
        await stream.write(b"heard")
        assert await far.read(10) == b"heard"
        stream.heal()
        assert await stream.read(10) == b"unheard"

    play(main())


def test_half_open_takes_the_place_of_the_disconnect() -> None:
    async def main() -> None:
        near, far = memory_pair()
        stream = ChaosStream(near, ChaosOptions(half_open="write", disconnect_at_byte=4))
        await stream.write(b"in the middle")
        await stream.write(b" of it")
        assert await far.read(100) == b"in t"
        assert stream.injected == {Fault.BLACK_HOLE: 1}
        stream.heal()
        assert await read_exactly(far, 15) == b"he middle of it"

    play(main())


def test_what_a_black_hole_swallowed_arrives_before_what_is_written_after_it() -> None:
    async def main() -> None:
        near, far = memory_pair()
        stream = ChaosStream(near)
        stream.black_hole("write")
        await stream.write(b"1" * (HELD - 1))
        waiting = asyncio.create_task(stream.write(b"22"))
        await asyncio.sleep(10)
        assert not waiting.done(), "a black hole has no more room than a send buffer"
        stream.heal()
        writing = asyncio.create_task(waiting_then(waiting, stream, b"3"))
        assert await read_exactly(far, HELD + 2) == b"1" * (HELD - 1) + b"22" + b"3"
        await writing

    async def waiting_then(first: asyncio.Task[None], stream: ChaosStream, data: bytes) -> None:
        await first
        await stream.write(data)

    play(main())


def test_bytes_that_come_while_a_reader_waits_in_a_new_black_hole_are_kept_even_if_it_gives_up() -> None:
    async def main() -> None:
        near, far = memory_pair()
        stream = ChaosStream(near)
        reading = asyncio.create_task(stream.read(10))
        await asyncio.sleep(1)
        stream.black_hole("read")
        await far.write(b"kept")
        await asyncio.sleep(1)
        assert not reading.done()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        far.close()
        stream.heal()
        assert await stream.read(10) == b"kept"
        assert await stream.read(10) == b""

    play(main())


def test_a_peer_that_resets_is_not_heard_through_a_black_hole() -> None:
    class Reset(Tape):
        async def read(self, limit: int) -> bytes:
            await asyncio.sleep(1)
            raise ConnectionResetError("reset by peer")

    async def main() -> None:
        stream = ChaosStream(Reset(), ChaosOptions(half_open="both"))
        stream.heal()
        reading = asyncio.create_task(stream.read(1))
        await asyncio.sleep(0.5)
        stream.black_hole()
        await asyncio.sleep(10)
        assert not reading.done()
        stream.heal()
        with pytest.raises(ConnectionResetError, match="reset by peer"):
            await reading

    play(main())


def test_closing_and_cutting_end_the_waits_in_a_black_hole() -> None:
    async def main() -> None:
        for end in (ChaosStream.close, ChaosStream.cut):
            stream = ChaosStream(memory_pair()[0], ChaosOptions(half_open="both"))
            tasks = [asyncio.create_task(stream.read(1)), asyncio.create_task(stream.write(bytes(HELD + 1)))]
            await asyncio.sleep(1)
            end(stream)
            for task in tasks:
                with pytest.raises(OSError, match=r"the stream is closed|was cut by chaos"):
                    await task
            assert stream.is_released

    play(main())


def test_calm_ends_what_is_under_way_and_injects_nothing_more() -> None:
    async def main() -> None:
        near, far = memory_pair()
        stream = ChaosStream(near, ChaosOptions(stall=(1000, 1000), write_flip=1.0, disconnect_at=2, half_open="both"))
        writing = asyncio.create_task(stream.write(b"one"))
        await asyncio.sleep(1)
        stream.calm()
        await writing
        await stream.write(b"two")
        assert now() == 1.0
        await read_exactly(far, 3)  # flipped or not: it was on its way
        assert await far.read(3) == b"two"
        assert Fault.BLACK_HOLE not in stream.injected

    play(main())


def test_the_same_seed_does_the_same_to_the_byte_and_to_the_nanosecond() -> None:
    options = ChaosOptions(
        seed=7,
        read_flip=0.3,
        write_truncate=0.3,
        write_drop=0.1,
        write_failure=0.1,
        delay=(0.0, 0.1),
        stall=(0.0, 1.0),
        stall_probability=0.2,
        rechunk=(1, 9),
        latency=(0.01, 0.05),
        disconnect_probability=0.002,
    )

    async def trace(seed: int) -> list[object]:
        near, far = memory_pair()
        stream = ChaosStream(near, options, rng=random.Random(seed))
        events: list[object] = []

        async def echo() -> None:
            while data := await far.read(64):
                events.append((now(), data))
                await far.write(data)

        async def listen() -> None:
            try:
                while data := await stream.read(64):
                    events.append((now(), data))
            except OSError as error:
                events.append((now(), str(error)))

        tasks = [asyncio.create_task(echo()), asyncio.create_task(listen())]
        for number in range(100):
            try:
                await stream.write(b"message %d" % number)
            except OSError as error:
                events.append((now(), str(error)))
        stream.close()
        await asyncio.gather(*tasks, return_exceptions=True)
        await stream.wait_closed()
        return [*events, dict(stream.injected)]

    first, again, other = play(trace(7)), play(trace(7)), play(trace(8))
    assert len(first) > 100
    assert first == again
    assert first != other


# What cannot be.


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("read_drop", -0.1),
        ("write_drop", 1.1),
        ("read_truncate", float("nan")),
        ("write_truncate", True),
        ("truncate_max_bytes", 0),
        ("flip_max_bits", 1.5),
        ("read_failure", 2),
        ("delay", (2, 1)),
        ("delay", (-1, 1)),
        ("delay", 0.5),
        ("latency", (0, float("inf"))),
        ("stall", (1,)),
        ("stall_probability", "0.5"),
        ("per_byte_delay", -1),
        ("close_delay", float("nan")),
        ("bandwidth", 0),
        ("disconnect_at", 0),
        ("disconnect_at_byte", -1),
        ("disconnect_probability", -1),
        ("half_open", "sideways"),
        ("rechunk", 0),
        ("rechunk", (0, 4)),
        ("rechunk", (1.5, 4)),
    ],
)
def test_an_impossible_option_is_refused_by_name(field: str, value: object) -> None:
    options: dict[str, Any] = {field: value}
    with pytest.raises(ValueError, match=f"^{field} must be"):
        ChaosOptions(**options)


def test_operations_are_plain_words_to_a_filter() -> None:
    assert [str(operation) for operation in Operation] == ["read", "write"]
