"""Segments are what they say they are, or they are refused; their lock excludes, and dies with its holder."""

import fcntl
import mmap
import os
import random
import re
import signal
import socket
import struct
import threading
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from meshvisor.shared.errors import BlacklistError, SegmentError
from meshvisor.shared.memory import segment as module
from meshvisor.shared.memory.segment import FIRST_FREE, HEADER_WORDS, LOCK_PATIENCE, Layout, Segment

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

LAYOUT = Layout(kind=77, version=3, name="test table", unit=32)
SIZE = HEADER_WORDS * 8 + 4 * 32


@pytest.fixture
def segment() -> Iterator[Segment]:
    made = Segment.create(LAYOUT, 4)
    yield made
    made.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "table"
    Segment.create(LAYOUT, 4, path).close()
    return path


def in_child(work: Callable[[], bool]) -> bool:
    """Return what ``work`` says in a forked child."""
    pid = os.fork()
    if not pid:
        status = 2
        try:
            status = 0 if work() else 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_a_new_segment_is_zero_behind_its_header(segment: Segment) -> None:
    assert segment.capacity == 4
    assert segment.words[FIRST_FREE:].tolist() == [0] * (HEADER_WORDS - FIRST_FREE + 4 * 32 // 8)


def test_the_header_is_laid_out_as_drawn(segment: Segment) -> None:
    assert module.__doc__ is not None
    rows = re.findall(r"^    (\d+)(?:(?:,| \.\.) (\d+))? +([a-zA-Z-]+)", module.__doc__, re.MULTILINE)
    assert rows == [
        ("0", "", "magic"),
        ("1", "", "kind"),
        ("2", "", "size"),
        ("3", "", "capacity"),
        ("4", "", "unit"),
        ("5", "", "CRC-"),
        ("6", "7", "boot"),
        ("8", "15", "for"),
    ]
    assert segment.words[:5].tolist() == [int.from_bytes(b"meshvisr", "little"), 77 | 3 << 32, SIZE, 4, 32]
    assert segment.words[5] == zlib.crc32(segment.data[:40])
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert uuid.UUID(bytes=segment.data[48:64]) == uuid.UUID(boot)
    assert (FIRST_FREE, HEADER_WORDS) == (8, 16)


def test_who_attaches_sees_the_same_words(segment: Segment) -> None:
    other = Segment.attach(LAYOUT, segment.fileno())
    other.words[20] = 2**64 - 1
    assert segment.words[20] == 2**64 - 1
    assert segment.data[160:168] == b"\xff" * 8
    other.close()


def test_who_attaches_keeps_the_descriptor_it_came_with(segment: Segment) -> None:
    before = open_descriptors()
    Segment.attach(LAYOUT, segment.fileno()).close()
    assert open_descriptors() == before
    os.fstat(segment.fileno())


def test_closing_twice_leaves_no_descriptor_and_says_so_afterwards() -> None:
    before = open_descriptors()
    segment = Segment.create(LAYOUT, 4)
    segment.close()
    segment.close()
    assert open_descriptors() == before
    assert segment.is_closed
    assert segment.fileno() == -1
    with pytest.raises(SegmentError, match="is closed"):
        segment.words[20]
    with pytest.raises(SegmentError, match="is closed"):
        segment.words[20] = 1
    with pytest.raises(SegmentError, match="is closed"):
        segment.lock()


def test_nobody_can_shrink_or_grow_a_segment_under_us(segment: Segment) -> None:
    for size in (0, SIZE - 1, SIZE + 1):
        with pytest.raises(PermissionError):
            os.ftruncate(segment.fileno(), size)
    assert os.fstat(segment.fileno()).st_mode & 0o777 == 0o600


def test_descriptors_do_not_pass_an_exec(segment: Segment) -> None:
    assert not os.get_inheritable(segment.fileno())
    assert not os.get_inheritable(segment._locked)


def test_a_file_is_whole_private_and_found_by_its_path(file: Path) -> None:
    status = file.stat()
    assert (status.st_size, status.st_mode & 0o777) == (SIZE, 0o600)
    assert status.st_blocks * 512 >= SIZE
    assert os.listdir(file.parent) == [file.name]
    one, two = Segment.attach(LAYOUT, file), Segment.create(LAYOUT, 9, file)
    one.words[30] = 5
    assert two.words[30] == 5
    assert two.capacity == 4
    one.close()
    two.close()


@pytest.mark.parametrize("capacity", [0, -1, 65_537, True, 1.0, None])
def test_a_capacity_that_is_none_is_refused(capacity: object) -> None:
    with pytest.raises(ValueError, match="capacity must be a number from 1 to 65536"):
        Segment.create(LAYOUT, capacity)  # type: ignore[arg-type]


def test_what_an_earlier_boot_left_is_refused_and_created_anew(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segment = Segment.attach(LAYOUT, file)
    segment.words[FIRST_FREE] = segment.words[25] = 1
    segment.close()
    monkeypatch.setattr(module, "boot_id", lambda: b"another boot id.")
    with pytest.raises(SegmentError, match="earlier boot"):
        Segment.attach(LAYOUT, file)
    segment = Segment.create(LAYOUT, 9, file)
    assert (segment.capacity, segment.words[FIRST_FREE], segment.words[25]) == (4, 0, 0)
    segment.close()
    Segment.attach(LAYOUT, file).close()


def word(at: int, value: int) -> Callable[[bytes], bytes]:
    return lambda data: data[: at * 8] + struct.pack("<Q", value) + data[at * 8 + 8 :]


DAMAGE = [
    ("empty", lambda data: b"", "not a segment"),
    ("cut within the header", lambda data: data[:40], "not a segment"),
    ("cut before the boot id", lambda data: data[:60], "not a segment"),
    ("cut behind the header", lambda data: data[:128], "has 128 bytes"),
    ("cut by one byte", lambda data: data[:-1], f"has {SIZE - 1} bytes, where its header promises {SIZE}"),
    ("too long", lambda data: data + b"x", f"has {SIZE + 1} bytes"),
    ("no magic", word(0, 0), "not a segment"),
    ("another kind", word(1, 78 | 3 << 32), "damaged"),
    ("another size", word(2, 1 << 40), "damaged"),
    ("no capacity", word(3, 0), "damaged"),
    ("another unit", word(4, 8), "damaged"),
    ("another check", word(5, 1), "damaged"),
    ("zeros", lambda data: bytes(len(data)), "not a segment"),
]


@pytest.mark.parametrize(("damage", "message"), [case[1:] for case in DAMAGE], ids=[case[0] for case in DAMAGE])
def test_a_damaged_file_is_refused(file: Path, damage: Callable[[bytes], bytes], message: str) -> None:
    file.write_bytes(damage(file.read_bytes()))
    before = open_descriptors()
    for use in (Segment.attach, lambda layout, path: Segment.create(layout, 4, path)):
        with pytest.raises(SegmentError, match=message) as caught:
            use(LAYOUT, file)
        assert caught.value.segment == str(file)
    assert open_descriptors() == before


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes_are_refused(file: Path, seed: int) -> None:
    rng = random.Random(seed)
    begin = rng.choice([0, 8])  # behind the magic, too
    file.write_bytes(file.read_bytes()[:begin] + rng.randbytes(rng.choice([8, 100, SIZE, 5000])))
    with pytest.raises(SegmentError):
        Segment.attach(LAYOUT, file)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (Layout(78, 3, "other table", 32), "not a other table"),
        (Layout(77, 4, "test table", 32), "of version 3, where this meshvisor uses 4"),
        (Layout(77, 3, "test table", 40), "its header promises"),
    ],
    ids=["kind", "version", "unit"],
)
def test_another_layout_is_refused(segment: Segment, layout: Layout, message: str) -> None:
    with pytest.raises(SegmentError, match=message):
        Segment.attach(layout, segment.fileno())


