"""Writing never waits, whatever the reader does."""

import os
import threading
from collections.abc import Iterator

import pytest

from meshvisor.supervisor.writer import Writer


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ours, theirs = os.pipe()
    yield ours, theirs
    for descriptor in (ours, theirs):
        try:
            os.close(descriptor)
        except OSError:
            continue  # the test has closed it


def read_all(descriptor: int) -> bytes:
    data = b""
    while piece := os.read(descriptor, 65_536):
        data += piece
    return data


def test_texts_arrive_in_order(pipe: tuple[int, int]) -> None:
    ours, theirs = pipe
    writer = Writer(theirs)
    for number in range(100):
        writer.write(f"line {number} ü\n")
    writer.close()
    os.close(theirs)
    assert read_all(ours).decode() == "".join(f"line {number} ü\n" for number in range(100))


def test_what_nobody_reads_is_dropped_and_counted(pipe: tuple[int, int]) -> None:
    ours, theirs = pipe
    writer = Writer(theirs, limit=200_000)
    for _ in range(500):
        writer.write("x" * 999 + "\n")  # 500 kB: more than the pipe and the limit together
    first = os.read(ours, 65_536)
    reader = threading.Thread(target=lambda: received.append(read_all(ours)))
    received: list[bytes] = []
    reader.start()
    while writer._size:  # until it has been read: the thread that writes tells no other way
        threading.Event().wait(0.001)
    writer.write("after\n")
    writer.close()
    os.close(theirs)
    reader.join()
    lines = (first + received[0]).splitlines()
    kept = lines.count(b"x" * 999)
    assert lines[-2:] == [
        b"... %d lines are not shown: the output is not taken fast enough" % (500 - kept),
        b"after",
    ]
    assert 190 <= kept < 500


def test_a_reader_that_is_gone_does_not_matter(pipe: tuple[int, int]) -> None:
    ours, theirs = pipe
    os.close(ours)
    writer = Writer(theirs)
    writer.write("nobody hears this\n")
    writer.close()
    writer.write("nor this\n")
    assert not writer._thread.is_alive()


def test_a_descriptor_that_does_not_block_is_waited_for(pipe: tuple[int, int]) -> None:
    ours, theirs = pipe
    os.set_blocking(theirs, False)
    writer = Writer(theirs)
    text = "x" * 300_000 + "\n"
    writer.write(text)
    received = b""
    while len(received) < len(text):
        received += os.read(ours, 65_536)
    writer.close()
    assert received == text.encode()


def test_the_end_does_not_wait_for_a_reader_that_never_reads(pipe: tuple[int, int]) -> None:
    ours, theirs = pipe
    writer = Writer(theirs)
    writer.write("x" * 200_000)
    writer.close(timeout=0.01)
    assert writer._thread.is_alive()
    os.close(ours)  # lets the thread go
    writer._thread.join()


def test_a_full_disk_loses_lines_and_no_more() -> None:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    writer = Writer(descriptor)
    writer.write("lost\n")
    writer.close()
    assert not writer._gone
    os.close(descriptor)
