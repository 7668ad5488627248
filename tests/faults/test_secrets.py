"""Where a password or a key could show: in what is printed, reported and logged, in Ray's files, in process lists."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from tests.encode.api.server import KEY, serving
from tests.faults.gate import AT, ROWS, Gate
from tests.faults.processes import descendants, shown
from tests.tables import meanwhile, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.ray]

SECRET, ANOTHER = "sekret of the server", "another sekret"
REFUSED = "password authentication failed"

CALL = """
import sys
from pathlib import Path

from vecfill.cli import main
from vecfill.cli.mask import mask_process

mask_process()
kept = Path(sys.argv.pop(1))
from vecfill.engine.cluster import cluster

with cluster(None, verbose=True):
    try:
        main()
    except SystemExit as ended:
        print("ended with", ended.code, file=sys.stderr)
    from ray._private import state, worker

    client = worker.global_worker.gcs_client
    known = [client.get_all_job_info(), state.actors(), *(
        (key, client.internal_kv_get(key, space))
        for space in (None, b"fun", b"job", b"cluster", b"session", b"tracing", b"dashboard", b"usage_stats")
        for key in client.internal_kv_keys(b"", space)
    )]
    (kept / "known").write_text(repr(known))
    session = Path(worker._global_node.get_session_dir_path())
    for number, path in enumerate(one for one in session.rglob("*") if one.is_file()):
        (kept / f"{number} {path.name}").write_bytes(path.read_bytes())
"""
"""Calls the command line, and keeps what Ray knew and wrote before it goes."""


@pytest.fixture
def gate(connect, token):
    """The table, in a server that asks for a password; one row's vector is refused, for the report to name."""
    gate = Gate(connect)
    connect.execute(f"ALTER TABLE docs ADD CHECK (id <> {AT + 1} OR embedding IS NULL)")
    return gate


def command_lines(process: subprocess.Popen, seen: set[str]):
    """Notes the command lines of the process and all below it, from when it has hidden its own."""

    def look(done: threading.Event) -> None:
        wait_until(lambda: done.is_set() or "password=xxx" in shown(process.pid))
        while not done.wait(0.2):
            seen.update(map(shown, descendants(process.pid)))

    return look


def test_neither_password_nor_key_is_seen_anywhere(gate, connect, token, tmp_path):
    """In the middle of the run a reader loses its connection, and another password holds for a while."""

    def change(password: str) -> None:
        connect.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(token.role), sql.Literal(password)))

    def lock_out(done: threading.Event) -> None:
        wait_until(lambda: done.is_set() or gate.reached(), 90)
        change(ANOTHER)
        (waiting,) = gate.waiting()
        gate.open()
        connect.execute("SELECT pg_terminate_backend(%s)", [waiting])
        wait_until(lambda: done.is_set() or REFUSED in printed.read_text(), 60)
        change(SECRET)

    kept, report, printed = tmp_path / "kept", tmp_path / "report", tmp_path / "printed"
    kept.mkdir()
    place = make_conninfo(token.database.conninfo, password=SECRET)
    what = ["-t", "docs", "--text", "title", "-m", "openai:test", "--where", gate.where, "--allow-mixed"]
    how = ["--engine", "ray", "--price-per-million", "1"]
    told = ["--verbose", "--json", "--report", str(report)]
    command = [sys.executable, "-c", CALL, str(kept), "run", "-d", place, *what, *how, *told]
    change(SECRET)
    gate.close("read")
    lines: set[str] = set()
    with (
        serving(key=KEY) as api,
        printed.open("w") as stderr,
        subprocess.Popen(
            [*command, "--base-url", api.url],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env={**os.environ, "VECFILL_API_KEY": KEY},
        ) as process,
        meanwhile(command_lines(process, lines)),
        meanwhile(lock_out),
    ):
        out, _ = process.communicate(timeout=150)
    said = printed.read_text()
    assert process.returncode == 0, said
    assert REFUSED in said
    assert "ended with 3" in said
    assert connect.execute("SELECT count(embedding) FROM docs").fetchone() == (ROWS - 1,)
    assert json.loads(report.read_text().splitlines()[-1])["key"] == str(AT + 1)
    files = {path.name: path.read_bytes() for path in kept.iterdir()}
    assert {"raylet.out", "ray-data.log"} <= {name.partition(" ")[2] for name in files}
    assert b"EncoderActor" in files["known"]
    assert any(line.startswith("ray::") for line in lines)
    everything = {"stdout": out, "stderr": said, "report": report.read_text(), "processes": " ".join(lines)}
    everything |= {name: content.decode(errors="replace") for name, content in files.items()}
    assert api.seen.keys == {f"Bearer {KEY}"}
    assert [name for name, text in everything.items() if "sekret" in text or KEY in text] == []
