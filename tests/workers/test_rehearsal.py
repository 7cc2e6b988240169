"""The rehearsal is the real play, and leaves nothing behind."""

import asyncio
import gc
import logging
import os
import threading

import pytest

from meshvisor.workers import rehearsal
from meshvisor.workers.testing import run_virtual


def test_the_rehearsal_comes_to_its_end() -> None:
    async def main() -> None:
        await rehearsal._play()
        await asyncio.sleep(1.0)
        assert len(asyncio.all_tasks()) == 1

    run_virtual(main())


def test_nothing_of_a_rehearsal_is_left(capfd: pytest.CaptureFixture[str]) -> None:
    gc.collect()  # what earlier tests have left to it
    before = sorted(os.listdir("/proc/self/fd")), threading.active_count(), logging.root.manager.disable
    rehearsal.rehearse()
    assert (sorted(os.listdir("/proc/self/fd")), threading.active_count(), logging.root.manager.disable) == before
    assert capfd.readouterr() == ("", "")


def test_a_rehearsal_that_fails_is_nobodys_business(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rehearsal, "_WITHIN", 0.0)
    rehearsal.rehearse(asyncio.SelectorEventLoop)
    assert capfd.readouterr() == ("", "")
