"""``python -m tests.fuzz.process TARGET [LIBFUZZER'S ARGUMENTS]``: one process of a campaign, under coverage.

Only the modules of meshvisor are instrumented. What takes too much CPU time is a finding, whatever the clock says: the
machine may be busy with something else.
"""

from __future__ import annotations

import random
import sys
import time
from typing import Any

import atheris


def main() -> None:
    """Fuzz until libFuzzer ends it."""
    with atheris.instrument_imports(include=["meshvisor"]):
        from tests.fuzz.catalogue import TARGETS
    from tests.fuzz.mutation import bytewise

    target = TARGETS[sys.argv.pop(1)]
    own = target.mutate or bytewise

    def run(data: bytes) -> None:
        began = time.process_time()
        target.run(data)
        took = time.process_time() - began
        if took > target.seconds:
            raise AssertionError(f"{took:.1f} s of CPU time for {len(data)} bytes")

    def mutate(data: bytes, longest: int, seed: int) -> bytes:
        dice = random.Random(seed)
        if dice.random() < 0.4:
            return bytes(atheris.Mutate(data, longest))
        return own(data, dice)[:longest]

    options: dict[str, Any] = {"custom_mutator": mutate}
    atheris.Setup(sys.argv, run, **options)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
