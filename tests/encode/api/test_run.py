"""Whole runs through an API: real tables, real servers, the command line as a stranger calls it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tests.encode.api import server
from tests.encode.api.server import KEY, first, serving, status, tokens_of
from tests.tables import (
    DOCS,
    INLINE,
    add_docs,
    assert_every_vector_is_its_texts,
    make_docs,
    meanwhile,
    vectors,
    wait_until,
)

from vecfill.backfill.run import run
from vecfill.config.api import ApiOptions
from vecfill.config.engine import EngineOptions
from vecfill.config.model import Model
from vecfill.config.run import RunOptions
from vecfill.encode.api import concurrency
from vecfill.errors import ConfigError, EncodeError, MixedModelsError
from vecfill.job import Stop
from vecfill.postgres.database import Database
from vecfill.vector_search import nearest

ROWS = 3_000


def model(url: str, **api) -> Model:
    return Model(name="openai:test", api=ApiOptions(base_url=url, **api))


def fill(database, url, *, target=DOCS, **api):
    return run(target, model(url, **api), database=database, options=INLINE)


def command(database: str, url: str, *more: str) -> list[str]:
    arguments = ("-d", database, "-t", "docs", "--text", "{title}", "-m", "openai:test", "--base-url", url)
    return [sys.executable, "-m", "vecfill", "run", *arguments, *more]


def environment(**variables: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **variables}


def test_every_vector_is_the_server_s_own(connect, database):
    make_docs(connect, ROWS)
    with serving(server.reversed_order) as api:
        result = fill(database, api.url, price_per_million=1.0)
    assert (result.outcome, result.updated, result.failed) == ("complete", ROWS, 0)
    assert_every_vector_is_its_texts(connect, rows=ROWS)
    assert sorted(api.seen.texts) == sorted(f"title {row}" for row in range(1, ROWS + 1))
    assert (result.device, result.engine) == ("api", "inline")
    assert (result.api.requests, result.api.tokens) == (api.seen.requests, api.seen.tokens)
    assert result.api.cost_usd == pytest.approx(api.seen.tokens / 1e6)
    assert result.tokens_per_s > 0


@pytest.mark.slow
def test_a_run_through_storms_and_broken_answers_fills_all(connect, database):
    make_docs(connect, ROWS)
    faults = [status(429), status(429, Retry_After="0.1"), status(500), server.closed_mid_body, server.too_few]
    with serving(server.at_first(*faults, server.right, then=server.reversed_order)) as api:
        result = fill(database, api.url, request_inputs=100)
    assert (result.outcome, result.updated) == ("complete", ROWS)
    assert_every_vector_is_its_texts(connect, rows=ROWS)


def test_each_distinct_text_is_sent_once(connect, database):
    make_docs(connect, 6_000)
    connect.execute("UPDATE docs SET title = 'title ' || id % 700")
    with serving() as api:
        result = fill(database, api.url)
    assert (result.updated, result.reused) == (6_000, 5_300)
    assert len(api.seen.texts) == 700  # also those of blocks that were under way together


def test_nothing_eligible_sends_no_byte(connect, database):
    make_docs(connect, 0)
    with serving() as api:
        assert fill(database, api.url).outcome == "complete"
    assert api.seen.requests == 0


@pytest.mark.parametrize(
    ("column", "truncate_dim", "says"),
    [
        ("vector(9)", None, r"has 9 dimensions but model test at 127\.0\.0\.1 gives 8"),
        ("vector(9)", 4, r"is vector\(9\) but model openai:test gives 4"),
        ("real[]", None, "nor model openai:test declares its dimension: pass --dim"),
    ],
)
def test_a_dimension_that_does_not_fit_is_found_before_a_row_is_written(connect, database, column, truncate_dim, says):
    make_docs(connect, 50, vector=column)
    with serving() as api:
        asked = Model(name="openai:test", truncate_dim=truncate_dim, api=ApiOptions(base_url=api.url))
        with pytest.raises(ConfigError, match=says):
            run(DOCS, asked, database=database, options=INLINE)
    assert api.seen.requests <= 1
    assert vectors(connect) == []


def test_another_model_s_vectors_stop_the_run(connect, database):
    make_docs(connect, 40)
    connect.execute("UPDATE docs SET embedding = ARRAY[id, 1, -1, 0, 0, 0, 0, -9]::real[] WHERE id <= 20")
    with serving() as api, pytest.raises(MixedModelsError, match="0 of 20 sampled vectors"):
        fill(database, api.url)


def test_a_stop_does_not_wait_for_an_api_that_does_not_answer(connect, database, monkeypatch):
    monkeypatch.setattr(concurrency, "ANSWER_S", 0.1)
    make_docs(connect, 40)
    stop, go_on = Stop(), threading.Event()

    def act(_):
        stop.set("SIGTERM")
        go_on.wait(60)

    with serving(act) as api:
        result = run(DOCS, model(api.url, price_per_million=1.0), database=database, options=INLINE, stop=stop)
        go_on.set()
    assert (result.outcome, result.updated, result.remaining, result.api.requests) == ("stopped", 0, 40, 1)
    assert result.api.tokens > 0  # they may have been charged


def test_texts_that_the_api_refuses_are_set_aside_by_key(connect, database):
    make_docs(connect, 300)

    def act(request):
        if any(text in ("title 7", "title 200") for text in request.texts):
            request.error(400, "This model's maximum context length is 8192 tokens", code="context_length_exceeded")
        else:
            request.answer()

    with serving(act) as api:
        result = fill(database, api.url)
    assert (result.updated, result.failed, result.exit_code) == (298, 2, 3)
    assert {row.key for row in result.quarantine} == {"7", "200"}
    assert all("maximum context length" in row.error for row in result.quarantine)
    assert_every_vector_is_its_texts(connect, rows=298)


def test_an_api_that_fails_for_good_keeps_what_was_committed(connect, database):
    make_docs(connect, ROWS)
    with serving(first(3, server.right, status(500))) as api, pytest.raises(EncodeError, match="HTTP 500"):
        fill(database, api.url, request_inputs=512, max_concurrency=1)
    assert_every_vector_is_its_texts(connect)
    with serving() as api:
        assert fill(database, api.url).outcome == "complete"
    assert_every_vector_is_its_texts(connect, rows=ROWS)


@pytest.mark.parametrize(
    ("budget", "says"),
    [({"max_requests": 4}, "--max-requests 4 is reached"), ({"max_cost": 0.002}, "--max-cost 0.002 could be exceeded")],
)
def test_a_budget_ends_a_run_as_incomplete_and_a_rerun_goes_on(connect, database, caplog, budget, says):
    make_docs(connect, ROWS)
    options = {"request_inputs": 100, "price_per_million": 1.0}
    with serving() as api:
        result = fill(database, api.url, **budget, **options)
        assert (result.outcome, result.exit_code) == ("incomplete", 5)
        assert says in caplog.text
        assert api.seen.requests <= budget.get("max_requests", ROWS)
        assert api.seen.tokens <= budget.get("max_cost", 1.0) * 1e6
        assert 0 < result.updated == len(vectors(connect)) == len(set(api.seen.texts)) < ROWS
        assert result.remaining == ROWS - result.updated
        assert fill(database, api.url, **options).outcome == "complete"
        assert len(api.seen.texts) == ROWS + 32  # 32 of them for the sample
    assert_every_vector_is_its_texts(connect, rows=ROWS)


def test_a_budget_that_is_spent_on_the_sample_writes_nothing(connect, database):
    make_docs(connect, 100)
    with serving() as api:
        fill(database, api.url, max_requests=1, request_inputs=50)
        add_docs(connect, 101, 200)
        result = fill(database, api.url, max_requests=1)
        assert (result.outcome, result.updated, api.seen.requests) == ("incomplete", 0, 2)
        with pytest.raises(ConfigError, match="price of test"):
            fill(database, api.url, max_cost=1.0)


def test_a_stop_does_not_wait_for_an_api_that_asks_for_minutes(connect, database):
    make_docs(connect, ROWS)
    stop = Stop()

    def watch(done: threading.Event) -> None:
        wait_until(lambda: api.seen.requests >= 4 or done.is_set())
        stop.set("SIGTERM")

    with serving(first(3, server.right, status(429, Retry_After="200"))) as api, meanwhile(watch):
        started = time.monotonic()
        result = run(DOCS, model(api.url, request_inputs=100), database=database, options=INLINE, stop=stop)
        assert time.monotonic() - started < 100
    assert (result.outcome, result.updated) == ("stopped", 300)
    assert_every_vector_is_its_texts(connect, rows=300)


def test_search_asks_the_api_for_the_query(connect, database):
    make_docs(connect, 100)
    with serving() as api:
        fill(database, api.url)
        before = api.seen.requests
        with Database(database).connect() as connection:
            found = nearest(connection, DOCS, model(api.url), "title 42", limit=1)
        assert (found.hits[0].key, api.seen.requests) == ("42", before + 1)
        assert found.hits[0].distance == pytest.approx(0, abs=1e-6)


# ------------------------------------------------------------------------------------------ the command line, the key


def everything_stored(connect) -> str:
    return repr(connect.execute("SELECT t::text FROM docs t").fetchall()) + repr(
        connect.execute("SELECT query, application_name FROM pg_stat_activity").fetchall()
    )


def commands_of(process: subprocess.Popen) -> str:
    """What ``ps`` shows of all processes."""
    lines = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            lines.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
        except OSError:
            continue
    assert any("openai:test" in line for line in lines), process.poll()
    return "\n".join(lines)


@pytest.mark.slow
@pytest.mark.parametrize("by", ["variable", "command"])
def test_the_command_line_fills_a_table_and_shows_the_key_nowhere(connect, database, tmp_path, by):
    make_docs(connect, 1_500)
    file = tmp_path / "key"
    file.write_text(KEY)
    more = ["--api-key-command", f"cat {file}"] if by == "command" else []
    variables = {"VECFILL_API_KEY": KEY} if by == "variable" else {}
    with serving(first(1, server.stalls(1.0)), key=KEY) as api:
        process = subprocess.Popen(
            command(database, api.url, "--json", "--verbose", "--engine", "inline", *more),
            env=environment(**variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_until(lambda: api.seen.requests or process.poll() is not None)
        shown = commands_of(process) + everything_stored(connect)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    result = json.loads(out)
    assert (result["updated"], result["device"]) == (1_500, "api")
    assert result["api"]["tokens"] == api.seen.tokens
    assert_every_vector_is_its_texts(connect, rows=1_500)
    assert api.seen.keys == {f"Bearer {KEY}"}
    assert KEY not in out + err + shown + everything_stored(connect)


@pytest.mark.slow
def test_a_key_that_is_refused_is_one_line_without_it(connect, database):
    make_docs(connect, 10)
    with serving(key="another") as api:
        ended = subprocess.run(
            command(database, api.url, "--verbose", "--engine", "inline"),
            env=environment(OPENAI_API_KEY=KEY),
            capture_output=True,
            text=True,
            check=False,
        )
    assert ended.returncode == 2
    assert "does not accept the key (HTTP 401)" in ended.stderr
    assert KEY not in ended.stdout + ended.stderr


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's own settings, at its import
def test_on_ray_all_encoders_share_one_budget(connect, database, warm, caplog):
    make_docs(connect, ROWS)
    options = RunOptions(engine=EngineOptions(engine="ray", actors=2))
    with serving() as api, caplog.at_level("INFO", "vecfill"):
        few = model(api.url, request_inputs=100, max_requests=7, price_per_million=1.0)
        result = run(DOCS, few, database=database, options=options, warm=warm)
    assert (result.exit_code, result.engine) == (5, "ray")
    assert api.seen.requests == result.api.requests == 7
    assert 0 < result.updated == len(vectors(connect)) <= len(set(api.seen.texts)) <= 700
    # The stop may come while the writer still connects, which it then gives up, and says so.
    assert result.updated == len(set(api.seen.texts)) or "is not counted, and a rerun continues" in caplog.text
    assert result.api.tokens == api.seen.tokens == tokens_of(api.seen.texts)
    assert "--max-requests 7 is reached" in caplog.text
    assert_every_vector_is_its_texts(connect, rows=result.updated)
