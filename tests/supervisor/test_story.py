"""How an incident is told."""

import time
import traceback
from collections.abc import Iterator

import msgspec
import pytest

from meshvisor.supervisor.cells import width
from meshvisor.supervisor.frames import error_of, without_machinery
from meshvisor.supervisor.incidents import Incident, Machine, Next, PastEnd
from meshvisor.supervisor.machine import look
from meshvisor.supervisor.snapshot import ExitCause, WorkerState, WorkerStatus
from meshvisor.supervisor.story import Paper, no_incident, tell

CRASH = Incident(
    at=1_000_000.0,
    slot="counter-2",
    incarnation=4,
    cause=ExitCause.EXITED,
    code=1,
    uptime=12.0,
    ready=True,
    text="KeyError: 'a'",
    traceback='Traceback (most recent call last):\n  File "/shop.py", line 3, in run\n    x["a"]\nKeyError: \'a\'\n',
    tail=("load\x1b[31ming", "Traceback (most recent call last):", '  File "/shop.py", line 3, in run', '    x["a"]',
          "KeyError: 'a'", "goodbye"),
    rss=60 * 1024 * 1024,
    history=(PastEnd(999_000.0, ExitCause.EXITED, 0.2), PastEnd(999_940.0, ExitCause.HUNG, 300.0),
             PastEnd(999_970.0, ExitCause.HUNG, 300.0)),
    next=Next.RESTART,
    delay=1.5,
    next_try=1_000_001.5,
)  # fmt: skip
HANG = """\
Main thread, most recent call first:
  File "/usr/lib/python3.11/threading.py", line 9 in wait
  File "/shop/site-packages/lib.py", line 8 in get
  File "/shop/shop.py", line 7 in run
  File "/opt/meshvisor/workers/node.py", line 6 in _run
  File "/usr/lib/python3.11/asyncio/events.py", line 5 in _run
  File "<frozen runpy>", line 4 in _run_code

Thread 1, most recent call first:
  File "/usr/lib/python3.11/queue.py", line 9 in get
  File "/usr/lib/python3.11/concurrent/futures/thread.py", line 8 in _worker
  File "/usr/lib/python3.11/threading.py", line 7 in run
  File "/usr/lib/python3.11/threading.py", line 6 in _bootstrap
"""


def status(
    state: WorkerState, pid: int | None = None, incarnation: int = 4, next_try: float | None = None
) -> WorkerStatus:
    return WorkerStatus("counter-2", state, pid, incarnation, 4, 180.0, True, 0.0, 0, 0, 0, None, next_try)


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_a_crash_is_told_with_what_one_wants_to_know() -> None:
    other = msgspec.structs.replace(CRASH, slot="sink", cause=ExitCause.FROZEN, at=999_990.0)
    assert tell(CRASH, 1_000_181.0, status(WorkerState.READY, 123, 7), [other]) == (
        "counter-2 ended with status 1, 3 min ago\n"
        "Mon 12 Jan 1970, 13:46:40, incarnation 4\n"
        "\n"
        "Why     KeyError: 'a'\n"
        "Life    it was ready, and ran for 12.0 s, with 60 MiB of memory\n"
        "\n"
        "Where   Traceback (most recent call last):\n"
        '          File "/shop.py", line 3, in run\n'
        '            x["a"]\n'
        "        KeyError: 'a'\n"
        "\n"
        "Output  loading\n"
        "        goodbye\n"
        "\n"
        "Before  hung 30.0 s, 60.0 s and exited 17 min earlier\n"
        "Then    it was started again after 1.5 s\n"
        "Now     it is ready (incarnation 7, process 123, up 3 min; 2 more starts since)\n"
        "\n"
        "Others  sink (frozen, 3 min ago); see supervise why SLOT\n"
    )


