"""Whatever arrives, the rules of every decoder hold; and a decoder that breaks one is found out."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.fuzz.catalogue import TARGETS
from tests.fuzz.mutation import bytewise
from tests.fuzz.target import Broken, Target

from meshvisor.shared.config.lines import LineIndex
from meshvisor.shared.control import requests
from meshvisor.shared.core.frames import FrameReader
from meshvisor.shared.core.handshake import AcceptingSide
from meshvisor.shared.core.session import Lane
from meshvisor.shared.memory import entry as entries
from meshvisor.supervisor import leftovers
from meshvisor.supervisor.logs import LineCutter
from meshvisor.supervisor.notifications import NotifySocket

EXAMPLES = 60


def mutated(target: Target, seed: bytes, number: int, times: int) -> bytes:
    """Return ``seed`` after so many changes, the ones that belong to ``number``."""
    dice = random.Random(number)
    for _ in range(times):
        change = target.mutate if target.mutate is not None and dice.random() < 0.8 else bytewise
        seed = change(seed, dice)[: target.longest]
    return seed


def inputs(target: Target) -> st.SearchStrategy[bytes]:
    """Draw what ``target`` may get: noise, and valid inputs that were changed."""
    changed = st.builds(
        mutated, st.just(target), st.sampled_from(list(target.seeds())), st.integers(0), st.integers(1, 5)
    )
    return st.one_of(st.binary(max_size=300), changed, changed)


@pytest.mark.parametrize("name", TARGETS)
def test_valid_input_keeps_the_rules(name: str) -> None:
    for seed in TARGETS[name].seeds():
        assert len(seed) <= TARGETS[name].longest, "libFuzzer would cut it off"
        TARGETS[name].run(seed)


@pytest.mark.parametrize("name", TARGETS)
def test_whatever_arrives_the_rules_hold(name: str) -> None:
    target = TARGETS[name]

    @settings(max_examples=EXAMPLES, phases=[Phase.generate, Phase.shrink], suppress_health_check=list(HealthCheck))
    @given(inputs(target))
    def check(data: bytes) -> None:
        target.run(data)

    check()


@pytest.mark.parametrize("name", TARGETS)
def test_a_change_is_the_same_for_the_same_dice(name: str) -> None:
    target = TARGETS[name]
    for number, seed in enumerate(target.seeds()):
        assert mutated(target, seed, number, 3) == mutated(target, seed, number, 3)


# Decoders that are broken on purpose: where, by what name, and what takes its place.


def _deaf(self: FrameReader, data: bytes) -> list[Any]:
    return list(FRAMES_RECEIVED(self, data[:-1]))


def _credulous(self: Lane, number: int) -> bool:
    self.acknowledged = max(number, self.acknowledged)
    return True


FRAMES_RECEIVED = FrameReader.receive
SABOTAGE: dict[str, tuple[str, object, str, object]] = {
    "a reader that loses bytes": ("frames", FrameReader, "receive", _deaf),
    "a door that is open to anybody": ("handshake", AcceptingSide, "_verify", lambda *_: True),
    "a lane that believes every acknowledgement": ("link", Lane, "acknowledge", _credulous),
    "faults on lines that are not there": ("mesh-toml", LineIndex, "line", lambda *_: 1_000_000),
    "nesting that nobody is prepared for": ("requests", requests, "MALFORMED", (msgspec.MsgspecError,)),
    "an entry of the table that anybody can make": (
        "blacklist",
        entries,
        "decode",
        lambda payload, now: payload,
    ),
    "a last line that is lost": ("lines", LineCutter, "finish", lambda self: []),
    "a number that is none": ("mark", leftovers, "_NUMBER", re.compile(r"\d+")),
    "a command that is always ready": ("notify", NotifySocket, "_take", lambda self, data: self.on_ready()),
}


def tries(target: Target) -> Iterator[bytes]:
    yield from target.seeds()
    for number in range(2000):
        for seed in target.seeds():
            yield mutated(target, seed, number, 2)


@pytest.mark.parametrize("what", SABOTAGE)
def test_a_decoder_that_is_broken_is_found_out(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, where, attribute, instead = SABOTAGE[what]
    monkeypatch.setattr(where, attribute, instead)
    assert breaks(TARGETS[name].run, tries(TARGETS[name]))


def breaks(run: Callable[[bytes], None], data: Iterator[bytes]) -> bool:
    """Return whether any of ``data`` makes ``run`` raise."""
    for one in data:
        try:
            run(one)
        except (Broken, AttributeError, RecursionError, ValueError):
            return True
    return False
