"""Several programs at one target, a server that goes away, and watches that are stopped or killed."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections import Counter
from contextlib import closing
from dataclasses import replace

import psycopg
import pytest
from tests.ledger.tracked import assert_current, fill, queue, tracked_docs
from tests.tables import INLINE, add_docs, meanwhile, wait_until
from tests.watching.watched import watched, watching

from vecfill.encode.hash_encoder import HashEncoder
from vecfill.errors import LeaseError

PATIENT = replace(INLINE, lease=1.0)


def test_two_watches_runs_and_an_application_embed_each_text_once(database, connect, monkeypatch):
    texts, encode = Counter(), HashEncoder.encode

    def counted(self, given, *more):
        texts.update(given)
        return encode(self, given, *more)

    monkeypatch.setattr(HashEncoder, "encode", counted)
    tracked_docs(connect, database, 40, filled=False)

    def run_now_and_then(done):
        while not done.wait(0.05):
            with contextlib.suppress(LeaseError):
                fill(database)

    chance = random.Random(1)
    with (
        watching(watched(database, options=PATIENT)),
        watching(watched(database, options=PATIENT)),
        meanwhile(run_now_and_then),
    ):
        for edit in range(60):
            connect.execute("UPDATE docs SET title = %s WHERE id = %s", [f"edit {edit}", chance.randrange(1, 40)])
        wait_until(
            lambda: not queue(connect) and not connect.execute("SELECT FROM docs WHERE embedding IS NULL").fetchone()
        )
    assert max(texts.values()) == 1
    assert_current(connect)


def test_lost_connections_are_made_anew_which_is_said_once(database, connect, caplog):
    caplog.set_level("INFO", "vecfill")
    tracked_docs(connect, database, 3)
    with watching(watched(database)) as going:
        add_docs(connect, 4, 4)
        wait_until(lambda: not queue(connect))
        connect.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'vecfill'"
        )
        add_docs(connect, 5, 5)
        wait_until(lambda: any(hasattr(one, "waits_for") for one in caplog.records))
        wait_until(lambda: not queue(connect))
        wait_until(lambda: any(getattr(one, "event", "") == "resume" for one in caplog.records))
        result = going.end()
    assert_current(connect)
    assert (result.exit_code, result.targets[0].rows["updated"]) == (0, 2)


def watch_process(database: str, *flags: str, **environ: str) -> subprocess.Popen:
    command = [
        sys.executable,
        "-m",
        "vecfill",
        "watch",
        "-d",
        database,
        "-t",
        "docs",
        "--text",
        "{title}",
        "-m",
        "hash:8",
    ]
    return subprocess.Popen(
        [*command, "--interval", "0.02", "--lease", "1", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environ},
    )


@pytest.mark.slow
def test_what_a_killed_watch_leaves_the_other_takes_over(database, connect):
    tracked_docs(connect, database, 3, filled=False)
    with watch_process(database) as process:
        wait_until(lambda: connect.execute("SELECT count(embedding) = 3 FROM docs").fetchone()[0])
        with watching(watched(database, options=PATIENT)):
            process.kill()
            process.communicate()
            add_docs(connect, 4, 5)
            wait_until(lambda: not queue(connect))
    assert_current(connect)


@pytest.mark.slow
def test_it_tells_the_service_manager_and_ends_cleanly_on_sigterm(database, connect, tmp_path):
    tracked_docs(connect, database, 3, filled=False)
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(60)
        flags = ("--json", "--log-format", "json", "--ready-file", str(tmp_path / "ready"))
        told = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
        with watch_process(database, *flags, **told) as process:
            heard = [listener.recv(1_000).decode()]
            while "WATCHDOG=1" not in heard:
                heard.append(listener.recv(1_000).decode())
            wait_until((tmp_path / "ready").exists)
            wait_until(lambda: connect.execute("SELECT count(embedding) = 3 FROM docs").fetchone()[0])
            process.send_signal(signal.SIGTERM)
            while "STOPPING=1" not in heard:
                heard.append(listener.recv(1_000).decode())
            out, err = process.communicate(timeout=60)
    assert heard[0] == "READY=1"
    assert not (tmp_path / "ready").exists()
    assert process.returncode == json.loads(out)["exit_code"] == 143
    lines = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    (watching_line,) = [line for line in lines if line.get("event") == "watching"]
    assert watching_line["target"] == "docs"
    assert connect.execute("SELECT id::text, outcome FROM vecfill.run").fetchall() == [
        (watching_line["run_id"], "stopped")
    ]


@pytest.mark.parametrize(
    "flags",
    [
        ("--metrics", "70000"),
        ("--metrics-host", ""),
        ("--interval", "0"),
        ("--lease", "1e18"),
        ("-m", "hash:9"),
        ("--column", "none"),
        ("--ready-file", "/no/such/folder/file"),
    ],
)
def test_bad_input_ends_in_one_line_and_nothing_is_written(vecfill, database, connect, flags):
    tracked_docs(connect, database, 2, filled=False)
    given = {"-m": "hash:8", "-t": "docs", "--text": "{title}"} | {flags[0]: flags[1]}
    ended = vecfill("watch", "-d", database, *[part for pair in given.items() for part in pair])
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert ended.err.startswith("vecfill: ")
    assert connect.execute("SELECT count(embedding) FROM docs").fetchone() == (0,)


def test_a_server_that_rejects_the_role_at_the_start_is_an_error(vecfill, database):
    uri = psycopg.conninfo.make_conninfo(database, user="nobody_knows")
    ended = vecfill("watch", "-d", uri, "-t", "docs", "--text", "{title}", "-m", "hash:8")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "nobody_knows" in ended.err
