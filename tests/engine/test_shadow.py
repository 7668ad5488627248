"""From a folder that holds a ``pipeline/`` and a ``vecfill/`` of the user's own, Ray's workers import ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.tables import assert_every_vector_is_its_texts, make_docs

pytestmark = pytest.mark.slow

ROWS = 2_000


def test_packages_of_the_users_own_do_not_shadow_ours(connect, database, tmp_path):
    """Neither those in the working folder nor those in a folder that PYTHONPATH names beside it."""
    for name in ("pipeline", "vecfill", "tests"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise RuntimeError('this is the user’s own {name}')\n")
    (tmp_path / "other").mkdir()
    make_docs(connect, ROWS)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment["PYTHONPATH"] = str(tmp_path / "other")
    command = [str(Path(sys.executable).with_name("vecfill")), "run", "-d", database, "-t", "docs", "--text", "title"]
    done = subprocess.run(
        [*command, "-m", "hash:8", "--engine", "ray", "--json"],
        check=False,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["engine"], said["outcome"], said["updated"]) == ("ray", "complete", ROWS)
    assert_every_vector_is_its_texts(connect, rows=ROWS)
