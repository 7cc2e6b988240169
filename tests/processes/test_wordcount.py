"""The wordcount example, as a newcomer runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "wordcount"


def supervise(file: Path, runtime: Path, tree: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "MESHVISOR_RUNTIME_DIR": str(runtime)}
    environment.pop("WORDCOUNT_DIR", None)
    if tree is not None:
        environment["WORDCOUNT_DIR"] = str(tree)
    return subprocess.run(
        [sys.executable, "-m", "meshvisor.supervisor", "run", str(file)],
        check=False,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=55,
    )


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    return folder


def test_the_words_of_a_tree_are_counted_exactly(tmp_path: Path, runtime: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "deep" / "er").mkdir(parents=True)
    for number in range(50):
        (tree / "deep" / "er" / f"{number}.txt").write_text("The quick fox, the QUICK fox.\n" * 10)
    (tree / "binary").write_bytes(b"the\0the")
    (tree / "latin").write_bytes("caf\xe9 the".encode("latin-1"))
    (tree / "empty").write_bytes(b"")
    ended = supervise(EXAMPLE / "mesh.toml", runtime, tree)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "52 files, 3,002 words in" in ended.stdout
    assert "  1  the                  1,001" in ended.stdout
    assert "exact: a single process counts the same, word for word" in ended.stdout
    assert "%" not in ended.stdout  # Progress is for terminals.


def test_a_tree_without_texts_is_a_clear_error(tmp_path: Path, runtime: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    text = (EXAMPLE / "mesh.toml").read_text().replace("significant = true", 'restart = "never"\nsignificant = true')
    (tmp_path / "mesh.toml").write_text(text.replace("[workers.counter]", f'[workers.counter]\ncwd = "{EXAMPLE}"'))
    (tmp_path / "wordcount.py").write_text((EXAMPLE / "wordcount.py").read_text())
    ended = supervise(tmp_path / "mesh.toml", runtime, tree)
    assert ended.returncode == 1
    assert f"there are no text files in {tree}" in ended.stdout
    assert "Traceback" not in ended.stdout + ended.stderr


@pytest.mark.slow
def test_the_gremlin_changes_nothing_about_the_result(runtime: Path) -> None:
    ended = supervise(EXAMPLE / "gremlin.toml", runtime)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "exact: a single process counts the same, word for word" in ended.stdout
    assert "was killed by SIGKILL" in ended.stdout
    assert "is ready again" in ended.stdout
