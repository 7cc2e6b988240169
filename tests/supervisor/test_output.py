"""What ``supervise run`` shows, on a terminal and elsewhere."""

import os

import pytest

from meshvisor.supervisor.event import Event
from meshvisor.supervisor.output import Output
from meshvisor.supervisor.style import Look

TERMINAL = Look(colour=False, unicode=True, columns=lambda: 40)
ERASE = "\r\x1b[2K"


class Shown:
    def __init__(self, look: Look, slots: tuple[str, ...] = ("a", "bee-0")) -> None:
        self.text = ""
        self.output = Output(slots, look, self.write)

    def write(self, text: str) -> None:
        self.text += text

    def take(self) -> str:
        text, self.text = self.text, ""
        return text


def ready(slot: str) -> Event:
    return Event(0.0, "slot-ready", slot, 1, {"pid": 7, "duration": 0.084})


def killed(slot: str) -> Event:
    details = {
        "cause": "signaled", "code": None, "signal": "SIGKILL", "uptime": 1.2, "ready": True, "delay": 0.0,
        "next": "restart",
    }  # fmt: skip
    return Event(0.0, "slot-exited", slot, 1, details)


def test_lines_stand_behind_the_name_of_their_slot() -> None:
    shown = Shown(Look())
    shown.output.line("a", "stdout", "hello")
    shown.output.line("bee-0", "stderr", "oh")
    shown.output.line("a", "stdout", "")
    assert shown.text == "a     │ hello\nbee-0 │ oh\na     │\n"


def test_events_do_not_repeat_the_name_and_the_mesh_has_its_own() -> None:
    shown = Shown(Look())
    shown.output.event(ready("a"))
    shown.output.event(Event(0.0, "mesh-ready", details={"duration": 0.2}))
    shown.output.note("a note")
    assert shown.text == (
        "a     • is ready (84 ms after its start)\nmesh  • the mesh is ready, 200 ms after its start\nmesh  • a note\n"
    )


def test_what_the_events_around_it_tell_is_left_out() -> None:
    shown = Shown(Look())
    shown.output.event(Event(0.0, "slot-starting", "a", 1, {"pid": 7}))
    assert shown.text == ""


def test_without_unicode_the_marks_are_ascii() -> None:
    shown = Shown(Look(unicode=False))
    shown.output.line("a", "stdout", "x")
    shown.output.event(ready("a"))
    assert shown.text == "a     | x\na     * is ready (84 ms after its start)\n"


def test_a_very_long_name_does_not_push_the_others_away() -> None:
    shown = Shown(Look(), ("a", "b" * 60))
    shown.output.line("a", "stdout", "x")
    shown.output.line("b" * 60, "stdout", "y")
    assert shown.text == f"{'a':24} │ x\n{'b' * 60} │ y\n"


def test_on_a_narrow_terminal_names_are_shortened_and_sentences_broken_between_words() -> None:
    shown = Shown(Look(columns=lambda: 30), ("verification-10", "verification-11"))
    shown.output.event(killed("verification-11"))
    shown.output.line("verification-10", "stdout", "what a program prints stays as it is")
    assert shown.text == (
        "verifi…-11 • was killed by\n"
        "             SIGKILL after\n"
        "             1.2 s; starting\n"
        "             again at once\n"
        "verifi…-10 │ what a program prints stays as it is\n"
    )


def test_a_slot_that_was_added_later_gets_the_next_colour_and_its_room() -> None:
    shown = Shown(Look(colour=True), ("a",))
    shown.output.line("longer-1", "stdout", "x")
    shown.output.line("a", "stdout", "y")
    assert shown.text == "\x1b[33mlonger-1 │\x1b[0m x\n\x1b[36ma        │\x1b[0m y\n"


def test_each_slot_has_its_colour_and_trouble_is_red() -> None:
    shown = Shown(Look(colour=True))
    shown.output.line("a", "stdout", "x")
    shown.output.event(killed("bee-0"))
    assert shown.text == (
        "\x1b[36ma     │\x1b[0m x\n"
        "\x1b[33mbee-0 •\x1b[0m \x1b[31mwas killed by SIGKILL after 1.2 s; starting again at once\x1b[0m\n"
    )


