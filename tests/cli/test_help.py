"""Help that is whole, true and quick."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import vecfill as package
from vecfill.cli import VERBS
from vecfill.cli.search import WRITTEN
from vecfill.cli.watch import ONCE
from vecfill.config.connection import DatabaseOptions
from vecfill.config.doctor import DoctorOptions
from vecfill.config.hooks import HookOptions
from vecfill.config.migrate import IndexOptions, LockOptions, MigrateOptions, SwapOptions
from vecfill.config.model import Model
from vecfill.config.options import options_of
from vecfill.config.plan import PlanOptions
from vecfill.config.retry import RetryOptions
from vecfill.config.run import ReportFile, RunOptions
from vecfill.config.settings import OUTPUT, QUEUE_SETTINGS
from vecfill.config.status import StatusOptions
from vecfill.config.target import Target
from vecfill.config.track import TrackOptions
from vecfill.config.verify import VerifyOptions
from vecfill.config.watch import WatchOptions
from vecfill.remembered_failures import NOT_TAKEN

ROOT = Path(package.__file__).parents[2]
OFFERS = {
    "run": (*options_of(DatabaseOptions, Target, Model, RunOptions, ReportFile, HookOptions), *OUTPUT.values()),
    "plan": (*options_of(DatabaseOptions, Target, Model, RunOptions, PlanOptions), *OUTPUT.values()),
    "track": (*options_of(DatabaseOptions, Target, Model, TrackOptions, without=QUEUE_SETTINGS), *OUTPUT.values()),
    "verify": (*options_of(DatabaseOptions, Target, Model, VerifyOptions, without=QUEUE_SETTINGS), *OUTPUT.values()),
    "failures": (*options_of(DatabaseOptions, Target, without=(*NOT_TAKEN, *QUEUE_SETTINGS)), *OUTPUT.values()),
    "retry": (*options_of(DatabaseOptions, Target, RetryOptions, without=NOT_TAKEN), *OUTPUT.values()),
    "watch": (*options_of(DatabaseOptions, Target, Model, RunOptions, WatchOptions, without=ONCE), *OUTPUT.values()),
    "doctor": (*options_of(DatabaseOptions, Target, Model, DoctorOptions), *OUTPUT.values()),
    "status": (*options_of(DatabaseOptions, Target, StatusOptions, without=("set",)), *OUTPUT.values()),
    "migrate start": options_of(MigrateOptions, LockOptions),
    "migrate run": options_of(IndexOptions),
    "migrate swap": options_of(SwapOptions, without=("refresh",)),
    "search": (*options_of(DatabaseOptions, Target, Model, without=WRITTEN), *OUTPUT.values()),
}


def words(text: str) -> str:
    """The text on one line, as help wraps it anywhere."""
    return " ".join(text.split())


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example_on_its_own_lines(vecfill, verb):
    ended = vecfill(verb, "--help")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"Usage: vecfill {verb} ")
    assert VERBS[verb] in words(ended.out) or verb == "db"
    assert re.search(rf"^ +vecfill {verb}( |$)", ended.out, re.MULTILINE)
    assert "\\b" not in ended.out


def test_the_top_lists_the_verbs_with_an_example_on_its_own_lines(vecfill):
    ended = vecfill("--help")
    assert ended.code == 0
    for verb, text in VERBS.items():
        assert re.search(rf"^  {verb} +{re.escape(text)}$", ended.out, re.MULTILINE)
    assert re.search(r"^  vecfill demo ", ended.out, re.MULTILINE)
    assert "\\b" not in ended.out
    assert vecfill("-h").out == ended.out


@pytest.mark.parametrize("verb", OFFERS)
def test_every_option_shows_its_flag_variable_and_default(vecfill, verb):
    out = words(vecfill(*verb.split(), "--help").out)
    for option in OFFERS[verb]:
        default = f"; default: {option.default}" if option.default else ""
        shown = (f"{option.flag} ", f"[env: VECFILL_{option.name.upper()}{default}]", words(option.info.description))
        assert [text for text in shown if text not in out] == [], option.name


def test_version(vecfill):
    assert vecfill("--version").out == f"vecfill, version {package.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["fly"], ["run", "--fly"], ["run", "away"]])
def test_usage_errors_end_with_2(vecfill, arguments):
    ended = vecfill(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert "Usage: vecfill" in ended.err


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_imports_no_verb_and_nothing_heavy(arguments):
    script = "import sys; from vecfill.cli import vecfill; vecfill.main(sys.argv[1:], standalone_mode=False)"
    script += "; print(*sys.modules, file=sys.stderr)"
    ended = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    loaded = set(ended.stderr.split())
    assert not {"torch", "ray", "numpy", "pyarrow", "psycopg", "vecfill.cli.run"} & loaded


def test_the_readme_names_every_verb():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [verb for verb in VERBS if not re.search(rf"vecfill {verb}\b", text)] == []