def test_the_machine_is_spoken_of_only_where_it_may_have_a_part_in_it() -> None:
    gib = 1024**3
    calm, loaded, full = (
        Machine(0.5, 2, 8 * gib, 16 * gib),
        Machine(4.1, 2, 8 * gib, 16 * gib),
        Machine(1, 1, gib, 16 * gib),
    )
    stories = [tell(msgspec.structs.replace(CRASH, machine=each), 1_000_001.0) for each in (None, calm, loaded, full)]
    assert ["\nMachine " in story for story in stories] == [False, False, True, True]
    assert "\nMachine load 4.1 on 2 cores, 8.0 GiB of 16.0 GiB free\n" in stories[2]
    assert "\nMachine load 1 on 1 core, 1.0 GiB of 16.0 GiB free\n" in stories[3]
    grown = msgspec.structs.replace(CRASH, cause=ExitCause.MEMORY, machine=calm)
    assert "\nMachine load 0.5 on 2 cores, 8.0 GiB of 16.0 GiB free\n" in tell(grown, 1_000_001.0)


def test_what_the_machine_is_like_is_asked_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    found = look()
    assert found is not None
    assert 0 < found.free < found.memory
    assert found.cores >= 1

    def no_descriptors() -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("psutil.virtual_memory", no_descriptors)
    assert look() is None


def test_on_a_terminal_no_line_is_wider_than_that() -> None:
    wide = msgspec.structs.replace(CRASH, text="it " + "waited " * 30, tail=("x" * 90, "    indented " + "y " * 60))
    for columns in (30, 80):
        lines = tell(wide, 1_000_181.0, status(WorkerState.READY, 123, 7), paper=Paper(columns)).splitlines()
        assert max(map(width, lines)) <= columns
        assert "        x" in "\n".join(lines)
    assert "\x1b[1;31mcounter-2 ended with status 1, 3 min ago\x1b[0m" in tell(
        CRASH, 1_000_181.0, paper=Paper(80, True)
    )


def test_of_a_hang_the_frames_of_its_own_code_are_shown() -> None:
    assert [frame.text for frame in without_machinery(HANG)] == [
        "Main thread, most recent call first:",
        '  File "/usr/lib/python3.11/threading.py", line 9 in wait',
        '  File "/shop/site-packages/lib.py", line 8 in get',
        '  File "/shop/shop.py", line 7 in run',
        "  ... and 3 more, of Python and meshvisor",
        "",
        "Thread 1, most recent call first:",
        '  File "/usr/lib/python3.11/queue.py", line 9 in get',
        "  ... and 3 more, of Python and meshvisor",
    ]
    assert without_machinery("") == []


def test_a_traceback_that_names_no_place_says_nothing_new() -> None:
    story = tell(msgspec.structs.replace(CRASH, traceback="KeyError: 'a'\n", tail=("KeyError: 'a'",)), 1_000_181.0)
    assert "Where" not in story
    assert "Output" not in story


def test_of_output_that_begins_within_the_traceback_what_is_no_traceback_is_left() -> None:
    story = tell(msgspec.structs.replace(CRASH, tail=CRASH.tail[3:]), 1_000_181.0)
    assert "Output  goodbye\n" in story


