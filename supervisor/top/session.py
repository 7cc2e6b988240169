"""The loop of ``supervise top``: keys, answers, signals and one look a second, each as it comes."""

from __future__ import annotations

import os
import select
import signal
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.text import Text

from ...shared.control.requests import (
    Answer,
    GetLinks,
    GetStatus,
    LinksReport,
    Refusal,
    Refused,
    RequestError,
    StatusReport,
    decode_content,
)
from ..cells import clean
from ..directory import NotRunning
from ..snapshot import MeshLinks, MeshStatus
from ..story import Paper, no_incident, tell
from ..trail import Entry, SlotTrail
from .actions import YES, Action, action_of, told
from .conversation import Conversation
from .facts import Observer
from .keys import Key, keys_of
from .links import links_panel
from .marks import Marks
from .matrix import Matrix, matrix_of
from .pages import Page, help_page, hint
from .past import Past
from .picture import View, picture, scrolled
from .screen import Screen

_PERIOD = 1.0
_LOG_PERIOD = 0.25  # while a log is looked at
_LARGE = 20  # nodes; beyond it the links, of which there are hundreds, are asked for less often
_LARGE_PERIOD = 5.0
_LOG_LINES = 2000
_STEPS = {Key.UP: -1, Key.DOWN: 1, Key.HOME: -1_000_000, Key.END: 1_000_000}


