"""The folder that Ray works in: ours alone, and gone when we are."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from vecfill.engine.ray_folder import inside, ray_folder

HOLD = """
import sys
from vecfill.engine.ray_folder import inside, ray_folder
with ray_folder() as folder:
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
        with ray_folder() as ours:
            assert sorted(temporary.iterdir()) == sorted([ours, kept, temporary / "vf-of-somebody"])
        assert not ours.exists()
        alive.communicate("\n")
    assert [path.name for path in temporary.iterdir()] == ["vf-of-somebody"]


def test_a_folder_too_long_for_a_socket_is_not_taken(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("long" * 10)))
    with ray_folder() as ours:
        assert ours.parent == Path("/tmp")


def test_a_current_folder_that_is_gone(monkeypatch, tmp_path):
    """One that is closed to this user is the same, but not for root."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with inside(tmp_path):
        assert Path.cwd() == tmp_path
    assert Path.cwd() == Path("/")
