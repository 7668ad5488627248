"""The examples for cron and systemd: what they say is true and what they call is there."""

from __future__ import annotations

import fcntl
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.needs import needs_tool
from tests.tables import make_docs

import vecfill

ROOT = Path(vecfill.__file__).parents[2]
UNITS = ROOT / "scripts" / "systemd"


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, **options)


@pytest.fixture
def installed(tmp_path):
    """The cron script beside a ``vecfill`` of this environment, as after an installation."""
    shutil.copy(ROOT / "scripts" / "cron" / "vecfill-cron", tmp_path)
    program = tmp_path / "vecfill"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m vecfill "$@"\n')
    program.chmod(0o755)
    return tmp_path


@pytest.fixture
def settings(database, installed):
    """What an administrator writes."""
    (installed / "environment").write_text(f"DATABASE_URL='{database}'\nVECFILL_MODEL='hash:8'\n")
    (installed / "vecfill.toml").write_text('engine = "inline"\ntable = "docs"\ntext = "title"\n')
    return installed


@pytest.mark.slow
def test_a_tick_of_cron_is_a_run_unless_one_goes_on(connect, settings):
    make_docs(connect, 20)
    with (settings / "vecfill.toml").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        ended = run(settings / "vecfill-cron", settings)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert connect.execute("SELECT count(embedding) FROM docs").fetchone() == (0,)
    ended = run(settings / "vecfill-cron", settings)
    assert (ended.returncode, json.loads(ended.stdout)["updated"]) == (0, 20), ended.stderr


def test_cron_hands_on_the_exit_code(settings):
    (settings / "vecfill.toml").write_text("tabel = 1\n")
    ended = run(settings / "vecfill-cron", settings)
    assert (ended.returncode, json.loads(ended.stdout)["exit_code"]) == (2, 2)
    assert "unknown key tabel" in ended.stderr


def test_systemd_takes_the_units(tmp_path):
    needs_tool("systemd-analyze")
    for unit in UNITS.iterdir():
        text = unit.read_text().replace("/opt/vecfill/bin/vecfill ", f"{sys.executable} ")
        (tmp_path / unit.name).write_text(text)
    ended = run("systemd-analyze", "verify", "--recursive-errors=one", *sorted(tmp_path.iterdir()))
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    (tmp_path / "vecfill.service").write_text(f"{text}\nKillMode=nonsense\n[Service]\nNonsense=yes\n")
    assert run("systemd-analyze", "verify", tmp_path / "vecfill.service").stderr != ""


@pytest.mark.parametrize(
    ("unit", "kind", "success"), [("vecfill", "oneshot", "5 143"), ("vecfill-watch", "notify", "143")]
)
def test_the_units_call_what_there_is_and_stop_our_process_alone(vecfill, unit, kind, success):
    text = (UNITS / f"{unit}.service").read_text()
    (command,) = re.findall(r"^ExecStart=/opt/vecfill/bin/vecfill (.+)$", text, re.MULTILINE)
    offered = vecfill(command.split()[0], "--help")
    assert offered.code == 0
    assert all(f"{flag} " in offered.out for flag in re.findall(r"--[\w-]+", command))
    assert {"KillMode=mixed", f"Type={kind}", f"SuccessExitStatus={success}"} <= set(text.splitlines())
