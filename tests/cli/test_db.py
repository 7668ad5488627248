"""``vecfill db`` prints the URL and nothing else to stdout."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from vecfill.cli.db import db
from vecfill.errors import ConfigError
from vecfill.postgres import embedded


@pytest.fixture
def vecfill_db(home, monkeypatch):
    monkeypatch.setenv("VECFILL_HOME", str(home))
    return lambda *arguments: CliRunner().invoke(db, arguments, catch_exceptions=False)


def test_start_url_stop(vecfill_db):
    started = vecfill_db("start", "--version", "16")
    assert started.stdout.strip() == embedded.url() == vecfill_db("url").stdout.strip()
    assert "PostgreSQL 16 is running" in started.stderr
    stopped = vecfill_db("stop")
    assert (stopped.stdout, stopped.stderr) == ("", "stopped; the data stays\n")
    assert "no embedded server was running" in vecfill_db("stop").stderr


def test_url_of_a_stopped_server_is_an_error(vecfill_db):
    with pytest.raises(ConfigError, match="vecfill db start"):
        vecfill_db("url")


def test_an_unknown_version_is_a_usage_error(vecfill_db):
    assert vecfill_db("start", "--version", "17").exit_code == 2


@pytest.mark.parametrize("command", [[], ["start"], ["url"], ["stop"]])
def test_every_command_has_help(vecfill_db, command):
    assert vecfill_db(*command, "--help").exit_code == 0
