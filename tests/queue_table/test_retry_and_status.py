"""``vecfill status`` shows what a queue table says; ``vecfill retry`` puts its entries back by an explicit act."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from tests.queue_table.boards import add_jobs, enqueue, filled, make_board, monitored
from tests.tables import MODEL

SETTINGS = """
model = "{model}"
engine = "inline"
[[target]]
table = "public.jobs"
text = "{{title}}"
[target.queue]
table = "embedding_queue"
claimed = "started_at"
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    file = tmp_path / "vecfill.toml"
    file.write_text(SETTINGS.format(model=MODEL.name))
    return str(file)


@pytest.fixture
def jobs(connect: psycopg.Connection) -> psycopg.Connection:
    """Two entries wait, one is stuck, two failed, three are done without a vector, and a row has no entry."""
    make_board(connect, 2)
    add_jobs(connect, 3, 10)
    enqueue(connect, 3, 3, "processing", started_at="2026-01-01")
    enqueue(connect, 4, 5, "failed")
    enqueue(connect, 6, 8, "completed")
    enqueue(connect, 6, 6, "completed")
    connect.execute("UPDATE jobs SET title = '' WHERE id = 8")
    enqueue(connect, 9, 9, "completed")
    enqueue(connect, 9, 9, "failed")
    return connect


def test_status_says_what_the_queue_holds_and_what_it_leaves_out(jobs, database, config, vecfill):
    before = monitored(jobs)
    found = vecfill("status", "-d", database, "--config", config, "--json").json["queue"]
    age = found.pop("oldest_claim_s")
    assert age > 1e6
    assert found == {
        "table": "public.embedding_queue",
        "statuses": {"completed": 5, "failed": 3, "pending": 2, "processing": 1},
        "stuck": 1,
        "lost": 2,
        "unnamed": 1,
        "indexed": True,
    }
    assert before == monitored(jobs)
    page = vecfill("status", "-d", database, "--config", config).out
    assert "queue table public.embedding_queue: 5 completed, 3 failed, 2 pending, 1 processing\n" in page
    assert "1 stuck: the next run takes them over" in page
    assert "2 rows have no vector and only done entries: see `vecfill retry --lost`" in page


def test_a_run_says_before_and_after(jobs, database, config, vecfill):
    page = vecfill("run", "-d", database, "--config", config).out
    assert (
        "queue table public.embedding_queue: 5 completed, 3 failed, 2 pending, 1 processing -> 8 completed, 3 failed\n"
        in page
    )
    assert "public.jobs: 1 row has no vector and no entry: `vecfill run --queue-rest` embeds them" in page


def test_lost_rows_are_put_back_once_each(jobs, database, config, vecfill):
    ended = vecfill("retry", "-d", database, "--config", config, "--lost", "--json")
    assert ended.json == {"table": "public.jobs", "rows": 2, "not_found": []}
    assert monitored(jobs) == {"completed": 3, "failed": 3, "pending": 4, "processing": 1}
    assert vecfill("run", "-d", database, "--config", config, "--json").json["updated"] == 5
    assert filled(jobs) == 5


@pytest.mark.parametrize("which", [("--all",), ("--key", "4", "--key", "5", "--key", "9", "--key", "6")])
def test_failed_entries_are_put_back(jobs, database, config, vecfill, which):
    assert vecfill("retry", "-d", database, "--config", config, *which, "--json").json["rows"] == 3
    assert monitored(jobs) == {"completed": 5, "pending": 5, "processing": 1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--stage", "read"), "the queue table embedding_queue does not say where a row failed"),
        (("--lost", "--all"), "which rows to retry is not clear"),
    ],
)
@pytest.mark.usefixtures("jobs")
def test_what_cannot_be_retried(database, config, vecfill, arguments, message):
    ended = vecfill("retry", "-d", database, "--config", config, *arguments)
    assert (ended.code, message in ended.err) == (2, True)


@pytest.mark.usefixtures("jobs")
def test_lost_entries_need_a_queue_table_that_keeps_them(database, config, vecfill, monkeypatch):
    ended = vecfill("retry", "-d", database, "-t", "public.jobs", "--lost")
    assert (ended.code, "--lost needs a queue table" in ended.err) == (2, True)
    monkeypatch.setenv("VECFILL_QUEUE_DONE", "delete")
    ended = vecfill("retry", "-d", database, "--config", config, "--lost")
    assert (ended.code, "none is left to put back" in ended.err) == (2, True)


@pytest.mark.usefixtures("jobs")
def test_a_status_of_a_queue_table_that_does_not_fit_says_so(database, vecfill):
    ended = vecfill("status", "-d", database, "-t", "jobs", "--queue-table", "no_queue", "--json")
    assert (ended.code, ended.json.get("queue")) == (0, None)
    assert "--queue-table no_queue: there is no such table" in ended.json["run_needs"]
