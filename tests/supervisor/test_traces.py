"""The tracebacks of a worker, as a person reads them."""

import os
import signal
import subprocess
import sys

from meshvisor.supervisor.traces import clean, clear_traces, make_traces, read_traces, request_traces

HANGS = """
import os, sys, threading
from meshvisor.workers.traces import register

register(int(sys.argv[1]))
threading.Thread(target=threading.Event().wait, daemon=True).start()
lock = threading.Lock()
lock.acquire()

def waits_for_itself():
    os.write(1, b"ready")
    lock.acquire()

waits_for_itself()
"""


def test_a_worker_that_hangs_says_where_each_thread_is() -> None:
    descriptor = make_traces()
    command = [sys.executable, "-c", HANGS, str(descriptor)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=[descriptor]) as process:
        assert process.stdout is not None
        assert process.stdout.read(5) == b"ready"
        pidfd = os.pidfd_open(process.pid)
        text = ""
        while "line 12" not in text:  # it says that it is ready just before it waits
            clear_traces(descriptor)
            request_traces(pidfd)
            while "<module>" not in (text := read_traces(descriptor)):
                pass
        process.kill()
        process.wait()
        request_traces(pidfd)  # too late: no effect
        os.close(pidfd)
    assert process.returncode == -signal.SIGKILL
    text = read_traces(descriptor)
    os.close(descriptor)
    main, other = text.split("\n\n")
    assert main.startswith('Main thread, most recent call first:\n  File "<string>", line 12 in waits_for_itself\n')
    assert other.startswith("Thread 2, most recent call first:\n")
    assert "0x" not in text


def test_what_is_not_for_a_terminal_is_taken_out_and_names_are_kept() -> None:
    dump = (
        'Thread 0x00007f01 [loader] (most recent call first):\n  File "\x1b[31m/a\x07.py", line 1 in f\n\n'
        'Current thread 0x00007f02 (most recent call first):\n  File "/ü.py", line 2 in <module>\n'
    )
    assert clean(dump) == (
        'Main thread, most recent call first:\n  File "/ü.py", line 2 in <module>\n\n'
        'Thread 2 (loader), most recent call first:\n  File "[31m/a.py", line 1 in f\n'
    )


def test_an_empty_or_foreign_dump_is_no_text() -> None:
    descriptor = make_traces()
    assert read_traces(descriptor) == ""
    os.write(descriptor, b"\xff\x00 whatever\n")
    assert read_traces(descriptor) == ""
    os.close(descriptor)
    assert read_traces(descriptor) == ""
