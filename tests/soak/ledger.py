"""What has become of each message: sessions from the lines of ``application`` in, sentences about faults out. Pure.

A session is what one life of a worker sends to one life of another. Both its ends number its messages from 1, and the
sender counts on from one session to the next: counter minus number, its ``base``, is the same for all messages of a
session and another for each, so that both ends mean the same session without having to name it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

LONGEST = 50
"""Faults that are kept in words; the others are counted."""


class Way(NamedTuple):
    """From one life of a worker to all lives of another."""

    sender: str
    incarnation: int
    target: str


class End(NamedTuple):
    """What the sender was told of the end of one life of the target. ``named`` is -1 if that said goodbye."""

    life: int
    first: int
    last: int
    named: int


@dataclass(slots=True)
class Session:
    """The numbers of the last messages accepted and handled; ``life``: the target's, once one was."""

    base: int
    accepted: int = 0
    delivered: int = 0
    life: int = 0
    due: int = 0


@dataclass(slots=True)
class Faults:
    """What is wrong, in sentences, not more than a person reads; ``told`` is called with each."""

    texts: list[str] = field(default_factory=list)
    count: int = 0
    told: Callable[[str], None] = lambda text: None

    def add(self, text: str) -> None:
        """Count one more, and keep it if there is room."""
        self.count += 1
        self.told(text)
        if len(self.texts) < LONGEST:
            self.texts.append(text)


