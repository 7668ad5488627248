"""A queue table may have any types that fit; what does not fit ends a run in one line, before anything is written."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.queue_table.boards import BOARD, QUEUE, board, enqueue, filled, make_board, monitored
from tests.tables import INLINE, MODEL, role

from vecfill import RetryOptions, retry, status
from vecfill.backfill.run import run
from vecfill.config.queue_options import QueueOptions
from vecfill.config.settings import Settings
from vecfill.config.target import Target
from vecfill.errors import ConfigError
from vecfill.target_tracking import track

NUMBERED = {"pending": "0", "processing": "1", "done": "2", "failed": "-1"}


@pytest.mark.parametrize(
    ("status", "stamp", "values"),
    [
        ("varchar(10)", "timestamp", {}),
        ("char(12)", "timestamptz(0)", {}),
        ('"Odd status"', "timestamptz", {}),
        ("plain_status", "timestamp(3)", {}),
        ("smallint", "moment", NUMBERED),
    ],
)
def test_types_that_fit(connect, database, status, stamp, values):
    connect.execute(
        "CREATE TYPE \"Odd status\" AS ENUM ('failed', 'pending', 'processing', 'completed');"
        "CREATE DOMAIN plain_status AS text CHECK (VALUE <> 'other'); CREATE DOMAIN moment AS timestamptz"
    )
    make_board(connect, status=status, stamp=stamp)
    connect.execute("INSERT INTO jobs SELECT n, 'title ' || n, 'note' FROM generate_series(1, 5) n")
    enqueue(connect, 1, 4, values.get("pending", "pending"))
    enqueue(connect, 5, 5, values.get("processing", "processing"), started_at="2026-01-01")
    result = run(board(**values), MODEL, database=database, options=INLINE)
    assert (result.updated, result.queue.taken_over, filled(connect)) == (5, 1, 5)
    assert monitored(connect) == {values.get("done", "completed"): 5}


def test_a_time_without_zone_is_the_server_s(connect, database):
    """A session of an application sees its own zone, and a claim must not look hours old there."""
    connect.execute(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET timezone = ''Asia/Tokyo''', current_database()); END $$"
    )
    make_board(connect, 2, stamp="timestamp")
    connect.execute(
        "SET timezone = 'Asia/Tokyo'; UPDATE embedding_queue SET status = 'processing', started_at = now()"
        " WHERE job_id = 1"
    )
    result = run(BOARD, MODEL, database=database, options=INLINE)
    assert (result.updated, result.queue.taken_over) == (1, 0)
    assert connect.execute(
        "SELECT count(*) FROM embedding_queue WHERE abs(extract(epoch FROM now() - finished_at)) < 60"
    ).fetchone() == (1,)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"table": "no_queue"}, "--queue-table no_queue: there is no such table"),
        ({"table": "a_view"}, "--queue-table a_view is a view"),
        ({"table": "parts"}, r"--queue-table public\.parts is a partitioned table"),
        ({"table": "jobs"}, r"--queue-table public\.jobs is the target itself"),
        (
            {"key": ()},
            r"embedding_queue numbers its entries by id, the name of the key of public\.jobs: name the column",
        ),
        ({"key": ("id", "job_id")}, r"--queue-key names 2 columns, and the key of public\.jobs has 1"),
        (
            {"key": ("no",)},
            "--queue-key no: the queue table public.embedding_queue has no such column; its columns are",
        ),
        ({"key": ("error",)}, r"cannot be compared with that of public\.jobs: .*give --queue-key a column of the same"),
        ({"status": "state"}, "--queue-status state: the queue table .* has no such column"),
        (
            {"pending": "waiting"},
            r"--queue-pending 'waiting' does not fit status .* of type status: invalid input value",
        ),
        ({"status": "attempts"}, "--queue-pending 'pending' does not fit attempts .* of type integer"),
        ({"only": ("kind",)}, "--queue-only 'kind': write NAME=VALUE, such as kind=job"),
        ({"only": ("kind=job",)}, "--queue-only kind: the queue table .* has no such column"),
        ({"only": ("attempts=many",)}, "--queue-only 'many' does not fit attempts .* of type integer"),
        ({"claimed": "error"}, "--queue-claimed error of public.embedding_queue has type text: it must be a timestamp"),
        ({"attempts": "error"}, r"does not take what a run writes: .*: correct \[target.queue\]"),
        ({"error": "attempts"}, r"does not take what a run writes: .*: correct \[target.queue\]"),
        ({"order": ("priority NULLS FIRST",)}, "--queue-order priority NULLS FIRST: the queue table .* no such column"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(connect, database, changes, message):
    connect.execute("CREATE TYPE status AS ENUM ('pending', 'processing', 'completed', 'failed')")
    make_board(connect, 3, status="status", reference="")
    connect.execute(
        "CREATE VIEW a_view AS SELECT * FROM embedding_queue;"
        "CREATE TABLE parts (job_id bigint, status text) PARTITION BY LIST (status)"
    )
    with pytest.raises(ConfigError, match=message) as caught:
        run(board(**changes), MODEL, database=database, options=INLINE)
    assert "\n" not in str(caught.value)
    assert (filled(connect), monitored(connect)) == (0, {"pending": 3})


@pytest.mark.parametrize("key", ["bigint PRIMARY KEY", "bigint UNIQUE REFERENCES jobs"])
def test_the_key_is_found_by_itself(connect, database, key):
    make_board(connect, 3)
    connect.execute(
        f"CREATE TABLE orders ({'job' if 'REF' in key else 'id'} {key}, status text DEFAULT 'pending');"
        "INSERT INTO orders SELECT id FROM jobs"
    )
    run(replace(BOARD, queue=QueueOptions(table="orders")), MODEL, database=database, options=INLINE)
    assert connect.execute("SELECT DISTINCT status FROM orders").fetchall() == [("completed",)]
    assert filled(connect) == 3


def test_entries_of_another_table_are_left_alone(connect, database):
    """Their keys may be keys of the target too; all others would count as rows that were deleted."""
    make_board(connect, 3)
    connect.execute(
        "CREATE TABLE texts (job_id bigint PRIMARY KEY REFERENCES jobs, title text, embedding vector(8));"
        "CREATE TABLE notes (LIKE texts INCLUDING ALL); INSERT INTO texts SELECT id, title FROM jobs WHERE id = 1"
    )
    with pytest.raises(ConfigError, match=r"--queue-key job_id: these columns .* reference jobs, so that .*notes"):
        run(replace(BOARD, table="notes"), MODEL, database=database, options=INLINE)
    assert monitored(connect) == {"pending": 3}
    assert run(replace(BOARD, table="texts"), MODEL, database=database, options=INLINE).updated == 1


def test_a_queue_that_several_tables_share_is_drained_for_one(connect, database):
    """The others' entries have keys of ours, and of no row of ours; none of them is counted, taken or changed."""
    make_board(connect, 4, reference="")
    connect.execute("ALTER TABLE embedding_queue ADD COLUMN kind text NOT NULL DEFAULT 'job'")
    enqueue(connect, 1, 99, kind="note")
    enqueue(connect, 3, 3, "completed", kind="note")
    enqueue(connect, 4, 9, "processing", kind="note", started_at="2026-01-01")
    others = "SELECT id, status, started_at FROM embedding_queue WHERE kind = 'note' ORDER BY id"
    before = connect.execute(others).fetchall()
    target = board(only=("kind = job",))
    result = run(target, MODEL, database=database, options=INLINE)
    assert (result.updated, result.exit_code, result.queue.before) == (4, 0, {"pending": 4})
    assert result.queue.after == {"completed": 4}
    connect.execute("UPDATE jobs SET embedding = NULL WHERE id = 2")
    found = status(target, database=database).queue
    assert (found.statuses, found.stuck, found.lost, found.unnamed) == ({"completed": 4}, 0, 1, 0)
    assert retry(target, RetryOptions(lost=True), database=database).rows == 1
    assert run(target, MODEL, database=database, options=INLINE).updated == 1
    assert (filled(connect), connect.execute(others).fetchall()) == (4, before)