def test_of_a_very_long_line_of_output_the_beginning_is_enough() -> None:
    story = tell(msgspec.structs.replace(CRASH, tail=("x" * 500, "y" * 20_500)), 1_000_181.0)
    assert f"Output  {'x' * 500}\n        {'y' * 500}... (20,000 more characters; see supervise logs)\n" in story


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"cause": ExitCause.HUNG}, "a hung, and was killed, 1.0 s ago"),
        ({"cause": ExitCause.FROZEN}, "a was frozen, and was killed, 1.0 s ago"),
        ({"cause": ExitCause.OOM}, "a was killed by the kernel, which had run out of memory, 1.0 s ago"),
        ({"cause": ExitCause.MEMORY}, "a used too much memory, and was ended, 1.0 s ago"),
        ({"cause": ExitCause.START_TIMEOUT}, "a did not become ready in time, and was killed, 1.0 s ago"),
        ({"cause": ExitCause.EXITED, "code": 3}, "a ended with status 3, 1.0 s ago"),
        ({"cause": ExitCause.EXITED, "text": "no such program"}, "a could not start, 1.0 s ago"),
        ({"cause": ExitCause.EXITED, "text": "no such program"}, "Why     no such program\n"),
        (
            {"cause": ExitCause.HUNG, "traceback": HANG},
            "Hint    what keeps its event loop from turning is at the top of",
        ),
        ({"cause": ExitCause.OOM}, "Hint    with a memory_soft it is restarted"),
        ({"cause": ExitCause.FROZEN}, 'Hint    with hang_timeout = "off"'),
        ({"cause": ExitCause.START_TIMEOUT}, "Hint    start_timeout says how long"),
        ({"signal": "SIGSEGV"}, "a was killed by SIGSEGV, 1.0 s ago"),
        ({"signal": "SIGSEGV"}, "Why     it touched memory that is not its own"),
        ({"text": "two\nlines"}, "Why     two\n        lines\nLife    "),
        ({"next": Next.RESTART, "delay": 0.0}, "Then    it was started again at once\n"),
        ({"next": Next.PARKED, "delay": 30.0, "next_try": 40.0}, "tried again after 30.0 s, that is in 29.0 s\n"),
        ({"next": Next.PARKED, "delay": 30.0, "next_try": 9.0}, "it was parked, to be tried again after 30.0 s\n"),
        ({"next": Next.STOPPED}, "Then    it was not started again\n"),
        ({"next": Next.MESH_STOP}, "Then    it was one too many, and the mesh was stopped\n"),
        ({"next": Next.FAILED}, "Then    it has failed, and was not started again\n"),
    ],
)
def test_every_cause_and_every_consequence_has_its_words(facts: dict[str, object], expected: str) -> None:
    plain = Incident(at=10.0, slot="a", incarnation=1, cause=ExitCause.SIGNALED, signal=None)
    assert expected in tell(msgspec.structs.replace(plain, **facts), 11.0)


def test_while_it_waits_the_story_says_how_long() -> None:
    told = tell(CRASH, 1_000_000.5, status(WorkerState.BACKOFF))
    assert "Then    it is started again in 1.0 s (1.5 s after its end)\nNow     it waits for its next start\n" in told
    assert "it was started again after 1.5 s" in tell(CRASH, 1_000_000.5, status(WorkerState.READY, 9, 5))


@pytest.mark.parametrize(
    ("present", "now"),
    [
        (status(WorkerState.STARTING), "it waits for what it depends on, or for its process"),
        (status(WorkerState.PARKED, next_try=3.0), "it is parked, and is tried again in 3.0 s"),
        (status(WorkerState.FAILED), "it is failed, without a process"),
        (status(WorkerState.SUSPECT, 9, 4), "it is suspect (incarnation 4, process 9, up 3 min)"),
    ],
)
def test_a_slot_is_what_it_is_also_without_an_incident(present: WorkerStatus, now: str) -> None:
    assert tell(CRASH, 1_000_000.0, present).endswith(f"Now     {now}\n")
    assert no_incident("counter-2", present) == f"counter-2 has had no incident\n\nNow     {now}\n"


def test_that_nothing_has_happened_is_said() -> None:
    assert (no_incident(None), no_incident("a")) == ("there has been no incident\n", "a has had no incident\n")


def test_the_error_of_a_traceback_is_its_last_line_and_that_of_a_group_the_last_of_its_errors() -> None:
    def text(error: Exception) -> str:
        return "".join(traceback.format_exception(error))

    group = ExceptionGroup("two", [KeyError("one"), ExceptionGroup("inner", [ValueError("the other")])])
    assert [error_of(one) for one in (text(ValueError("bad")), text(group), "")] == [
        "ValueError: bad",
        "ValueError: the other",
        "",
    ]
