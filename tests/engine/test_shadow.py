"""A command with two targets on Ray: from a folder that holds packages of the user's own, Ray's workers import ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from tests.tables import assert_every_vector_is_its_texts, make_docs, meanwhile

pytestmark = pytest.mark.slow

ROWS = 2_000


@pytest.fixture
def short():
    """A folder for temporary files that is near enough to the root for Ray's sockets."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


def test_packages_of_the_users_own_do_not_shadow_ours(connect, database, tmp_path, short):
    """Neither those in the working folder nor those in a folder that PYTHONPATH names beside it.

    The second target takes the cluster that the first started: Ray's folder is made once.
    """
    for name in ("pipeline", "vecfill", "tests"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise RuntimeError('this is the user’s own {name}')\n")
    (tmp_path / "other").mkdir()
    make_docs(connect, ROWS)
    make_docs(connect, 10, table="others")
    common = 'text = "title"\nmodel = "hash:8"\nengine = "ray"\njson = true\n'
    (tmp_path / "two.toml").write_text(f'{common}[[target]]\ntable = "docs"\n[[target]]\ntable = "others"\n')
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"PYTHONPATH": str(tmp_path / "other"), "TMPDIR": str(short)}
    command = [str(Path(sys.executable).with_name("vecfill")), "run", "-d", database, "--config", "two.toml"]
    seen = set()

    def look(done: threading.Event) -> None:
        while not done.wait(0.02):
            seen.update(path.name for path in short.glob("vf-*"))

    with meanwhile(look):
        done = subprocess.run(
            command, check=False, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
        )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)["targets"]
    assert [(one["engine"], one["outcome"], one["updated"]) for one in told] == [
        ("ray", "complete", ROWS),
        ("ray", "complete", 10),
    ]
    assert len(seen) == 1
    assert_every_vector_is_its_texts(connect, rows=ROWS)
    assert_every_vector_is_its_texts(connect, table="others", rows=10)
