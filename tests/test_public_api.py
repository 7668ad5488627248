"""What ``from vecfill import …`` gives: whole, lazy, and never hidden by a module."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
import types
import typing
from pathlib import Path

import pytest
from tests.tables import make_docs

import vecfill
from vecfill import errors


def public(found) -> set[str]:
    """Names of the classes of ours in an annotation."""
    if isinstance(found, type) and found.__module__.partition(".")[0] == "vecfill":
        return {found.__name__}
    inner = typing.get_args(found)
    flat = [one for part in inner for one in (part if isinstance(part, list) else [part])]
    return set().union(*map(public, flat))


@pytest.mark.parametrize(
    "function",
    [
        vecfill.run,
        vecfill.plan,
        vecfill.search,
        vecfill.status,
        vecfill.track,
        vecfill.verify,
        vecfill.retry,
        vecfill.watch,
        *(getattr(vecfill, name) for name in vecfill.__all__ if "migration" in name),
    ],
)
def test_everything_that_a_signature_names_is_exported(function):
    hints = typing.get_type_hints(function)
    needed = set().union(*map(public, hints.values()))
    assert needed
    assert needed - set(vecfill.__all__) == set()


@pytest.mark.parametrize(
    "spec",
    [
        vecfill.Target,
        vecfill.Model,
        vecfill.RunOptions,
        vecfill.RunResult,
        vecfill.RunPlan,
        vecfill.Status,
        vecfill.VerifyResult,
        vecfill.Watched,
        vecfill.StepOptions,
        *(getattr(vecfill, name) for name in vecfill.__all__ if name.startswith("Migration")),
    ],
)
def test_everything_that_a_field_of_these_names_is_exported(spec):
    hints = typing.get_type_hints(spec)
    assert set().union(*map(public, hints.values())) - set(vecfill.__all__) == set()


def test_all_errors_are_exported():
    ours = {name for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, Exception)}
    assert len(ours) > 9
    assert ours - set(vecfill.__all__) == set()


def test_the_names_are_the_same_for_a_type_checker():
    tree = ast.parse(Path(vecfill.__file__).read_text())
    (checking,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {(node.module, one.name) for node in checking.body for one in node.names}
    assert seen == {(module, name) for name, module in vecfill._MODULES.items()}
    assert set(dir(vecfill)) >= set(vecfill.__all__)


def test_every_public_name_is_documented():
    missing = [name for name in vecfill.__all__ if not inspect.getdoc(getattr(vecfill, name))]
    assert missing == []


def test_no_module_hides_a_function():
    modules = {one.name for one in pkgutil.iter_modules(vecfill.__path__)}
    assert modules & set(vecfill.__all__) == set()
    for name in sorted(modules - {"__main__"}):
        importlib.import_module(f"vecfill.{name}")
    assert isinstance(vecfill.search, types.FunctionType)
    assert isinstance(vecfill.status, types.FunctionType)


def test_a_library_logs_nothing_until_asked():
    script = "import logging, vecfill; logging.getLogger('vecfill.x').warning('heard');"
    script += "assert [type(one) for one in logging.getLogger('vecfill').handlers] == [logging.NullHandler]"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == ("", "")


def test_run_status_and_search_from_python(connect, database):
    make_docs(connect, 20)
    target, model = vecfill.Target(table="docs", text="{title}"), vecfill.Model(name="hash:8")
    assert vecfill.status(target, database=database).coverage.missing == 20
    assert vecfill.run(target, model, database=database).updated == 20
    found = vecfill.status(target, database=vecfill.Database(database))
    assert (found.table, found.coverage.filled) == ("public.docs", 20)
    hits = vecfill.search(target, model, "title 7", database=database, limit=1, show=("title",)).hits
    assert [(hit.key, hit.values) for hit in hits] == [("7", ("title 7",))]


def test_what_cannot_work_is_an_error_of_ours(monkeypatch):
    for name in ("PGHOST", "PGDATABASE", "PGSERVICE", "PGHOSTADDR", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(vecfill.ConfigError, match="no database is named"):
        vecfill.status(vecfill.Target(table="docs"))
