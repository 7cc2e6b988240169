"""Finding the mesh of a file at a glance is finding it thoroughly, only sooner."""

from pathlib import Path

import pytest

from meshvisor.shared.config.loader import locate_thoroughly
from meshvisor.shared.config.locating import _at_a_glance, locate
from meshvisor.shared.errors import ConfigError

MESH = '[mesh]\nname = "demo"\n'


@pytest.mark.parametrize(
    ("text", "is_plain"),
    [
        (MESH, True),
        (MESH + '[supervisor]\nruntime_dir = "run/../here"\n', True),
        (MESH + '[supervisor]\nruntime_dir = "/run/x"\nnonsense = 1\n[workers.a]\nreplicas = -1\n', True),
        (MESH + "transport = 3\n", True),
        ('\r\n[mesh]\r\nname = "demo"\r\n', True),
        ("\ufeff" + MESH, False),
        (MESH + '[supervisor]\nruntime_dir = "~/run"\n', False),
    ],
)
def test_both_find_the_same(text: str, is_plain: bool, tmp_path: Path) -> None:
    file = tmp_path / "mesh.toml"
    file.write_bytes(text.encode())
    assert locate(file) == locate_thoroughly(file)
    assert (_at_a_glance(file) is not None) is is_plain


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[mesh]\n",
        "mesh = 3\n",
        '[mesh]\nname = "Demo"\n',
        "[mesh]\nname = 3\n",
        "supervisor = 3\n" + MESH,
        MESH + "[supervisor]\nruntime_dir = 3\n",
        MESH + '[supervisor]\nruntime_dir = ""\n',
        MESH + '[supervisor]\nruntime_dir = "a\\u0000b"\n',
        MESH + "[",
        "a = " + "[" * 5000,
    ],
)
def test_both_find_the_same_faults(text: str, tmp_path: Path) -> None:
    file = tmp_path / "mesh.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as thoroughly:
        locate_thoroughly(file)
    with pytest.raises(ConfigError) as found:
        locate(file)
    assert found.value.faults == thoroughly.value.faults


def test_what_is_no_file_is_a_fault(tmp_path: Path) -> None:
    for file in (tmp_path / "nowhere", tmp_path, Path("/dev/zero"), Path("a\0b")):
        with pytest.raises(ConfigError, match="cannot be read"):
            locate(file)