class Session:
    """One ``supervise top`` on a terminal.

    Raises:
        NotRunning: From ``run``, if the mesh does not run when it begins. One that ends later is waited for.
    """

    def __init__(self, base: Path, name: str, log_dir: Path, screen: Screen, marks: Marks) -> None:
        self._name = name
        self._log_dir = log_dir
        self._screen = screen
        self._marks = marks
        self._conversation = Conversation(base, name)
        self._observer = Observer(name)
        self._past = Past(log_dir)
        self._matrix = Matrix()
        self._view = View()
        self._doubted: Action | None = None
        self._page: Page | None = None
        self._log: SlotTrail | None = None
        self._log_lines: deque[Text] = deque(maxlen=_LOG_LINES)
        self._next_look = self._next_status = self._next_links = 0.0
        self._heard_at = 0.0
        self._is_stale = True  # what is shown
        self._is_over = False
        self._ended_by: signal.Signals | None = None

    def run(self) -> signal.Signals | None:
        """Show the mesh until somebody has seen enough; return the signal that ended it, if one did."""
        if not self._conversation.begin():
            raise NotRunning(self._name)
        try:
            with self._screen:
                while not self._is_over:
                    self._turn()
            return self._ended_by
        finally:
            self._conversation.end()
            self._past.close()
            self._close_page()

    def _turn(self) -> None:
        now = time.monotonic()
        if now >= self._next_look:
            self._look(now)
        if self._is_stale:
            self._draw()
        self._wait(max(0.0, self._next_look - time.monotonic()))
        typed = self._screen.read()
        self._is_stale = bool(typed or self._screen.signals)
        self._obey_signals()
        for key in keys_of(typed):
            self._pressed(key)
        if self._conversation.is_open and not self._conversation.listen():
            self._conversation.end()
            self._observer.gone()
            self._is_stale = True

    def _wait(self, seconds: float) -> None:
        poll = select.poll()
        for descriptor in (*self._screen.descriptors, *self._conversation.descriptors):
            poll.register(descriptor, select.POLLIN)
        poll.poll(seconds * 1000)

    # Looking.

    def _look(self, now: float) -> None:
        """Ask for what is to be seen; the answer is drawn when it is there, and that there is none by the next time."""
        self._is_stale |= now - self._heard_at > _PERIOD or self._page is not None
        self._next_look = now + (_LOG_PERIOD if self._log is not None else _PERIOD)
        self._observer.incidents(self._past.more())
        if self._log is not None:
            self._read(self._log)
        if self._conversation.begin():
            if now >= self._next_status:
                self._next_status = now + _PERIOD
                self._conversation.ask(GetStatus(), self._heard)
            if now >= self._next_links:
                self._next_links = now + (_LARGE_PERIOD if len(self._matrix.names) > _LARGE else _PERIOD)
                self._conversation.ask(GetLinks(), self._heard)

    def _read(self, log: SlotTrail) -> None:
        """Read on; of a flood, which nobody can read, the end."""
        entries = log.some(_LOG_LINES)
        if len(entries) >= _LOG_LINES:
            entries = log.tail(_LOG_LINES)
        self._log_lines.extend(map(_line, entries))

    def _heard(self, answer: Answer) -> bool:
        try:
            self._take(answer, time.monotonic())
        except RequestError as error:
            self._say(str(error))
            self._is_stale = True
        return False

    def _take(self, answer: Answer, now: float) -> None:
        if isinstance(answer, StatusReport):
            self._observer.status(decode_content(answer.status, MeshStatus), now)
            self._heard_at, self._is_stale = now, self._page is None
        elif isinstance(answer, LinksReport):
            links = decode_content(answer.links, MeshLinks)
            self._observer.links(links)
            self._is_stale = self._is_stale or not self._matrix.names
            self._matrix = matrix_of(links)
        elif isinstance(answer, Refused) and answer.why is Refusal.VERSION:
            self._say(answer.text)
            self._is_stale = True

    def _draw(self) -> None:
        width, height = self._screen.size()
        if self._page is not None:
            self._screen.show(self._page.picture(width, height, hint(unicode=self._marks.unicode)))
            return
        facts = self._observer.facts(time.monotonic(), time.time())
        self._view = scrolled(facts, self._view, width, height, self._matrix, self._marks)
        self._screen.show(picture(facts, self._matrix, self._view, self._marks, width, height))

    # Obeying.

    def _obey_signals(self) -> None:
        while self._screen.signals:
            match number := self._screen.signals.pop(0):
                case signal.SIGWINCH:
                    self._screen.forget()
                case signal.SIGTSTP:
                    self._screen.suspend()
                case signal.SIGINT:
                    self._is_over = True
                case _:
                    self._is_over, self._ended_by = True, number

    def _pressed(self, key: Key | str) -> None:
        if self._doubted is not None:
            action, self._doubted = self._doubted, None
            self._say("")
            if key in YES:
                self._do(action)
        elif key == "q":
            self._is_over = True
        elif self._page is not None:
            self._pressed_on_page(self._page, key)
        elif isinstance(key, Key) and key not in (Key.ENTER, Key.ESCAPE):
            self._select(key)
        else:
            self._say("")
            self._open(key)

    def _pressed_on_page(self, page: Page, key: Key | str) -> None:
        if isinstance(key, Key) and key not in (Key.ESCAPE, Key.ENTER):
            page.move(key, self._screen.size()[1])
        else:
            self._close_page()

    def _select(self, key: Key) -> None:
        facts = self._observer.facts(time.monotonic(), time.time())
        names = [slot.name for slot in facts.slots]
        if names:
            step = _STEPS.get(key) or (self._screen.size()[1] // 2) * (1 if key is Key.PAGE_DOWN else -1)
            now = names.index(self._view.selected) if self._view.selected in names else 0
            self._view = replace(self._view, selected=names[min(max(0, now + step), len(names) - 1)])

    def _open(self, key: Key | str) -> None:
        slot = self._view.selected
        if key == "?":
            self._page = help_page()
        elif key == "m":
            self._page = Page(f"the links of {self._name}", self._links)
        elif slot and key == "l":
            self._open_log(slot)
        elif slot and key in ("w", Key.ENTER):
            self._page = Page(f"why {slot}", partial(self._story, slot))
        elif slot and (action := action_of(key, slot)) is not None:
            if action.doubt:
                self._doubted = action
                self._say(action.doubt)
            else:
                self._do(action)

    def _do(self, action: Action) -> None:
        """Ask for it; whatever it takes, the view goes on."""
        if not self._conversation.ask(action.change, partial(self._done, action)):
            self._say(f"the mesh {self._name} does not run")

    def _done(self, action: Action, answer: Answer) -> bool:
        text, more = told(action, answer)
        self._say(text)
        self._is_stale = True
        self._next_look = self._next_status = 0.0
        return more

    def _say(self, text: str) -> None:
        self._view = replace(self._view, message=clean(text))

    # Pages.

    def _open_log(self, slot: str) -> None:
        self._log = SlotTrail(self._log_dir, slot)
        self._log_lines = deque(map(_line, self._log.tail(_LOG_LINES)), _LOG_LINES)
        lines = self._log_lines
        self._page = Page(f"what {slot} prints", lambda width: lines, follows=True)
        self._next_look = 0.0

    def _close_page(self) -> None:
        self._page = None
        if self._log is not None:
            self._log.close()
            self._log = None

    def _links(self, width: int) -> Sequence[Text]:
        nothing = [Text(" there are no links")]
        return (links_panel(self._matrix, self._marks, width, None) or nothing) if self._matrix.names else nothing

    def _story(self, slot: str, width: int) -> Sequence[Text]:
        facts = self._observer.facts(time.monotonic(), time.time())
        found = facts.slot(slot)
        present = found.status if found is not None else None
        incident = next((one for one in facts.incidents if one.slot == slot), None)
        paper = Paper(width - 2, self._marks.colour)
        story = tell(incident, facts.at, present, (), paper) if incident else no_incident(slot, present, paper)
        return [Text(" ") + Text.from_ansi(line) for line in story.splitlines()]


def _line(entry: Entry) -> Text:
    return Text.from_ansi(clean(entry.text, keep_colours=True).expandtabs())


def end_as(number: signal.Signals) -> None:
    """End this process as whoever sent that signal expects it."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
