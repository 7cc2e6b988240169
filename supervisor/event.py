"""What happens in a mesh, as facts for programs and as sentences for people."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

# What the event before it has already told: a view that shows one line per incident leaves these out.
_MINOR = frozenset(
    {
        "slot-starting",
        "slot-backoff",
        "slot-stopping",
        "slot-stopped",
        "slot-failed",
        "slot-parked",
        "slot-candidate",
        "zygote-started",
    }
)

_MOST_FILES = 3


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. ``event`` is a past tense in kebab-case, ``at`` Unix seconds for people to read.

    ``slot`` is empty for what concerns the mesh as a whole; then ``incarnation`` is 0. ``details`` holds the other
    facts, of JSON's types, durations in seconds. By event (a ``?`` marks what is not always there):

        mesh-started      pid, slots
        mesh-ready        duration
        mesh-stopping     reason
        mesh-stopped      status
        limit-exceeded    max_restarts, window
        leftovers-killed  pids
        slot-starting     pid
        slot-candidate    pid, duration (until it was prepared to take the place of the process that is in the slot)
        slot-candidate-failed  text (why nothing changes), traceback?, tail (its last lines)
        slot-ready        pid, duration (since the start), after? (since the death of the incarnation before),
                          replacement? (that one has handed over to it)
        slot-exited       pid?, cause, code, signal, uptime, ready (had it been), delay (None: not started again),
                          next (restart, stopped, failed or parked), text? (why), traceback?, tail (its last lines),
                          shortage? (it was not even made, for want of means: so many times in a row),
                          handover? (a candidate takes its place), trial? (it was one, and did not become ready)
        slot-hung         pid, text (how that shows); it is killed once it has said where its threads are
        slot-backoff      delay
        slot-parked       delay (until it is tried again)
        slot-stopping     pid
        slot-stopped, slot-failed
        zygote-started    cwd, pid, duration, skipped (module: error)
        zygote-died       cwd, pid?, reason, tail (its last lines), delay (until the next one)
        zygote-unfit      cwd, pid, reason
        code-changed      files, runs (whether what starts from now on runs it; else it takes a restart by hand)
        guardian-died     pid?, reason (why there is none at all; else empty), delay
        log-lost          file, text
        log-restored      file, count (of the lines lost)
        dropped           count
    """

    at: float
    event: str
    slot: str = ""
    incarnation: int = 0
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_minor(self) -> bool:
        """Whether the events around this one tell the same story without it."""
        details = self.details
        is_smooth = bool(details.get("handover")) and details["code"] == 0
        return self.event in _MINOR or details.get("shortage", 0) > 1 or is_smooth


_encoder = msgspec.json.Encoder(enc_hook=str)


def encode_facts(facts: Mapping[str, Any]) -> bytes:
    """Return ``facts``, which may have details of events in them, as JSON.

    What JSON has no type for becomes a text; where bytes of a program, or of a file's name, are no UTF-8, there are
    question marks.
    """
    try:
        return _encoder.encode(facts)
    except UnicodeEncodeError:
        text = json.dumps(facts, ensure_ascii=False, default=str)
        return _encoder.encode(json.loads(text.encode(errors="replace")))


def describe(event: Event) -> str:
    """Return ``event`` as one line for a person, without a full stop and without time stamp."""
    sentence = _SENTENCES.get(event.event)
    return sentence(event) if sentence else f"{event.slot} {event.event}".strip()


def duration(seconds: float) -> str:
    """Return ``seconds`` as a person would say it: ``84 ms``, ``1.2 s``, ``5 min``."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _mesh_started(event: Event) -> str:
    return f"starting {_count(event.details['slots'], 'slot')} (supervisor is process {event.details['pid']})"


def _mesh_ready(event: Event) -> str:
    return f"the mesh is ready, {duration(event.details['duration'])} after its start"


def _mesh_stopping(event: Event) -> str:
    return f"stopping the mesh: {event.details['reason']}"


def _mesh_stopped(event: Event) -> str:
    return f"the mesh has stopped (exit status {event.details['status']})"


def _limit_exceeded(event: Event) -> str:
    count = _count(event.details["max_restarts"], "restart")
    return f"more than {count} within {event.details['window']:g} s: giving up"


def _leftovers_killed(event: Event) -> str:
    pids = event.details["pids"]
    noun = "process" if len(pids) == 1 else "processes"
    return f"killed what an earlier run had left behind: {noun} {', '.join(map(str, pids))}"


def _slot_starting(event: Event) -> str:
    return f"{event.slot} is starting (incarnation {event.incarnation}, process {event.details['pid']})"


def _slot_ready(event: Event) -> str:
    after = event.details.get("after")
    if after is None:
        return f"{event.slot} is ready ({duration(event.details['duration'])} after its start)"
    if event.details.get("replacement"):
        return f"{event.slot} is replaced (incarnation {event.incarnation}, ready {duration(after)} after the handover)"
    return f"{event.slot} is ready again (incarnation {event.incarnation}, {duration(after)} after the death)"


def _slot_candidate(event: Event) -> str:
    pid, took = event.details["pid"], duration(event.details["duration"])
    return f"{event.slot} is about to be replaced by process {pid}, which took {took} to prepare"


def _slot_exited(event: Event) -> str:
    return f"{event.slot} {how_it_ended(event)}{_consequence(event)}"


def how_it_ended(event: Event) -> str:
    """Return the end that a ``slot-exited`` tells of, in words that go on from the slot's name."""
    details = event.details
    text, uptime = details.get("text", ""), duration(details["uptime"])
    if details["cause"] == "start-timeout":
        return f"was not ready within {uptime} and was killed" + (f": {text}" if text else "")
    if details["cause"] == "stopped":
        return f"stopped{_how_it_stopped(details)}"
    if (fault := _FAULTS.get(details["cause"])) is not None:
        is_told = "traceback" in details  # by the event before
        return f"{fault} after {uptime}" + (f": {text}" if text and not is_told else "")
    if details["signal"] is not None:
        return f"was killed by {details['signal']} after {uptime}" + (f": {text}" if text else "")
    code = details["code"]
    if text and not details["ready"]:
        return f"could not start: {text}" + ("" if code is None else f" (exit status {code})")
    status = "" if code is None else f" with status {code}"
    return f"ended{status} after {uptime}" + (f": {text}" if text else "")


