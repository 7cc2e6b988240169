"""Decisions about more than one slot."""

from pathlib import Path
from typing import Any

import pytest

from meshvisor.shared.config.model import RestartPolicy, StrategyName, WorkerConfig
from meshvisor.supervisor.child import Child, Exit
from meshvisor.supervisor.strategy import (
    Verdict,
    comes_back,
    concerned,
    counts,
    is_taken_down,
    may_start,
    verdict,
)

NEVER = RestartPolicy.NEVER


def config(name: str = "a", **options: Any) -> WorkerConfig:
    return WorkerConfig(name, Path("/"), command=("a",), **options)


def child(state: str, **options: Any) -> Child:
    one = Child(config(**options), lambda: 0.0)
    if state != "waiting":
        one.release(0.0)
    if state in ("ready", "stopped", "failed"):
        one.become_ready(1.0)
    if state in ("stopped", "failed"):
        one.end(Exit(code=0 if state == "stopped" else 1), 2.0, draining=True)
    return one


def slots(*states: str, significant: tuple[str, ...] = ()) -> list[tuple[WorkerConfig, Child]]:
    return [
        *((config(), child(state)) for state in states),
        *((config("s", significant=True), child(state)) for state in significant),
    ]


@pytest.mark.parametrize(
    ("states", "may"),
    [
        (["ready", "ready"], True),
        (["ready", "starting"], False),
        (["ready", "waiting"], False),
        (["stopped", "failed"], True),
        ([], True),
    ],
)
def test_a_slot_starts_when_every_dependency_is_ready_or_over(states: list[str], may: bool) -> None:
    assert may_start(config(depends_on=("db",)), {"db": [child(state) for state in states]}) is may


@pytest.mark.parametrize(
    ("states", "outcome"),
    [
        (["stopped", "stopped"], 0),
        (["stopped", "failed"], 1),
        (["stopped", "ready"], None),
        (["failed", "starting"], None),
        ([], 0),
    ],
)
def test_a_mesh_is_over_when_every_slot_is(states: list[str], outcome: int | None) -> None:
    found = verdict(slots(*states))
    assert (found.status if found else None) == outcome


@pytest.mark.parametrize(
    ("states", "outcome"),
    [
        (("stopped", "stopped"), Verdict(0, "every significant worker has ended well")),
        (("stopped", "ready"), None),
        (("ready", "failed"), Verdict(1, "a significant worker failed")),
    ],
)
def test_significant_slots_end_the_mesh_whatever_the_others_do(states: tuple[str, ...], outcome: Verdict) -> None:
    """OTP's auto_shutdown (reliability.md 4.1)."""
    assert verdict(slots("ready", "failed", significant=states)) == outcome


def test_only_ends_that_ask_for_a_restart_count() -> None:
    """OTP (reliability.md 4.1): the intensity limits restarts, and a failed attempt is another one."""
    one = child("ready", restart=NEVER)
    assert not counts(one.end(Exit(code=1), 2.0), [one])
    one = child("ready")
    assert counts(one.end(Exit(code=1), 2.0), [one])
    one.tick(2.0)
    one.release(2.0)
    assert counts(one.end(Exit(failure="Too many open files"), 2.0), [one])


def test_what_an_operator_asked_for_does_not_count() -> None:
    """supervisors.md B 19: a limit that counts manual restarts."""
    one = child("ready")
    one.restart(2.0)
    assert not counts(one.end(Exit(code=1), 3.0), [one])


def test_a_limit_that_only_parks_the_slot_itself_counts_every_failed_start() -> None:
    assert counts(failed_start(), [child("ready")], is_park=True)


ORDER = ("db", "cache-0", "cache-1", "web")


@pytest.mark.parametrize(
    ("strategy", "failed", "others"),
    [
        (StrategyName.ONE_FOR_ONE, "cache-0", ()),
        (StrategyName.ONE_FOR_ALL, "cache-0", ("db", "cache-1", "web")),
        (StrategyName.REST_FOR_ONE, "cache-0", ("cache-1", "web")),
        (StrategyName.REST_FOR_ONE, "db", ("cache-0", "cache-1", "web")),
        (StrategyName.REST_FOR_ONE, "web", ()),
    ],
)
def test_the_strategy_says_who_restarts_with_a_slot(
    strategy: StrategyName, failed: str, others: tuple[str, ...]
) -> None:
    """OTP (reliability.md 4.1): all, or the failed one's successors."""
    assert concerned(strategy, failed, ORDER) == others


@pytest.mark.parametrize(
    ("state", "is_stopped"),
    [("waiting", False), ("starting", True), ("ready", True), ("stopped", False), ("failed", False)],
)
def test_a_strategy_stops_what_runs_and_leaves_the_rest_alone(state: str, is_stopped: bool) -> None:
    assert is_taken_down(child(state)) is is_stopped


def test_a_sibling_that_is_never_restarted_does_not_come_back() -> None:
    """OTP (reliability.md 4.1): the spec of a temporary child is forgotten when it is terminated."""
    assert comes_back(child("ready"))
    assert comes_back(child("ready", restart=RestartPolicy.ON_FAILURE))
    assert not comes_back(child("ready", restart=NEVER))


def test_what_an_operator_stopped_has_not_ended() -> None:
    """OTP (reliability.md 4.1): auto_shutdown only by a child's own exit, never by terminate_child."""
    held = child("ready")
    held.hold(2.0)
    held.end(Exit(code=0), 3.0)
    assert verdict([(config(), held)]) is None
    assert verdict([(config(significant=True), held)]) is None
    assert verdict([(config(significant=True), held), (config(significant=True), child("failed"))]) is not None


def failed_start() -> Any:
    one = child("starting")
    return one.end(Exit(code=1), 0.1)


@pytest.mark.parametrize(
    ("others", "counted"),
    [(["ready"], False), (["starting"], False), (["waiting"], True), (["failed"], True), ([], True)],
)
def test_failed_starts_of_what_was_never_ready_count_while_the_mesh_has_nothing_better(
    others: list[str], counted: bool
) -> None:
    assert counts(failed_start(), [child(state) for state in others]) is counted


def test_a_slot_that_is_in_its_second_start_is_no_hope_for_the_mesh() -> None:
    other = child("starting")
    other.end(Exit(code=1), 0.1)
    other.tick(0.1)
    other.release(0.1)
    assert counts(failed_start(), [other])
