"""Every code block of the README and of the guide does what a reader would expect: it runs, loads, or can be typed."""

import re
import shutil
import socket
from pathlib import Path

import pytest
from tests.docs.blocks import GUIDE, PAGES, ROOT, Block, anchors, blocks, commands, links
from tests.docs.lines import check_command, inline
from tests.docs.running import completed, folder_for_modules, is_whole, rehearse, run_program

from meshvisor import load_config

PROPS = Path(__file__).parent / "props"
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MESHVISOR_RUNTIME_DIR", str(tmp_path / "run"))
    return tmp_path


@pytest.mark.parametrize("page", NAMES)
def test_everything_that_a_page_shows_runs(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, part in enumerate(parts(blocks(ROOT / page))):
        place = folder / str(number)
        place.mkdir()
        monkeypatch.chdir(place)
        with folder_for_modules(place):
            meshes = [mesh for block in part if (mesh := do(block, place)) is not None]
            for mesh in meshes:
                rehearse(mesh)


def parts(found: list[Block]) -> list[list[Block]]:
    """Divide the blocks of a page where one begins in a new folder."""
    divided: list[list[Block]] = [[]]
    for block in found:
        if block.props:
            divided.append([])
        divided[-1].append(block)
    return divided


def do(block: Block, place: Path) -> Path | None:
    """Do what a reader would with one block, in the folder ``place``; return the mesh.toml that it is, if it is one."""
    if block.props:
        shutil.copytree(PROPS / block.props, place, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    match block.language:
        case "toml":
            is_mesh = is_whole(block.text)
            file = place / (block.file or ("mesh.toml" if is_mesh else f"part-{block.line}.toml"))
            file.write_text(block.text if is_mesh else completed(block.text))
            load_config(file)
            return file if is_mesh else None
        case "python":
            file = place / (block.file or f"block_{block.line}.py")
            file.write_text(block.text)
            run_program(file, block.text.replace(":4500", f":{free_port()}"))
        case "console":
            for line, _ in commands(block):
                check_command(line)
        case "sh":
            for line in block.text.splitlines():
                check_command(line.rpartition(" && ")[2])
        case _:
            pytest.fail(f"{block}: nobody knows how to check a block of {block.language or 'no language'}")
    return None


def free_port() -> int:
    """Return a port that nobody uses: not every machine has the one that a page shows to spare."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@pytest.mark.parametrize("page", NAMES)
def test_no_block_of_a_page_is_overlooked(page: str) -> None:
    text = (ROOT / page).read_text()
    assert text.count("```") == 2 * len(blocks(ROOT / page))
    assert text.count("<!-- with:") == sum(bool(block.props) for block in blocks(ROOT / page))


@pytest.mark.parametrize("page", NAMES)
def test_every_command_in_the_text_of_a_page_exists(page: str) -> None:
    for line in inline((ROOT / page).read_text()):
        check_command(line)


def test_links_and_command_lines_are_found_in_a_text() -> None:
    text = "See [one](a.md#part), ![two](b.svg), [the web](https://example.org) and `supervise status --json`."
    assert links(text) == ["a.md#part", "b.svg"]
    assert inline(text) == ["supervise status --json"]
    assert anchors("# A title\n\n## One `more`, or two\n") == {"a-title", "one-more-or-two"}


@pytest.mark.parametrize("page", NAMES)
def test_every_link_of_a_page_leads_somewhere(page: str) -> None:
    for target in links((ROOT / page).read_text()):
        file, _, anchor = target.partition("#")
        there = (ROOT / page).parent / file if file else ROOT / page
        assert there.exists(), f"there is no {target}"
        if anchor:
            assert anchor in anchors(there.read_text()), f"there is no {target}"


def test_every_guarantee_names_tests_that_there_are() -> None:
    text = (GUIDE / "guarantees.md").read_text()
    proofs = re.findall(r"\[(test_\w+)\]\(([^)]+)\)", text)
    missing = [name for name, file in proofs if f"def {name}(" not in (GUIDE / file).read_text()]
    assert missing == []
    promises = re.split(r"^(?=\*\*)", text, flags=re.MULTILINE)[1:]
    assert [
        promise for promise in promises if not re.search(r"^- (\[test_|`python -m tests)", promise, re.MULTILINE)
    ] == []
