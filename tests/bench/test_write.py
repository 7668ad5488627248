"""``vecfill bench write`` from its command line to its report, and over a slower connection."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import astuple

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from tests.bench.far_write import ROUND_TRIP_S, measure_far
from tests.bench.test_scratch import remains
from tests.delay import delayed

from vecfill.bench import report
from vecfill.bench.write import COMPARED, WAYS, Plan
from vecfill.postgres.database import Database

KEYS = {"machine", "rows", "dim", "rounds", "batch", "writers", "round_trip_s", "ways", "ratios", "command"}


@pytest.fixture
def write(vecfill, forked):
    """Calls the verb and gives exit code, stdout and stderr."""
    return lambda *arguments: astuple(vecfill("bench", "write", *arguments))


def test_names_are_unique_and_what_is_compared_takes_part():
    names = [one.name for one in WAYS]
    assert len(set(names)) == len(names)
    assert {name for pair in COMPARED for name in pair} <= set(names)


@pytest.mark.slow
def test_every_way_over_a_slower_connection_too(database, connect, forked):
    lines = []
    found = measure_far(Plan(rows=400, dim=8, batch=50, rounds=2, writers=3), Database(database), lines.append)
    assert set(found) == KEYS - {"command"}
    assert any(line.startswith("round 2 of 2: vecfill, far: ") for line in lines)
    assert [line["name"] for line in found["ways"]] == [one.name for one in WAYS]
    for line in found["ways"]:
        assert line["rows"] == (300 if line["name"] == "update, far" else 400)
        assert len(line["rounds"]) == 2
        assert min(line["rows_per_s"], line["wal_bytes_per_row"], *line["rounds"]) > 0
        assert line["about"].endswith("over a round trip of 2 ms") == ("far" in line["name"])
    assert [(one["contender"], one["against"]) for one in found["ratios"]] == list(COMPARED)
    for one in found["ratios"]:
        assert one["least"] <= one["median"] <= one["greatest"]
    rates = {line["name"]: line["rows_per_s"] for line in found["ways"]}
    assert rates["update, far"] < 1 / ROUND_TRIP_S
    assert remains(connect) == []


@pytest.mark.slow
def test_the_command_measures_the_server_given(write, database, connect):
    given = ("-d", database, "--rows", "40", "--dim", "8", "--batch", "10", "--rounds", "1")
    code, out, err = write(*given, "--json")
    found = json.loads(out)
    assert (code, set(found)) == (0, KEYS)
    assert "round 1 of 1: vecfill, writers: " in err
    assert [line["name"] for line in found["ways"]] == [one.name for one in WAYS if not one.far]
    assert found["round_trip_s"] is None
    assert remains(connect) == []
    print_write(found)


def print_write(found):
    """The report, as the command prints it without --json."""
    with io.StringIO() as out:
        with contextlib.redirect_stdout(out):
            report.print_write(found)
        text = out.getvalue()
    assert "40 rows of 8 dimensions" in text
    assert "vecfill / bare copy+join: " in text
    assert "Median of 1 rounds" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "no database is named"),
        (("-d", "DATABASE", "--rows", "0"), "0 is not in the range"),
        (("-d", "DATABASE", "--writers", "1"), "1 is not in the range"),
        (("-d", "DATABASE", "--dim", "16001"), "16001 is not in the range"),
    ],
)
def test_what_cannot_work_ends_with_2(write, database, connect, arguments, said):
    code, out, err = write(*(database if one == "DATABASE" else one for one in arguments))
    assert (code, out) == (2, "")
    assert said in err
    assert remains(connect) == []


class PressesAt(io.StringIO):
    """A stream that sends a signal to this process once it is written such a line; ``before`` is called just before."""

    def __init__(self, line: str, number: int, before: Callable[[], None]) -> None:
        super().__init__()
        self._line, self._number, self._before = line, number, before

    def write(self, text: str) -> int:
        written = super().write(text)
        if self._line in text:
            self._before()
            os.kill(os.getpid(), self._number)
        return written


@pytest.mark.slow
def test_sigterm_leaves_nothing_behind(write, database, connect, monkeypatch):
    there = []
    err = PressesAt("round 1 of 1000: vecfill:", signal.SIGTERM, lambda: there.extend(remains(connect)))
    monkeypatch.setattr(sys, "stderr", err)
    code, *_ = write("-d", database, "--rows", "300", "--dim", "8", "--rounds", "1000")
    assert code == 143
    assert len(there) == 2  # the tables, and the ledger of the tracked one
    assert "Traceback" not in err.getvalue()
    assert remains(connect) == []


def test_help_has_examples_on_their_own_lines(write):
    code, out, _ = write("--help")
    assert code == 0
    assert re.search(r"^ +vecfill bench write --database embedded$", out, re.MULTILINE)
    assert "\\b" not in out


# -- the line


def test_a_delayed_line_is_late_and_changes_nothing(connect, database):
    late, text = 0.1, "Łódź" * 300_000
    with delayed(Database(database), late) as far, closing(far.connect()) as connection:
        assert conninfo_to_dict(far.conninfo)["hostaddr"] == "127.0.0.1"
        started = time.monotonic()
        assert connection.execute("SELECT 1").fetchone() == (1,)
        once = time.monotonic() - started
        started = time.monotonic()
        assert connection.execute("SELECT $1::text", [text]).fetchone() == (text,)
        many = time.monotonic() - started
    each_waits = late * len(text.encode()) / 65_536
    assert late <= once < each_waits
    assert late <= many < each_waits  # pieces follow one another without waiting


def test_the_line_ends_with_the_block(database):
    with delayed(Database(database), 0.001) as far, closing(far.connect()):
        pass
    with pytest.raises(psycopg.OperationalError):
        far.connect()
