"""A worker without a mesh: speaks the lifeline's protocol and behaves as its settings say (``do``).

serve       becomes ready, prints the news of the roster, ends when asked to
stubborn    becomes ready and ignores every request to stop
deaf        becomes ready and never reads its lifeline again
idle        never becomes ready
broken      cannot import its class
garbled     becomes ready and sends what is no message
mute        becomes ready, closes its lifeline and lives on
"""

import ctypes
import os
import signal
import socket
import sys
from pathlib import Path
from typing import NoReturn

from meshvisor.shared.control.lifeline import (
    Assignment,
    Begin,
    Failure,
    FromWorker,
    HandOver,
    Links,
    Listening,
    Prepared,
    Ready,
    Reserve,
    RosterNews,
    Stop,
    ToWorker,
    encode,
    worker_end,
)


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class FakeWorker:
    def __init__(self, descriptor: int) -> None:
        self.lifeline = socket.socket(fileno=descriptor)
        self.reader = worker_end()
        self.early: list[ToWorker] = []
        self.listen = ""
        self.assignment = self.read_assignment()
        self.told: set[str] = set()
        if self.assignment.is_candidate:
            if self.assignment.settings["do"] == "broken":
                self.fail()
            self.send(Prepared())
            while not isinstance(self.read(), Begin):
                pass

    def read(self) -> ToWorker:
        while not self.early:
            if not (data := self.lifeline.recv(65_536)):
                os._exit(9)
            self.early = self.reader.receive(data)
        return self.early.pop(0)

    def read_assignment(self) -> Assignment:
        while not isinstance(message := self.read(), Assignment):
            if isinstance(message, Reserve):
                self.listen = message.listen[0]
        return message

    def fail(self) -> NoReturn:
        text = "Traceback (most recent call last):\nModuleNotFoundError: No module named 'fake'\n"
        sys.stderr.write(text)
        self.send(Failure("import", text))
        sys.exit(1)

    def send(self, message: FromWorker) -> None:
        self.lifeline.sendall(encode(message))

    def become_ready(self) -> None:
        endpoint = self.listen or self.assignment.listen[0]
        if endpoint.startswith("unix:"):
            Path(endpoint.removeprefix("unix:")).touch()
        self.send(Listening((endpoint,)))
        self.send(Ready())
        self.send(Links(3, 4))
        say(f"ready {self.assignment.name} {self.assignment.incarnation} {self.assignment.epoch} {os.getcwd()}")

    def serve(self) -> None:
        while message := self.read():
            if isinstance(message, Stop | HandOver) and self.assignment.settings["do"] != "stubborn":
                sys.exit(0)
            if isinstance(message, RosterNews):
                for record in message.records:
                    say(f"news {record.name} {record.status} {record.incarnation} {record.why}".rstrip())


def main() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    worker = FakeWorker(int(sys.argv[1]))
    do = worker.assignment.settings["do"]
    if do == "broken":
        worker.fail()
    if do == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if do != "idle":
        worker.become_ready()
    if do == "garbled":
        worker.lifeline.sendall(b"\0\0\0\1\0")
    if do == "mute":
        worker.lifeline.close()
    if do in ("deaf", "garbled", "mute"):
        signal.pause()
    worker.serve()


if __name__ == "__main__":
    main()