def test_the_layout_says_which_error_is_raised(segment: Segment) -> None:
    layout = Layout(78, 1, "blacklist", 32, BlacklistError)
    with pytest.raises(BlacklistError, match="not a blacklist"):
        Segment.attach(layout, segment.fileno())


def test_what_is_not_a_file_is_not_opened(tmp_path: Path, file: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(file)
    one, other = socket.socketpair()
    for source in (
        tmp_path / "missing",
        tmp_path,
        tmp_path / "fifo",
        tmp_path / "link",
        "/dev/null",
        one.fileno(),
        999,
    ):
        with pytest.raises(SegmentError):
            Segment.attach(LAYOUT, source)
    with pytest.raises(SegmentError, match="cannot be made"):
        Segment.create(LAYOUT, 4, tmp_path / "no" / "room")
    one.close()
    other.close()


def test_what_belongs_to_another_user_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000)
    with pytest.raises(SegmentError, match="not to 4000000"):
        Segment.attach(LAYOUT, file)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_what_others_may_write_to_is_refused(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(SegmentError, match="other users may write to it"):
        Segment.attach(LAYOUT, file)


def test_the_lock_excludes_another_opening_and_is_given_up_after_a_millisecond(segment: Segment) -> None:
    other = Segment.attach(LAYOUT, segment.fileno())
    assert segment.lock()
    begin = time.monotonic()
    assert not other.lock()
    assert time.monotonic() - begin >= LOCK_PATIENCE
    assert (segment.contended, other.contended) == (0, 1)
    segment.unlock()
    assert other.lock()
    other.unlock()
    other.close()


def test_the_lock_excludes_another_thread_and_the_thread_itself(segment: Segment) -> None:
    assert segment.lock()
    answers: list[bool] = [segment.lock()]
    thread = threading.Thread(target=lambda: answers.append(segment.lock()))
    thread.start()
    thread.join()
    assert answers == [False, False]
    assert segment.contended == 2
    segment.unlock()
    assert segment.lock()
    segment.unlock()


def test_a_signal_handler_that_raises_while_the_lock_is_waited_for_leaves_it_to_be_taken(
    segment: Segment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    other = Segment.attach(LAYOUT, segment.fileno())
    other.lock()
    with monkeypatch.context() as patch:
        patch.setattr(time, "sleep", interrupted)
        with pytest.raises(KeyboardInterrupt):
            segment.lock()
    other.unlock()
    assert segment.lock()
    segment.unlock()
    other.close()


def test_a_forked_child_is_excluded_by_its_parent_and_by_nobody_else(segment: Segment) -> None:
    def excluded() -> bool:
        return not segment.lock()

    def included() -> bool:
        segment.words[28] = 9
        return segment.lock()

    segment.lock()
    assert in_child(excluded)
    segment.unlock()
    assert in_child(included)
    assert segment.words[28] == 9
    # The child has ended with the lock in its hands.
    assert segment.lock()
    segment.unlock()


def test_a_dead_holder_holds_nothing_though_its_descriptors_live_on_elsewhere(segment: Segment) -> None:
    here, there = socket.socketpair(type=socket.SOCK_SEQPACKET)
    with here, there:
        pid = os.fork()
        if not pid:
            mine = Segment.attach(LAYOUT, segment.fileno())
            locked = mine.lock()
            grandchild = os.fork()
            if not grandchild:
                there.send(b"inherited")
                signal.pause()
            socket.send_fds(there, [f"{locked} {grandchild}".encode()], [mine.fileno()])
            signal.pause()
        received = [socket.recv_fds(here, 64, 1) for _ in range(2)]
        (descriptor,) = [descriptor for _, descriptors, *_ in received for descriptor in descriptors]
        ((answer, number),) = [data.split() for data, descriptors, *_ in received if descriptors]
        assert answer == b"True"
        assert not segment.lock()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        try:
            assert segment.lock()
            segment.unlock()
        finally:
            os.kill(int(number), signal.SIGKILL)
            os.close(descriptor)


def test_a_segment_that_is_out_of_descriptors_after_a_fork_can_be_read_and_not_locked(
    segment: Segment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(descriptor: int) -> int:
        raise OSError(24, "Too many open files")

    def only_readable() -> bool:
        return segment.words[20] == 3 and not segment.lock()

    segment.words[20] = 3
    monkeypatch.setattr(module, "_open_anew", none_left)
    assert in_child(only_readable)


def test_a_reader_in_another_thread_outlives_the_closing() -> None:
    segment = Segment.create(LAYOUT, 4)
    words = segment.words
    segment.close()
    assert words[20] == 0


def test_the_mapping_is_of_the_open_file_that_is_never_locked(segment: Segment) -> None:
    """``mmap`` duplicates the descriptor it is given: of the locked one, every forked child would hold the lock."""
    assert isinstance(segment.data, mmap.mmap)
    assert segment.lock()
    fcntl.flock(segment._locked, fcntl.LOCK_UN)
    other = Segment.attach(LAYOUT, segment.fileno())
    assert other.lock()
    other.unlock()
    other.close()
    segment.unlock()
