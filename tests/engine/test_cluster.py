"""The folder that Ray works in: ours alone, and gone when we are."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from vecfill.engine.cluster import _folder

HOLD = """
import sys
from vecfill.engine.cluster import _folder
with _folder() as folder:
    (folder / "session").mkdir()
    print(folder, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def temporary(monkeypatch):
    """A folder for temporary files, for this process and those that it starts."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


def test_what_a_killed_process_left_goes_and_what_a_living_one_has_stays(temporary):
    (temporary / "vf-of-somebody").mkdir()
    with (
        subprocess.Popen([sys.executable, "-c", HOLD], stdin=-1, stdout=-1, text=True) as killed,
        subprocess.Popen([sys.executable, "-c", HOLD], stdin=-1, stdout=-1, text=True) as alive,
    ):
        left, kept = Path(killed.stdout.readline().strip()), Path(alive.stdout.readline().strip())
        killed.kill()
        killed.wait()
        assert (left / "session").is_dir()
        with _folder() as ours:
            assert sorted(temporary.iterdir()) == sorted([ours, kept, temporary / "vf-of-somebody"])
        assert not ours.exists()
        alive.communicate("\n")
    assert [path.name for path in temporary.iterdir()] == ["vf-of-somebody"]


def test_a_folder_too_long_for_a_socket_is_not_taken(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("long" * 10)))
    with _folder() as ours:
        assert ours.parent == Path("/tmp")
