"""What a rolling restart may not do to calls and messages. Lines of the record in, figures and faults out. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

_SHOWN = 5


@dataclass(slots=True)
class Account:
    """What the workers have put down."""

    lives: Counter[str] = field(default_factory=Counter)
    begun: set[str] = field(default_factory=set)
    done: dict[str, float] = field(default_factory=dict)
    """Milliseconds by call."""
    served: Counter[str] = field(default_factory=Counter)
    sent: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    """Numbers by sender, its incarnation and receiver."""
    got: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    faults: list[str] = field(default_factory=list)

    def take(self, line: str) -> None:
        """Take one line in."""
        kind, _, rest = line.partition(" ")
        words = rest.split()
        if kind == "life":
            self.lives[words[0]] += 1
        elif kind == "call":
            self.begun.add(words[0])
        elif kind == "done":
            self.done[words[0]] = float(words[1])
        elif kind == "served":
            self.served[words[0]] += 1
        elif kind in ("sent", "got"):
            way, _, number = rest.rpartition(" ")
            (self.sent if kind == "sent" else self.got)[way].append(int(number))
        elif kind != "confirmed":  # failed, wrong, lost, unsent
            self.faults.append(line)

    def judge(self) -> list[str]:
        """Return what is wrong, once all is written."""
        faults = list(self.faults)
        known = {fault.split()[1] for fault in faults}
        faults += _some("never ended", self.begun - self.done.keys() - known)
        faults += _some("ran twice", {call for call, count in self.served.items() if count > 1})
        faults += _some("ended without having run", self.done.keys() - self.served.keys())
        for way in sorted(self.sent.keys() | self.got.keys()):
            sent, got = self.sent[way], self.got[way]
            if sent != got:
                missing, more = Counter(sent) - Counter(got), Counter(got) - Counter(sent)
                what = f"missing {sorted(missing)[:_SHOWN]}, too many {sorted(more)[:_SHOWN]}"
                faults.append(f"messages of {way}: {what if missing or more else 'out of order'}")
        return faults


def _some(what: str, calls: Iterable[str]) -> list[str]:
    found = sorted(calls)
    return [f"{len(found)} calls {what}: {', '.join(found[:_SHOWN])}"] if found else []


def account(text: str) -> Account:
    """Return what ``text``, the whole record, says."""
    found = Account()
    for line in text.splitlines():
        found.take(line)
    return found
