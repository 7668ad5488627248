"""A reader that leaves early, as ``head`` does."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from tests.tables import make_docs

from vecfill.cli.pipes import readers_may_leave


@pytest.mark.slow
@pytest.mark.parametrize(("stream", "flags"), [("stdout", []), ("stderr", ["--json"])])
def test_a_run_goes_on_to_its_end_and_says_how_it_went(connect, database, stream, flags):
    make_docs(connect, 50)
    connect.execute("ALTER TABLE docs ADD CHECK (id <> 7 OR embedding IS NULL)")
    given = ("-d", database, "-t", "docs", "--text", "title", "-m", "hash:8", "--engine", "inline", *flags)
    gone, ours = os.pipe()
    os.close(gone)
    try:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | {stream: ours}
        ended = subprocess.run([sys.executable, "-m", "vecfill", "run", *given], **pipes, text=True, check=False)
    finally:
        os.close(ours)
    assert ended.returncode == 3
    assert "Traceback" not in f"{ended.stdout}{ended.stderr}"
    assert "Broken pipe" not in f"{ended.stdout}{ended.stderr}"
    assert connect.execute("SELECT count(embedding) FROM docs").fetchone() == (49,)


def test_streams_come_back_and_closed_ones_stay_closed(monkeypatch):
    before = sys.stdout
    monkeypatch.setattr(sys, "stderr", None)
    with readers_may_leave():
        assert sys.stdout is not before
        assert sys.stderr is None
    assert sys.stdout is before
