"""A reader that leaves early, as ``head`` does."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.tables import make_docs
from tests.traces import loggers_restored

from vecfill.cli import main
from vecfill.cli.pipes import output_never_fails


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


@pytest.mark.slow
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(("stream", "flags"), [("stdout", []), ("stdout", ["--json"]), ("stderr", ["--json"])])
def test_a_full_disk_is_said_in_one_line(connect, database, stream, flags, unbuffered):
    make_docs(connect, 50)
    given = ("-d", database, "-t", "docs", "--text", "title", "-m", "hash:8", "--engine", "inline", *flags)
    with Path("/dev/full").open("wb") as full:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | {stream: full}
        command = [sys.executable, "-m", "vecfill", "run", *given]
        environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
        ended = subprocess.run(command, **pipes, env=environment, text=True, check=False)
    if stream == "stdout":
        assert ended.returncode == 1
        assert ended.stderr.endswith("is lost, and what was committed stays\n")
        assert "Traceback" not in ended.stderr
    else:
        assert (ended.returncode, json.loads(ended.stdout)["updated"]) == (0, 50)
    assert connect.execute("SELECT count(embedding) FROM docs").fetchone() == (50,)


def test_streams_come_back_and_closed_ones_stay_closed(monkeypatch):
    before = sys.stdout
    monkeypatch.setattr(sys, "stderr", None)
    with output_never_fails():
        assert sys.stdout is not before
        assert sys.stderr is None
    assert sys.stdout is before


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_characters_that_stdout_lacks_are_replaced(connect, database, monkeypatch, encoding):
    """More failed rows than a terminal shows, with keys and texts outside the encoding."""
    connect.execute(
        "CREATE TABLE docs (id text PRIMARY KEY, title text, embedding vector(8) CHECK (embedding IS NULL))"
    )
    connect.execute("INSERT INTO docs SELECT 'ключ ' || i, 'título 職' || i FROM generate_series(1, 12) i")
    connect.execute("CREATE TABLE done (id int PRIMARY KEY, title text, embedding vector(8))")
    connect.execute("INSERT INTO done VALUES (1, '職')")
    given = ("-d", database, "--text", "{title}", "-m", "hash:8")
    for arguments, code, shown in [
        (("run", *given, "-t", "docs", "--engine", "inline"), 3, "failed: key ????"),
        (("run", *given, "-t", "done", "--engine", "inline", "--json"), 0, '"updated": 1'),
        (("search", *given[:2], *given[4:], "-t", "done", "--show", "title", "x"), 0, "?"),
        (("status", *given[:2], "-t", "missing 職"), 2, ""),
    ]:
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        monkeypatch.setattr(sys, "argv", ["vecfill", *arguments])
        ended = None
        with loggers_restored():
            try:
                main()
            except SystemExit as error:
                ended = error.code
        out.flush()
        assert (ended or 0) == code
        assert shown in out.buffer.getvalue().decode(encoding)