@dataclass(slots=True)
class Ledger:
    """Follows all sessions; holds those whose ends are both alive, and what was not judged yet.

    ``checks`` counts how often each invariant of reference/reliability.md §7 was looked at.
    """

    faults: Faults
    checks: Counter[int]
    accepted: int = 0
    delivered: int = 0
    reported: int = 0
    """Messages named by a PeerLost."""
    tails: int = 0
    """Reports that named any."""
    _ways: defaultdict[Way, dict[int, Session]] = field(default_factory=lambda: defaultdict(dict))
    _ends: defaultdict[Way, list[End]] = field(default_factory=lambda: defaultdict(list))

    def take(self, words: list[str]) -> bool:
        """Take a line in, and return whether it was about messages."""
        kind, slot, incarnation, peer, *rest = words
        if kind == "sent":
            self._sent(Way(slot, int(incarnation), peer), *map(int, rest))
        elif kind == "got":
            sender, number, counter = map(int, rest)
            self._got(Way(peer, sender, slot), int(incarnation), number, counter)
        elif kind == "damaged":
            self.faults.add(f"2: {slot} got from {peer} what it never sent")
        elif kind in ("lost", "left"):
            life, *tail = map(int, rest)
            first, last, count = tail or (0, 0, -1)
            self._over(Way(slot, int(incarnation), peer), End(life, first, last, count))
        else:
            return False
        return True

    def _sent(self, way: Way, number: int, counter: int) -> None:
        session = self._session(way, counter - number)
        if number != session.accepted + 1:
            self.faults.add(f"3: {_of(way)}: message {number} was accepted after {session.accepted}")
        session.accepted = max(number, session.accepted)
        self.accepted += 1

    def _got(self, way: Way, life: int, number: int, counter: int) -> None:
        session = self._session(way, counter - number)
        self.checks[2] += 1
        self.checks[3] += 1
        self.delivered += 1
        if session.life not in (0, life):
            self.faults.add(f"5: {_of(way)}: message {number} of a session with life {session.life} came to {life}")
        if number <= session.delivered:
            self.faults.add(f"2: {_of(way)}: message {number} came again, after {session.delivered}")
        elif number != session.delivered + 1:
            self.faults.add(f"3: {_of(way)}: message {number} came after {session.delivered}")
        if Way(way.target, life, way.sender) in self._ends and any(
            end.life == way.incarnation for end in self._ends[Way(way.target, life, way.sender)]
        ):
            self.faults.add(f"5: {_of(way)}: message {number} came after the end of its sender was told")
        session.life = life
        session.delivered = max(number, session.delivered)

    def _over(self, way: Way, end: End) -> None:
        if any(end.life == other.life for other in self._ends[way]):
            self.faults.add(f"1: {_of(way)}: the end of life {end.life} was told twice")
        self._ends[way].append(end)
        self.checks[5] += 1

    def _session(self, way: Way, base: int) -> Session:
        sessions = self._ways[way]
        if base not in sessions:
            sessions[base] = Session(base)
        return sessions[base]

    # Judging, when all is calm.

    def mark(self, lives: Mapping[str, int]) -> None:
        """Note what has been accepted by now between those who live, once what is over was settled."""
        for _, session in self._running(lives):
            session.due = session.accepted

    def overdue(self, lives: Mapping[str, int]) -> list[str]:
        """Return what was accepted at the mark and was not handled yet."""
        return [
            f"{_of(way)}: {session.delivered} of {session.due} handled"
            for way, session in self._running(lives)
            if session.delivered < session.due
        ]

    def _running(self, lives: Mapping[str, int]) -> list[tuple[Way, Session]]:
        return [
            (way, sessions[max(sessions)])
            for way, sessions in self._ways.items()
            if sessions and lives.get(way.sender) == way.incarnation and _leads_to(way, sessions[max(sessions)], lives)
        ]

    def settle(self, lives: Mapping[str, int]) -> None:
        """Judge every session of which an end is not among ``lives`` (incarnations by slot), and forget it.

        All that the present lives say of those before them must have been taken in.
        """
        for way in list(self._ways.keys() | self._ends.keys()):
            sessions = sorted(self._ways.pop(way, {}).values(), key=lambda session: session.base)
            ends = self._ends.pop(way, [])
            for session in sessions:
                if session.delivered > session.accepted + 1:  # it may have ended before it could say so of the last one
                    self.faults.add(f"2: {_of(way)}: {session.delivered} handled of {session.accepted} accepted")
            if lives.get(way.sender) == way.incarnation:
                self._keep(way, self._judge(way, sessions, ends), lives)

    def close(self) -> None:
        """Judge what is left when nobody lives any more."""
        self.settle({})

    def _judge(self, way: Way, sessions: list[Session], ends: list[End]) -> list[Session]:
        """Find the session that each end is about, and return those of which no end was told."""
        for end in ends:
            if not end.last and end.named >= 0:
                continue  # nothing had been sent
            of_life = [session for session in sessions if session.life == end.life]
            unheard = [session for session in sessions if not session.life]
            if of_life:
                found = of_life[0]
            elif end.named >= 0 and unheard:
                found = unheard[0]
            elif end.named >= 0:
                self.faults.add(f"4: {_of(way)}: told of {end.last} messages to life {end.life}, and sent none")
                continue
            else:
                continue
            sessions.remove(found)
            self._compare(way, found, end)
        return sessions

    def _compare(self, way: Way, session: Session, end: End) -> None:
        self.checks[1] += 1
        if end.named < 0:
            if session.delivered != session.accepted:
                text = f"life {end.life} left with {session.delivered} of {session.accepted} messages handled"
                self.faults.add(f"1: {_of(way)}: {text}, and no report of the others")
            return
        self.checks[4] += 1
        self.reported += end.named
        self.tails += end.named > 0
        if end.last != session.accepted or end.named != end.last - end.first + 1:
            text = f"life {end.life} ended: {end.first} to {end.last} ({end.named}) reported"
            self.faults.add(f"1: {_of(way)}: {text}, {session.accepted} accepted")
        if not end.first - 1 <= session.delivered <= end.last:
            text = f"reported {end.first} to {end.last}, handled {session.delivered}"
            self.faults.add(f"4: {_of(way)}: {text}")

    def _keep(self, way: Way, open_: list[Session], lives: Mapping[str, int]) -> None:
        """Keep the session that is under way; whatever else is open was lost without a word."""
        for session in open_:
            is_newest = session is open_[-1]
            if is_newest and _leads_to(way, session, lives):
                self._ways[way][session.base] = session
            elif session.accepted:
                life = session.life or "an unknown life"
                text = f"{session.accepted} accepted, {session.delivered} handled, the end of {life} never told"
                self.faults.add(f"1: {_of(way)}: {text}")


def _leads_to(way: Way, session: Session, lives: Mapping[str, int]) -> bool:
    """Whether a session may be one with the present life of its target: an older life is not known to have it."""
    return way.target in lives and session.life in (0, lives[way.target])


def _of(way: Way) -> str:
    return f"{way.sender} (incarnation {way.incarnation}) to {way.target}"
