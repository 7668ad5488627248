"""``--report``: a line for each row that was not updated, from a real table, as it goes."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from tests.tables import DOCS, INLINE, MODEL, another, make_docs

from vecfill.backfill.row_report import Report
from vecfill.backfill.run import run
from vecfill.config.run import RunOptions
from vecfill.errors import ConfigError, EncodeError

ROWS = 3_000


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    """Rows that are locked to the end are waited for no longer than a sweep takes."""
    monkeypatch.setattr("vecfill.backfill.drain.PAUSE_S", 0.001)


@pytest.fixture
def report(tmp_path):
    with closing(Report(tmp_path / "rows.jsonl")) as report:
        yield report


@pytest.fixture
def lines(tmp_path):
    """The lines of the report as they are now; each must be whole."""
    return lambda: [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]


def refuse(connect, condition):
    connect.execute(
        "CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;"
        f"CREATE TRIGGER act BEFORE UPDATE ON docs FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION act()"
    )


def test_each_row_that_is_not_updated_has_a_line_and_the_counts_agree(connect, database, report, lines):
    make_docs(connect, ROWS)
    connect.execute("ALTER TABLE docs ADD CONSTRAINT low CHECK (id <> 7 OR embedding IS NULL)")
    refuse(connect, "OLD.id = 9")
    with another(database) as holder:
        holder.execute("SELECT FROM docs WHERE id IN (20, 21) FOR UPDATE")
        result = run(DOCS, MODEL, database=database, options=INLINE, report=report)
    found = {line["key"]: line for line in lines()}
    assert len(lines()) == len(found) == 4
    assert {key: line["outcome"] for key, line in found.items()} == {
        **{"7": "failed", "9": "refused", "20": "locked", "21": "locked"}
    }
    assert all(set(line) == {"target", "key", "outcome", "error_class", "message"} for line in found.values())
    assert {line["target"] for line in found.values()} == {"public.docs"}
    assert found["7"]["error_class"] == "row"
    assert 'violates check constraint "low"' in found["7"]["message"]
    assert (result.failed, result.refused, result.locked, result.updated) == (1, 1, 2, ROWS - 4)
    text = json.dumps(list(found.values()))
    assert "title" not in text
    assert "note" not in text


def test_rows_that_changed_under_the_run_are_named_by_what_became_of_them(connect, database, report, lines):
    """Another session deletes, fills and edits rows between our read and our write."""
    make_docs(connect, 6_000)
    edits = [
        "BEGIN; LOCK TABLE docs IN SHARE ROW EXCLUSIVE MODE;"  # the writer waits, and then meets all of them at once
        "DELETE FROM docs WHERE embedding IS NULL AND id % 3 = 0;"
        "UPDATE docs SET embedding = array_fill(1, ARRAY[8]) WHERE embedding IS NULL AND id % 3 = 1;"
        "UPDATE docs SET title = title || ' anew' WHERE embedding IS NULL; COMMIT"
    ]

    def progress(event) -> None:
        while event.done and edits:
            connect.execute(edits.pop())

    result = run(DOCS, MODEL, database=database, options=INLINE, report=report, progress=progress)
    outcomes = Counter(line["outcome"] for line in lines())
    assert outcomes == {"gone": result.gone, "filled": result.filled}
    assert min(result.stale, result.gone, result.filled) > 0
    assert connect.execute("SELECT count(*) FROM docs WHERE embedding IS NULL").fetchone() == (0,)


def test_rows_found_locked_that_another_fills_before_the_end_are_not_open(connect, database, report, lines):
    make_docs(connect, 10)
    with another(database) as holder:
        holder.execute("UPDATE docs SET embedding = array_fill(1, ARRAY[8]) WHERE id = 2")
        commit = lambda event: event.done and holder.commit()  # noqa: E731
        result = run(DOCS, MODEL, database=database, options=INLINE, report=report, progress=commit)
    assert (result.outcome, result.updated, result.locked, result.remaining) == ("complete", 9, 0, 0)
    assert lines() == []


def test_a_failed_row_has_one_line_however_often_it_is_tried(connect, database, report, lines):
    make_docs(connect, 50)
    refuse(connect, "OLD.id IN (3, 4)")
    with another(database) as holder:
        holder.execute("SELECT FROM docs WHERE id = 20 FOR UPDATE")
        result = run(DOCS, MODEL, database=database, options=INLINE, report=report)
    assert result.sweeps > 1
    assert sorted(line["key"] for line in lines()) == ["20", "3", "4"]


def test_lines_are_there_while_the_run_goes_on_and_open_rows_when_it_breaks(connect, database, report, lines):
    make_docs(connect, ROWS)
    refuse(connect, "OLD.id = 3")
    seen = []

    def progress(event) -> None:
        if event.done:
            seen.append([line["key"] for line in lines()])
        if len(seen) > 1:
            raise RuntimeError("broken")

    with another(database) as holder:
        holder.execute("SELECT FROM docs WHERE id = 2 FOR UPDATE")
        with pytest.raises(RuntimeError, match="broken"):
            run(DOCS, MODEL, database=database, options=INLINE, report=report, progress=progress)
    assert seen[0] == ["3"]
    assert [(line["key"], line["outcome"]) for line in lines()] == [("3", "refused"), ("2", "locked")]


def test_keys_of_several_columns_are_written_as_the_server_does(connect, database, report, lines):
    connect.execute(
        "CREATE TABLE docs (a int, b text, title text, embedding vector(8), PRIMARY KEY (a, b));"
        "INSERT INTO docs SELECT 1, 'x, ' || n || E'\\nü', 'title', NULL FROM generate_series(1, 2) n"
    )
    refuse(connect, "true")
    run(DOCS, MODEL, database=database, options=INLINE, report=report)
    assert {line["key"] for line in lines()} == {'(1,"x, 1\nü")', '(1,"x, 2\nü")'}


def test_a_report_is_written_anew_and_one_that_cannot_be_is_said(tmp_path):
    (tmp_path / "old").write_text("left from before\n")
    Report(tmp_path / "old").close()
    assert (tmp_path / "old").read_text() == ""
    with pytest.raises(ConfigError, match=r"--report .*/no/such cannot be written: No such file or directory: check"):
        Report(tmp_path / "no" / "such")


def test_rows_in_quarantine_are_bounded(connect, database, report, lines, monkeypatch):
    """The driver holds their keys: so many share a cause, and the run is stopped with all of them in the report."""
    monkeypatch.setattr("vecfill.backfill.tally.MAX_QUARANTINED", 5)
    make_docs(connect, 60)
    connect.execute("ALTER TABLE docs ADD CHECK (id % 4 <> 0 OR embedding IS NULL)")
    with pytest.raises(EncodeError, match="more than 5 rows failed"):
        run(DOCS, MODEL, database=database, options=RunOptions(engine=INLINE.engine), report=report)
    assert len(lines()) > 5


def test_a_disk_that_is_full_does_not_end_the_run(connect, database, caplog):
    make_docs(connect, ROWS)
    refuse(connect, "OLD.id = 9")
    with closing(Report(Path("/dev/full"))) as report:
        result = run(DOCS, MODEL, database=database, options=INLINE, report=report)
    assert (result.exit_code, result.updated) == (3, ROWS - 1)
    assert [row.key for row in result.quarantine] == ["9"]
    assert [one.message for one in caplog.records if "--report" in one.message] == [
        "--report /dev/full is incomplete: No space left on device: the result lists the rows too"
    ]
