"""Classes of faults, and that every exception of ours crosses a process border."""

from __future__ import annotations

import importlib
import inspect
import pickle
import pkgutil

import psycopg
import pytest

import vecfill
from vecfill.errors import ConfigError, DatabaseError, EncodeError, Fault, MixedModelsError, VecfillError, classify
from vecfill.postgres.driver_errors import is_transient

LIGHT = (
    *("errors", "bisection", "config", "backfill.run", "backfill.prepare"),
    *("encode.row_encoder", "encode.stage", "postgres.session"),
)


def subclasses(of: type) -> set[type]:
    return {of} | {found for one in of.__subclasses__() for found in subclasses(one)}


def our_exceptions() -> list[type]:
    for name in LIGHT:
        importlib.import_module(f"vecfill.{name}")
    found = {one for one in subclasses(VecfillError) if one.__module__.startswith("vecfill.")}
    return sorted(found, key=lambda one: one.__name__)


@pytest.mark.parametrize(
    ("sqlstate", "fault"),
    [
        (None, Fault.TRANSIENT),
        ("08006", Fault.TRANSIENT),
        ("08P01", Fault.TRANSIENT),
        ("40001", Fault.TRANSIENT),
        ("40P01", Fault.TRANSIENT),
        ("55P03", Fault.TRANSIENT),
        ("57P01", Fault.TRANSIENT),
        ("57P02", Fault.TRANSIENT),
        ("57P03", Fault.TRANSIENT),
        ("53300", Fault.TRANSIENT),
        ("57014", Fault.RESOURCE),
        ("25P03", Fault.RESOURCE),
        ("25P04", Fault.RESOURCE),
        ("57P05", Fault.TRANSIENT),
        ("22000", Fault.ROW),
        ("22003", Fault.ROW),
        ("23505", Fault.ROW),
        ("23514", Fault.ROW),
        ("P0001", Fault.ROW),
        ("54000", Fault.ROW),
        ("42501", Fault.ROW),
        ("42P01", Fault.CONFIGURATION),
        ("42703", Fault.CONFIGURATION),
        ("25006", Fault.CONFIGURATION),
        ("55000", Fault.CONFIGURATION),
        ("28P01", Fault.CONFIGURATION),
        ("40002", Fault.FATAL),
        ("XX000", Fault.ROW),
        ("58030", Fault.FATAL),
    ],
)
def test_classes_of_sqlstates(sqlstate, fault):
    assert classify(sqlstate) is fault


def test_every_sqlstate_that_psycopg_knows_has_a_class():
    known = [getattr(one, "sqlstate", None) for _, one in inspect.getmembers(psycopg.errors, inspect.isclass)]
    known = [sqlstate for sqlstate in known if isinstance(sqlstate, str)]
    assert len(known) > 200
    assert all(isinstance(classify(sqlstate), Fault) for sqlstate in known)


@pytest.mark.parametrize("kind", our_exceptions(), ids=lambda kind: kind.__name__)
def test_every_exception_survives_pickling(kind):
    error = pickle.loads(pickle.dumps(kind("docs.embedding is vector(768)")))
    assert type(error) is kind
    assert str(error) == "docs.embedding is vector(768)"
    assert error.exit_code == kind.exit_code


INSIDE = {
    *("RefusedError", "RetryableError", "SplitRequestError", "WrongAnswerError", "NotNativeError"),
    "MissingWeightError",
    *("FastTokenizerError", "LostWhileWritingError"),
}
"""Never leave their stage. The encode stage takes what is none of our errors for the fault of a text; the last is an
error of the driver's kind, which the writer's retries know."""


@pytest.mark.slow  # imports everything
@pytest.mark.models
def test_every_exception_of_the_package_has_the_one_root():
    for module in pkgutil.walk_packages(vecfill.__path__, "vecfill."):
        if module.name.rsplit(".", 1)[-1] in ("actors", "datasource", "ray", "transformer", "__main__"):
            continue
        for name, one in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(one, Exception) and one.__module__.startswith("vecfill.") and name not in INSIDE:
                assert issubclass(one, VecfillError), f"{module.name}.{name}"


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (psycopg.InternalError("received 2 results from command 'COMMIT'"), True),
        (psycopg.errors.InternalError_("the server's own, with a SQLSTATE"), False),
        (psycopg.ProgrammingError("of the caller"), False),
    ],
)
def test_an_answer_out_of_place_is_a_broken_connection(error, passes):
    """A pooler gave it whose server restarted during a COMMIT."""
    assert is_transient(error) is passes


def test_exit_codes():
    assert [one.exit_code for one in (VecfillError, DatabaseError, EncodeError)] == [1, 1, 1]
    assert [one.exit_code for one in (ConfigError, MixedModelsError)] == [2, 2]
