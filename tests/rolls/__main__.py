"""``python -m tests.rolls --seconds N --rate R``: exit with 1 if a call or a message suffers from a rolling restart."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from meshvisor.shared.config.model import StartMethod, TransportName

from .run import Options, run

_INTERRUPTED = 130


def main() -> int:
    """Run once and print the table; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.rolls",
        description="Roll all workers of a busy mesh again and again: nobody may lose a call or a message.",
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to roll (default: 60)")
    parser.add_argument("--rate", type=float, default=1000.0, help="calls a second, in total (default: 1000)")
    parser.add_argument("--callers", type=int, default=3, help="who make them (default: 3)")
    parser.add_argument("--spawn", action="store_true", help="start each process anew instead of forking it")
    parser.add_argument("--transport", choices=list(TransportName), default=TransportName.UNIX, help="default: unix")
    parser.add_argument("--spares", type=int, default=1, help="how many are kept (default: 1)")
    asked = parser.parse_args()
    method = StartMethod.SPAWN if asked.spawn else StartMethod.ZYGOTE
    with tempfile.TemporaryDirectory(prefix="rolls-") as folder:
        try:
            options = Options(
                asked.seconds,
                asked.rate,
                asked.callers,
                start_method=method,
                transport=TransportName(asked.transport),
                spares=asked.spares,
            )
            outcome = asyncio.run(run(Path(folder), options))
        except KeyboardInterrupt:
            return _INTERRUPTED
    sys.stdout.write(outcome.table())
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    sys.exit(main())
