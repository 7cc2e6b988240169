"""Texts are as wide as there is room."""

import pytest

from meshvisor.supervisor.cells import clean, cut, shorten, width, wrap


@pytest.mark.parametrize(
    ("text", "room", "lines"),
    [
        ("", 10, [""]),
        ("one two three", 20, ["one two three"]),
        ("one two three", 7, ["one two", "three"]),
        ("one two three", 6, ["one", "two", "three"]),
        ("a verylongword b", 4, ["a", "very", "long", "word", "b"]),
        ("漢字 漢字", 5, ["漢字", "漢字"]),
        ("漢字漢字", 5, ["漢字", "漢字"]),
        ("x", 0, ["x"]),
        ("漢", -3, ["漢"]),
    ],
)
def test_lines_are_broken_between_words(text: str, room: int, lines: list[str]) -> None:
    assert wrap(text, room) == lines


@pytest.mark.parametrize(
    ("name", "room", "short"),
    [
        ("counter-2", 9, "counter-2"),
        ("verification-12", 10, "verifi…-12"),
        ("verification-12", 4, "ve…2"),
        ("verification-12", 1, "…"),
    ],
)
def test_a_name_keeps_its_number_when_it_is_shortened(name: str, room: int, short: str) -> None:
    assert shorten(name, room) == short
    assert len(short) <= room


def test_wide_and_combining_characters_are_counted_as_they_are_shown() -> None:
    assert [width(text) for text in ("abc", "漢字", "e\u0301", "\t")] == [3, 4, 1, 8]
    assert cut("a漢字", 4) == "a漢"
    assert clean("a\x1b[2Jb\x1b[1mc\nd") == "abc d"


@pytest.mark.parametrize(
    "attack",
    [
        "\x1b[2J",  # erases the screen
        "\x1b]0;title\x07",
        "\x1b]52;c;cm0gLXJmIC8=\x1b\\",  # fills the clipboard
        "\x1bP$q\x1b\\",  # has the terminal answer as if it were typed
        "\x1bc",
        "\x9b",
        "\x90",
        "\r",
        "\x08",
        "\u202e",  # from here on from right to left
        "\u2066",
        "\u2028",
    ],
)
def test_nothing_of_what_a_terminal_would_obey_is_left(attack: str) -> None:
    assert clean(f"a{attack}b") == "ab"
    assert clean(f"a{attack}b", keep_colours=True) == "ab"
    assert clean(f"a\x1b[31m{attack}b", keep_colours=True) == "a\x1b[31mb"