def test_settings_of_no_queue_table_are_refused():
    with pytest.raises(ConfigError, match="--queue-key needs --queue-table"):
        QueueOptions(key=("job_id",))


def test_two_done_entries_of_a_key_must_be_possible(connect, database):
    make_board(connect, 1)
    connect.execute("CREATE UNIQUE INDEX ON embedding_queue (job_id, status)")
    with pytest.raises(ConfigError, match="two entries of one key could not both be done"):
        run(BOARD, MODEL, database=database, options=INLINE)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("REVOKE UPDATE ON embedding_queue FROM PUBLIC", "permission denied .*GRANT SELECT, UPDATE ON"),
        (
            "ALTER TABLE embedding_queue ENABLE ROW LEVEL SECURITY",
            r"row-level security of the queue table public\.embedding_queue applies to role",
        ),
    ],
)
def test_a_role_must_be_able_to_change_every_entry(connect, database, statement, message):
    make_board(connect, 3)
    connect.execute(f"GRANT ALL ON embedding_queue TO PUBLIC; {statement}")
    with role(connect, database, table="jobs") as uri, pytest.raises(ConfigError, match=message):
        run(BOARD, MODEL, database=uri, options=INLINE)
    assert monitored(connect) == {"pending": 3}


def test_a_trigger_that_takes_a_claim_back_stops_the_run(connect, database):
    make_board(connect, 3)
    connect.execute(
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql"
        " AS $$ BEGIN NEW.status = OLD.status; RETURN NEW; END $$;"
        "CREATE TRIGGER keep BEFORE UPDATE ON embedding_queue FOR EACH ROW EXECUTE FUNCTION keep()"
    )
    with pytest.raises(ConfigError, match="--queue-processing: a trigger changes it: write"):
        run(BOARD, MODEL, database=database, options=INLINE)
    assert (filled(connect), monitored(connect)) == (0, {"pending": 3})


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (
            "ADD CHECK (status IN ('pending', 'processing', 'failed', 'done'))",
            "--queue-done: .* violates check constraint",
        ),
        ("ADD CHECK (error IS NULL OR error <> 'a trial')", "--queue-failed: .* violates check constraint"),
    ],
)
def test_a_status_that_the_table_refuses_is_found_before_anything_is_written(connect, database, statement, message):
    make_board(connect, 3)
    connect.execute(f"ALTER TABLE embedding_queue {statement}")
    with pytest.raises(ConfigError, match=message):
        run(BOARD, MODEL, database=database, options=INLINE)
    assert (filled(connect), monitored(connect)) == (0, {"pending": 3})


