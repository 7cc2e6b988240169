"""Pages are scrolled, and end where they end."""

from rich.text import Text

from meshvisor.supervisor.top.keys import Key
from meshvisor.supervisor.top.pages import Page, help_page, hint


def shown(page: Page, height: int = 6) -> list[str]:
    return [line.plain for line in page.picture(20, height, "hint")]


def test_a_text_is_read_from_its_beginning() -> None:
    page = Page("a title", lambda width: [Text(str(number)) for number in range(10)])
    assert shown(page) == [" a title   1-3 of 10", "", "0", "1", "2", " hint"]
    page.move(Key.DOWN, 6)
    assert shown(page)[2:5] == ["1", "2", "3"]
    page.move(Key.END, 6)
    assert shown(page)[2:5] == ["7", "8", "9"]
    page.move(Key.PAGE_UP, 6)
    assert shown(page)[2:5] == ["5", "6", "7"]
    page.move(Key.HOME, 6)
    assert shown(page)[2:5] == ["0", "1", "2"]


def test_what_grows_is_read_from_its_end_and_stays_where_it_was_scrolled_to() -> None:
    lines = [Text(str(number)) for number in range(10)]
    page = Page("log", lambda width: lines, follows=True)
    assert shown(page)[2:5] == ["7", "8", "9"]
    lines.append(Text("10"))
    assert shown(page)[2:5] == ["8", "9", "10"]
    page.move(Key.UP, 6)
    assert shown(page)[2:5] == ["7", "8", "9"]
    page.move(Key.HOME, 6)
    assert shown(page)[2:5] == ["0", "1", "2"]
    page.move(Key.END, 6)
    assert shown(page)[2:5] == ["8", "9", "10"]


def test_a_line_that_is_too_long_goes_on_below() -> None:
    page = Page("x", lambda width: [Text("a" * 45), Text("b")])
    assert shown(page, 8)[2:7] == ["a" * 20, "a" * 20, "a" * 5, "b", ""]


def test_the_help_fits_a_terminal_of_80_columns_and_24_lines() -> None:
    lines = [line.plain for line in help_page().picture(80, 24, hint(unicode=True))]
    assert lines[7] == "   S                  start it                q            quit"
    assert lines[0] == " supervise top"  # and not which lines of how many
    assert hint(unicode=False).isascii()
