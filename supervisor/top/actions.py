"""What can be done to a slot by a key, and how what becomes of it is told. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ...shared.control.requests import Accepted, Answer, Change, Done, Refused, Restart, Start, Step, Stop
from ..outcome import sentence

YES = ("y", "Y")


@dataclass(frozen=True, slots=True)
class Action:
    """Something to ask the supervisor for; with a ``doubt``, that is to be answered with y before."""

    change: Change
    begun: str
    doubt: str = ""


def action_of(key: object, slot: str) -> Action | None:
    """Return what a key does to ``slot``; None: nothing."""
    match key:
        case "r":
            return Action(Restart((slot,)), f"restarting {slot} ...")
        case "s":
            return Action(Stop((slot,)), f"stopping {slot} ...", f"stop {slot}? (y/n)")
        case "S":
            return Action(Start((slot,)), f"starting {slot} ...")
        case _:
            return None


def told(action: Action, answer: Answer) -> tuple[str, bool]:
    """Return what to tell of an answer, and whether more are to come; a supervisor tells each step."""
    match answer:
        case Accepted():
            return action.begun, True
        case Step():
            return sentence(answer), True
        case Done(steps=steps):
            return "; ".join(map(sentence, steps)), False
        case Refused(text=text):
            return text, False
        case _:
            return f"{action.begun} was answered with something else", False