def test_a_target_has_one_queue(connect, database):
    make_board(connect, 1)
    with pytest.raises(ConfigError, match="--order-by sorts rows of"):
        run(BOARD, MODEL, database=database, options=replace(INLINE, order_by="id"))
    with pytest.raises(ConfigError, match="takes its work from the queue table embedding_queue"):
        track(BOARD, database=database)
    track(replace(BOARD, queue=QueueOptions()), database=database)
    with pytest.raises(ConfigError, match=r"public\.jobs is tracked, so its own queue of changes names the rows"):
        run(BOARD, MODEL, database=database, options=INLINE)


def test_settings_of_a_queue_table_come_from_a_table_of_the_file(tmp_path, monkeypatch):
    file = tmp_path / "vecfill.toml"
    file.write_text(
        '[[target]]\ntable = "jobs"\n[target.queue]\ntable = "q"\nkey = ["job_id"]\npending = 0\nprocessing = 1\n'
        'stuck_minutes = 5\n[[target]]\ntable = "notes"'
    )
    first, second = (settings.of(Target).queue for settings in Settings.load_all({}, file))
    assert first == QueueOptions(table="q", key=("job_id",), pending="0", processing="1", stuck_minutes=5)
    assert second == QueueOptions()
    monkeypatch.setenv("VECFILL_QUEUE_TABLE", "other")
    assert Settings.load_all({"queue_done": "delete"}, file)[1].of(Target).queue == QueueOptions(
        table="other", done="delete"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("queue = 1", r"write the queue table's settings below \[target.queue\]"),
        ("[queue]\nstatuses = 1", "unknown key queue_statuses"),
        ("[queue]\nstuck_minutes = -1", "queue_stuck_minutes in .* -1: input should be greater than or equal to 0"),
        ("[queue]\nstuck_minutes = 1e300", "queue_stuck_minutes in .*: input should be less than or equal to 525600"),
        ("lease = 1e-9", "lease in .* 1e-09: input should be greater than or equal to 0.1"),
    ],
)
def test_a_file_s_wrong_settings_are_named(tmp_path, text, message):
    file = tmp_path / "vecfill.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        Settings.load({}, file)


def test_each_status_needs_a_value_of_its_own():
    with pytest.raises(ConfigError, match="--queue-pending 'x' is also --queue-done"):
        replace(QUEUE, pending="x", done="x")
