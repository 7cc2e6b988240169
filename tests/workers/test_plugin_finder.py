"""Plugins are found by looking at files and at the metadata of packages; none of them is imported."""

import os
import sys
from importlib.util import cache_from_source
from pathlib import Path

import pytest

from meshvisor.shared.errors import Fault
from meshvisor.workers.plugin_finder import GROUP, Found, find_by_entry_points, find_in_folder, forget_old_code

PLUGIN = """
import nowhere_to_be_found
from meshvisor import Worker

class Helper: ...

class Thumbs(Worker):
    version = "2.1"
"""


def write(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def look(folder: Path) -> tuple[dict[str, Found], list[str]]:
    faults: list[Fault] = []
    return find_in_folder(folder, faults), [str(fault).replace(f"{folder}/", "") for fault in faults]


def test_modules_packages_and_manifests_are_plugins(tmp_path: Path) -> None:
    write(tmp_path / "thumbs.py", PLUGIN)
    write(tmp_path / "maps/__init__.py", "import meshvisor\nclass Maps(meshvisor.Worker): ...\n")
    write(tmp_path / "third/plugin.toml", 'name = "sound"\nclass = "sound.main:Sound"\nversion = "3.0"\n')
    write(tmp_path / "fourth/plugin.toml", 'class = "fourth:Fourth"\n')
    assert look(tmp_path) == (
        {
            "thumbs": Found("thumbs:Thumbs", tmp_path, "2.1"),
            "maps": Found("maps:Maps", tmp_path),
            "sound": Found("sound.main:Sound", tmp_path / "third", "3.0"),
            "fourth": Found("fourth:Fourth", tmp_path / "fourth"),
        },
        [],
    )


def test_what_is_no_plugin_is_left_alone(tmp_path: Path) -> None:
    write(tmp_path / "README.md", "read me")
    write(tmp_path / "helpers.py", "class Helper: ...")
    write(tmp_path / "_private.py", PLUGIN)
    write(tmp_path / ".hidden/plugin.toml", "class = 'a:A'")
    write(tmp_path / "data/file.txt", "")
    assert look(tmp_path) == ({}, [])


def test_what_cannot_be_a_plugin_is_a_fault_and_hides_no_other(tmp_path: Path) -> None:
    write(tmp_path / "broken.py", "class Broken(Worker) = 1")
    write(tmp_path / "two.py", "class A(Worker): ...\nclass B(Worker): ...\n")
    write(tmp_path / "bad/plugin.toml", "class = 7")
    write(tmp_path / "worse/plugin.toml", 'klass = "a:A"')
    write(tmp_path / "worst/plugin.toml", 'version = "1"')
    write(tmp_path / "good.py", PLUGIN)
    write(tmp_path / "second/plugin.toml", 'name = "good"\nclass = "a:A"\n')
    found, faults = look(tmp_path)
    assert "good" in found
    assert [fault.partition(" (")[0] for fault in faults] == [
        "folder: bad: plugin.toml: class: must be a string",
        "folder: broken.py: invalid syntax",
        "folder: second: there is another plugin 'good'",
        "folder: two.py: holds more than one plugin",
        "folder: worse: plugin.toml: klass: unknown key",
        "folder: worst: plugin.toml: class: is missing",
    ]


def test_a_folder_that_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    faults: list[Fault] = []
    assert find_in_folder(tmp_path / "nowhere", faults) == {}
    assert [str(fault) for fault in faults] == [f"folder: {tmp_path}/nowhere cannot be read: No such file or directory"]


def install(site: Path, package: str, version: str, entry_points: str) -> None:
    info = site / f"{package}-{version}.dist-info"
    write(info / "METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    write(info / "entry_points.txt", f"[{GROUP}]\n{entry_points}\n")


def test_installed_packages_declare_plugins_and_their_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "thumbnails", "2.1.0", "thumbs = nowhere_to_be_found.thumbs:Thumbs\nmaps = nowhere:Maps [extra]")
    monkeypatch.syspath_prepend(str(tmp_path))
    faults: list[Fault] = []
    assert find_by_entry_points(GROUP, faults) == {
        "thumbs": Found("nowhere_to_be_found.thumbs:Thumbs", version="2.1.0"),
        "maps": Found("nowhere:Maps", version="2.1.0"),
    }
    assert not faults
    assert "nowhere_to_be_found" not in sys.modules


def test_one_name_for_two_plugins_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "one", "1.0", "thumbs = one:Thumbs")
    install(tmp_path, "other", "1.0", "thumbs = other:Thumbs")
    monkeypatch.syspath_prepend(str(tmp_path))
    faults: list[Fault] = []
    find_by_entry_points(GROUP, faults)
    assert [fault.path for fault in faults] == ["plugins.thumbs"]
    assert "is declared by two packages" in faults[0].message


def test_bytecode_older_than_its_source_is_forgotten_and_no_other(tmp_path: Path) -> None:
    sources = [write(tmp_path / name, "") for name in ("old.py", "old/part.py", "new.py", "folder/other.py")]
    codes = [write(Path(cache_from_source(str(source))), "") for source in sources]
    for source, code, later in zip(sources, codes, (1, 1, -1, 1), strict=True):
        os.utime(source, ns=(0, code.stat().st_mtime_ns + later * 1_000_000))
    forget_old_code(Found("old.part:Old", tmp_path / "folder"), [tmp_path])
    forget_old_code(Found("new:New"), [tmp_path])
    assert [code.exists() for code in codes] == [False, False, True, False]
