"""A file goes only so deep, and is only so large, that it is read in no time."""

from collections.abc import Callable
from pathlib import Path

import pytest

from meshvisor.shared.config.depth import MAX_DEPTH, line_of_deep_key
from meshvisor.shared.config.loader import load_config
from meshvisor.shared.config.locating import locate
from meshvisor.shared.errors import ConfigError

Faults = Callable[[str], list[str]]


def key(parts: int, part: str = "a", dot: str = ".") -> str:
    return dot.join([part] * parts)


@pytest.mark.parametrize("part", ["a", '"a b"', "'a.b'", '"a\\"b"'])
@pytest.mark.parametrize("dot", [".", " . ", "\t."])
@pytest.mark.parametrize(
    "text", ["{} = 1", "[{}]", "[[{}]]", "x = {{ {} = 1 }}", "x = [1, {{y = 1, {} = 1}}]", "  {}=1"]
)
def test_a_key_of_so_many_parts_and_no_more_is_read(text: str, dot: str, part: str) -> None:
    assert line_of_deep_key("a = 1\n" + text.format(key(MAX_DEPTH, part, dot)) + "\n") is None
    assert line_of_deep_key("a = 1\n" + text.format(key(MAX_DEPTH + 1, part, dot)) + "\n") == 2


@pytest.mark.parametrize("text", ['x = "{}"', "x = ['{}', '{}']", "# {}", "x = 1.5 # {}"])
def test_dots_that_are_in_no_key_do_not_matter(text: str) -> None:
    assert line_of_deep_key(text.format(key(1000), key(1000))) is None


def test_a_key_that_would_take_hours_is_a_fault_of_its_line(write: Callable[[str], Path], minimal: str) -> None:
    file = write(minimal + "[workers.a.settings]\n" + key(400_000) + " = 1\n")
    line = file.read_text().count("\n")
    for read in (load_config, locate):
        with pytest.raises(ConfigError) as caught:
            read(file)
        assert [(fault.line, fault.message) for fault in caught.value.faults] == [
            (line, f"a key has more than {MAX_DEPTH} parts")
        ]


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ("{a=", "}")])
def test_settings_nested_too_deeply_are_a_fault_of_their_line(opening: str, closing: str, faults: Faults) -> None:
    text = '[mesh]\nname = "m"\n[workers.a]\nclass = "a:B"\nsettings.deep = {}1{}\n'
    assert faults(text.format(opening * 60, closing * 60)) == []
    (fault,) = faults(text.format(opening * 61, closing * 61))
    assert fault.startswith("5: workers.a.settings.deep")
    assert fault.endswith(f": is nested too deeply; {MAX_DEPTH} levels will do")


def test_more_workers_than_a_mesh_can_have_are_one_fault(faults: Faults) -> None:
    text = '[mesh]\nname = "m"\n' + "".join(f'[workers.w{number}]\nclass = "a:B"\n' for number in range(1001))
    assert faults(text) == [
        "3: workers: must have 1000 tables at most, not 1001; replicas are no workers of their own",
    ]


def test_in_a_dense_tangle_of_dependencies_a_circle_is_found_and_nothing_else(faults: Faults) -> None:
    names = [f"'w{number}'" for number in range(200)]
    text = '[mesh]\nname = "m"\n' + "".join(
        f'[workers.w{number}]\nclass = "a:B"\ndepends_on = [{",".join(names[max(0, number - 50) : number])}]\n'
        for number in range(200)
    )
    assert faults(text) == []
    tied = text.replace("depends_on = []", "depends_on = ['w199']")
    first, *others = faults(tied)
    assert first == "5: workers.w0.depends_on: goes round in a circle: w0 -> w199 -> w149 -> w99 -> w49 -> w0"
    assert len(others) == 19, "each takes a walk along all of them"
