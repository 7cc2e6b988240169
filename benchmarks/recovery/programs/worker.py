"""What the peers supervise: says that it runs, and waits. ``worker.py STAMPS [imports] [beat PORT]``."""

import os
import sys
import time

if "imports" in sys.argv:
    import asyncio  # noqa: F401

    import msgspec  # noqa: F401
    import psutil  # noqa: F401
    import zmq  # noqa: F401

stamps = os.open(sys.argv[1], os.O_WRONLY)
os.write(stamps, b"%d %d\n" % (os.getpid(), time.monotonic_ns()))
if "beat" in sys.argv:
    import socket

    beats = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    while True:
        beats.sendto(b"%d;%f" % (os.getpid(), time.time()), ("127.0.0.1", int(sys.argv[-1])))
        time.sleep(0.05)
while True:
    time.sleep(1000)