@pytest.mark.parametrize(
    ("printed", "plain", "coloured"),
    [
        ("\x1b[31mred\x1b[0m", "red", "\x1b[31mred\x1b[0m\x1b[0m"),
        ("a\x1b[2Jb\x1b[10;10Hc", "abc", "abc"),
        ("\x1b]0;title\x07text", "text", "text"),
        ("\x1b]0;title\x1b\\text", "text", "text"),
        ("\x1b]0;never ended", "", ""),
        ("bell\x07 back\x08 \x9b31mC1", "bell back 31mC1", "bell back 31mC1"),
        ("tab\tstays, ünïcode 漢字 too", "tab\tstays, ünïcode 漢字 too", "tab\tstays, ünïcode 漢字 too"),
        ("\x1b", "", ""),
        ("\x1bcreset", "reset", "reset"),
    ],
)
def test_what_would_move_the_cursor_is_taken_out(printed: str, plain: str, coloured: str) -> None:
    shown = Shown(Look(), ("a",))
    shown.output.line("a", "stdout", printed)
    assert shown.take() == f"a    │ {plain}".rstrip(" ") + "\n"
    shown = Shown(Look(colour=True), ("a",))
    shown.output.line("a", "stdout", printed)
    assert shown.take() == f"\x1b[36ma    │\x1b[0m {coloured}".rstrip(" ") + "\n"


# Progress.


def test_progress_is_shown_in_place_below_all_lines() -> None:
    shown = Shown(TERMINAL)
    shown.output.line("a", "progress", "10 %")
    assert shown.take() == "a     │ 10 %"
    shown.output.line("a", "progress", "20 %")
    assert shown.take() == f"{ERASE}a     │ 20 %"
    shown.output.line("bee-0", "stdout", "hello")
    assert shown.take() == f"{ERASE}bee-0 │ hello\na     │ 20 %"


def test_progress_ends_with_the_next_line_of_its_slot() -> None:
    shown = Shown(TERMINAL)
    shown.output.line("a", "progress", "10 %")
    shown.output.line("a", "stdout", "done")
    assert shown.take() == f"a     │ 10 %{ERASE}a     │ done\n"
    shown.output.line("a", "stdout", "more")
    assert shown.take() == "a     │ more\n"


def test_progress_ends_with_its_process() -> None:
    shown = Shown(Look(columns=lambda: 80))
    shown.output.line("a", "progress", "10 %")
    shown.output.event(killed("a"))
    assert shown.take().endswith(f"{ERASE}a     • was killed by SIGKILL after 1.2 s; starting again at once\n")


def test_progress_is_cut_to_the_width_of_the_terminal() -> None:
    shown = Shown(TERMINAL)
    shown.output.line("a", "progress", "\x1b[1m" + "漢" * 40)
    assert shown.take() == "a     │ " + "漢" * 15


def test_progress_is_for_terminals_only() -> None:
    shown = Shown(Look())
    shown.output.line("a", "progress", "10 %")
    assert shown.text == ""


def test_the_cursor_is_left_at_the_beginning_of_a_line() -> None:
    shown = Shown(TERMINAL)
    shown.output.line("a", "progress", "10 %")
    shown.take()
    shown.output.close()
    shown.output.close()
    assert shown.take() == ERASE


def test_the_echo_of_an_interrupt_is_written_over() -> None:
    shown = Shown(TERMINAL)
    shown.output.interrupted()
    shown.output.line("a", "stdout", "x")
    assert shown.take() == f"{ERASE}a     │ x\n"
    elsewhere = Shown(Look())
    elsewhere.output.interrupted()
    elsewhere.output.line("a", "stdout", "x")
    assert elsewhere.take() == "a     │ x\n"


# What the place can do.


@pytest.mark.parametrize(
    ("environment", "colour", "in_place"),
    [
        ({"TERM": "xterm"}, True, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False, True),
        ({"TERM": "xterm", "NO_COLOR": ""}, True, True),
        ({"TERM": "dumb"}, False, False),
    ],
)
def test_colours_are_for_terminals_that_want_them(environment: dict[str, str], colour: bool, in_place: bool) -> None:
    ours, theirs = os.openpty()
    look = Look.of(theirs, "UTF-8", environment)
    assert (look.colour, look.columns is not None, look.unicode) == (colour, in_place, True)
    assert look.columns is None or look.columns() > 0
    os.close(ours)
    os.close(theirs)
    assert look.columns is None or look.columns() == 80


def test_a_pipe_is_no_terminal() -> None:
    ours, theirs = os.pipe()
    assert Look.of(theirs, "ascii", {"TERM": "xterm"}) == Look(colour=False, unicode=False, columns=None)
    os.close(ours)
    os.close(theirs)
