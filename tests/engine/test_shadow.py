"""A command with two targets on Ray: from a folder that holds packages of the user's own, Ray's workers import ours."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from subprocess import PIPE

import pytest
from tests.faults.processes import completes, filled, stopped, wait_for_backends
from tests.tables import assert_every_vector_is_its_texts, make_docs, meanwhile, rest

pytestmark = pytest.mark.slow

ROWS, RATE = 6_000, 1_500
"""Rows, and as many of them a second."""


@pytest.fixture
def short():
    """A folder for temporary files that is near enough to the root for Ray's sockets."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


def test_packages_of_the_users_own_do_not_shadow_ours_and_a_signal_ends_the_run_cleanly(
    connect, database, tmp_path, short
):
    """Neither those in the working folder nor those in a folder that PYTHONPATH names beside it.

    The second target takes the cluster that the first started: Ray's folder is made once. SIGTERM, for which Ray sets a
    handler of its own, comes while its rows are written.
    """
    for name in ("pipeline", "vecfill", "tests"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise RuntimeError('this is the user’s own {name}')\n")
    (tmp_path / "other").mkdir()
    make_docs(connect, ROWS)
    make_docs(connect, 10, table="others")
    before = rest(connect)
    common = f'text = "title"\nmodel = "hash:8"\nengine = "ray"\njson = true\nmax_rate = {RATE}\n'
    (tmp_path / "two.toml").write_text(f'{common}[[target]]\ntable = "others"\n[[target]]\ntable = "docs"\n')
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"PYTHONPATH": str(tmp_path / "other"), "TMPDIR": str(short)}
    command = [str(Path(sys.executable).with_name("vecfill")), "run", "-d", database, "--config", "two.toml"]
    seen = set()

    def look(done: threading.Event) -> None:
        while not done.wait(0.05):
            seen.update(path.name for path in short.glob("vf-*"))

    with (
        meanwhile(look),
        subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True, cwd=tmp_path, env=environment) as process,
    ):
        told = stopped(process, connect, signal.SIGTERM)["targets"]
    assert [(one["engine"], one["outcome"]) for one in told] == [("ray", "complete"), ("ray", "stopped")]
    assert (told[0]["updated"], told[1]["updated"] + told[1]["remaining"]) == (10, ROWS)
    assert 0 < told[1]["updated"] == filled(connect) == told[1]["after"]["filled"] < ROWS
    assert len(seen) == 1
    wait_for_backends(connect)
    assert_every_vector_is_its_texts(connect, table="others", rows=10)
    completes(connect, database, ROWS)
    assert_every_vector_is_its_texts(connect, rows=ROWS)
    assert rest(connect) == before