_FAULTS = {
    "hung": "hung and was killed",
    "frozen": "was frozen and was killed",
    "memory": "grew too large and was ended",
    "oom": "was killed by the kernel, out of memory,",
}


def _how_it_stopped(details: Mapping[str, Any]) -> str:
    if details["signal"] is not None:
        return f" (by {details['signal']})"
    return f" (with status {details['code']})" if details["code"] else ""


def _consequence(event: Event) -> str:
    delay = event.details["delay"]
    if event.details.get("trial"):
        return "; going back to what was there before"
    if event.details.get("handover"):
        return "; its successor begins"
    if delay is None:
        if event.details["cause"] == "stopped" or event.details["next"] == "stopped":
            return ""
        return "; not starting it again"
    if event.details["next"] == "parked":
        return f"; it has failed too often and is parked, next try in {duration(delay)}"
    if event.details.get("shortage"):
        return "; trying until there is enough"
    return "; starting again at once" if delay < 0.0005 else f"; starting again in {duration(delay)}"


def _slot_hung(event: Event) -> str:
    return f"{event.slot} hangs: {event.details['text']}"


def _slot_backoff(event: Event) -> str:
    return f"{event.slot} waits {duration(event.details['delay'])} before its next start"


def _slot_parked(event: Event) -> str:
    return f"{event.slot} is parked and is tried again in {duration(event.details['delay'])}"


def _log_lost(event: Event) -> str:
    return f"log lines are being lost, {event.details['file']} cannot be written: {event.details['text']}"


def _log_restored(event: Event) -> str:
    return f"{event.details['file']} can be written again; {_count(event.details['count'], 'line')} lost meanwhile"


def _zygote_started(event: Event) -> str:
    skipped = "".join(f"; it could not import {module}: {error}" for module, error in event.details["skipped"].items())
    return f"a zygote for {event.details['cwd']} is ready ({duration(event.details['duration'])}){skipped}"


def _zygote_died(event: Event) -> str:
    details = event.details
    last = details["tail"].rpartition("\n")[2]
    return f"the zygote for {details['cwd']} is gone: {details['reason']}" + (f" ({last})" if last else "")


def _zygote_unfit(event: Event) -> str:
    return f"workers in {event.details['cwd']} are started anew each time, not forked: {event.details['reason']}"


def _code_changed(event: Event) -> str:
    names = [file.rpartition("/")[2] for file in event.details["files"]]
    listed = ", ".join(names[:_MOST_FILES]) + (f" and {len(names) - _MOST_FILES} more" if names[_MOST_FILES:] else "")
    then = "what starts from now on runs it" if event.details["runs"] else "workers run the old one until a restart"
    return f"the code on disk has changed ({listed}); {then}"


def _guardian_died(event: Event) -> str:
    reason, delay = event.details.get("reason"), duration(event.details["delay"])
    if reason:
        return f"there is no guardian, and none can be started now: {reason}; next try in {delay}"
    return f"the guardian is gone; another one starts in {delay}"


def _dropped(event: Event) -> str:
    return f"{_count(event.details['count'], 'event')} dropped: this reader is too slow"


_SENTENCES: dict[str, Callable[[Event], str]] = {
    "mesh-started": _mesh_started,
    "mesh-ready": _mesh_ready,
    "mesh-stopping": _mesh_stopping,
    "mesh-stopped": _mesh_stopped,
    "limit-exceeded": _limit_exceeded,
    "leftovers-killed": _leftovers_killed,
    "slot-starting": _slot_starting,
    "slot-candidate": _slot_candidate,
    "slot-candidate-failed": lambda event: f"{event.slot} stays as it is: {event.details['text']}",
    "slot-ready": _slot_ready,
    "slot-exited": _slot_exited,
    "slot-hung": _slot_hung,
    "slot-backoff": _slot_backoff,
    "slot-parked": _slot_parked,
    "slot-stopping": lambda event: f"{event.slot} is stopping",
    "slot-stopped": lambda event: f"{event.slot} is stopped",
    "slot-failed": lambda event: f"{event.slot} has failed and is not started again",
    "zygote-started": _zygote_started,
    "zygote-died": _zygote_died,
    "zygote-unfit": _zygote_unfit,
    "code-changed": _code_changed,
    "guardian-died": _guardian_died,
    "log-lost": _log_lost,
    "log-restored": _log_restored,
    "dropped": _dropped,
}
