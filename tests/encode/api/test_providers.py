"""What servers that call themselves OpenAI-compatible do differently: formats, limits, fields, forms of errors."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from tests.encode.api import server
from tests.encode.api.server import DIM, Request, first, serving, tokens_of
from tests.encode.api.test_api_encoder import TEXTS, assert_right, bad, encoder, model

from vecfill.config.api import ApiOptions
from vecfill.encode.api.answer import WrongAnswerError, parse
from vecfill.encode.hash_encoder import HashEncoder
from vecfill.encode.load import load_model
from vecfill.errors import ConfigError, EncodeError

pytestmark = pytest.mark.slow

MANY = [f"title {row} of some words" for row in range(2_000)]


def says(status: int, body: object) -> server.Act:
    return lambda request: request.send(status, body)


ERRORS = {
    "OpenAI": says(400, {"error": {"message": "Invalid value: 'base64'", "param": "encoding_format"}}),
    "no word of it": says(400, {"error": {"message": "bad request"}}),
    "FastAPI": says(422, {"detail": [{"loc": ["body", "x"], "msg": "Input should be 'float'"}]}),
    "TEI": says(422, {"error": "unknown variant", "error_type": "Validation"}),
    "Cohere": says(400, {"message": "only float"}),
    "an error with 200": says(200, {"error": {"message": "only float", "code": 400}}),
    "no data": says(200, {"data": []}),
    "nulls": lambda request: request.answer([{"index": at, "embedding": None} for at in range(len(request.texts))]),
    "empty texts": lambda request: request.answer([{"index": at, "embedding": ""} for at in range(len(request.texts))]),
    "no base64": server.no_base64,
}


@pytest.mark.parametrize("refuse", ERRORS.values(), ids=ERRORS.keys())
def test_a_server_without_base64_is_asked_for_it_once(refuse):
    def act(request: Request) -> None:
        (refuse if request.body["encoding_format"] == "base64" else server.right)(request)

    with serving(act) as api, encoder(api) as ours:
        assert_right(ours.encode(["one"]), ["one"])
        assert_right(ours.encode(TEXTS))
        assert [body["encoding_format"] for body in api.seen.bodies] == ["base64", *["float"] * 10]


@pytest.mark.parametrize("code", [500, 501])
def test_a_server_that_fails_on_base64_is_asked_for_it_twice(code):
    """An error of its own is usually not the format's: it must come again."""

    def act(request: Request) -> None:
        (server.status(code) if request.body["encoding_format"] == "base64" else server.right)(request)

    with serving(act) as api, encoder(api) as ours:
        assert_right(ours.encode(["one"]), ["one"])
        assert_right(ours.encode(TEXTS))
        assert [body["encoding_format"] for body in api.seen.bodies] == ["base64"] * 2 + ["float"] * 10


def test_an_error_that_passes_does_not_cost_base64():
    def act(request: Request) -> None:
        (server.status(500) if request.number == 1 else server.right)(request)

    with serving(act) as api, encoder(api) as ours:
        assert_right(ours.encode(TEXTS))
        assert {body["encoding_format"] for body in api.seen.bodies} == {"base64"}


@pytest.mark.parametrize("wanted", ["base64", "float"])
def test_the_format_can_be_chosen(wanted):
    with serving() as api, encoder(api, encoding_format=wanted) as ours:
        assert_right(ours.encode(TEXTS))
        assert {body["encoding_format"] for body in api.seen.bodies} == {wanted}


def test_a_bad_text_in_the_first_request_does_not_cost_base64():
    with serving(bad("poison")) as api, encoder(api, request_inputs=100) as ours:
        assert list(ours.encode(["poison", *TEXTS]).errors) == [0]
        before = len(api.seen.bodies)
        assert_right(ours.encode(MANY[:300]), MANY[:300])
        assert {body["encoding_format"] for body in api.seen.bodies[before + 1 :]} == {"base64"}


@pytest.mark.parametrize("kept", [[], [0, 1, 3], [2]], ids=["none", "all but one", "one"])
def test_vectors_without_an_index_are_in_the_order_of_the_texts(kept):
    def act(request: Request) -> None:
        items = request.items(request.vectors())
        request.answer([item if at in kept else {"embedding": item["embedding"]} for at, item in enumerate(items)])

    with serving(act) as api, encoder(api, request_inputs=4) as ours:
        assert_right(ours.encode(TEXTS))


def test_an_index_that_is_missing_follows_from_the_others_or_is_refused():
    assert parse(b'{"data": [{"index": 1, "embedding": [1]}, {"embedding": [2]}]}', 2).vectors.tolist() == [[2], [1]]
    with pytest.raises(WrongAnswerError, match="2 of its 3 vectors have no index"):
        parse(b'{"data": [{"index": 2, "embedding": [1]}, {"embedding": [2]}, {"embedding": [3]}]}', 3)
    with pytest.raises(WrongAnswerError, match="two vectors of index 0"):
        parse(b'{"data": [{"index": 0, "embedding": [1]}, {"index": 0, "embedding": [2]}, {"embedding": [3]}]}', 3)


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "model is loading"}},
        {"error": "model is loading"},
        {"object": "error", "message": "model is loading"},
        {"detail": [{"msg": "model is loading"}]},
        {"data": [], "error": {"message": "model is loading", "code": 503}},
    ],
)
def test_an_error_with_200_is_shown_and_tried_again(body):
    with serving(first(1, says(200, body))) as api, encoder(api) as ours:
        assert_right(ours.encode(TEXTS[:7]), TEXTS[:7])
        assert api.seen.requests == 2
        api.act = says(200, body)
        with pytest.raises(EncodeError, match="model is loading"):
            ours.encode(["another"])


def limited(status: int, exceeds, what="texts") -> server.Act:
    """Refuses requests that are too large, after a moment, so that requests are seen to be parallel."""

    def act(request: Request) -> None:
        time.sleep(0.002)
        if exceeds(request.texts):
            request.error(status, f"at most so many {what}, please")
        else:
            request.answer()

    return act


@pytest.mark.parametrize(
    ("most", "status", "block"), [(20, 400, 2_000), (20, 400, 250), (32, 413, 250), (100, 422, 2_000)]
)
def test_a_limit_on_texts_is_found_once(most, status, block):
    act = limited(status, lambda texts: len(texts) > most)
    blocks = [MANY[start : start + block] for start in range(0, len(MANY), block)]
    with serving(act) as api, encoder(api, request_inputs=2_048) as ours:
        found = [None] * len(blocks)
        threads = [
            threading.Thread(target=lambda n=n: found.__setitem__(n, ours.encode(blocks[n])))
            for n in range(len(blocks))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for texts, encoding in zip(blocks, found, strict=True):
            assert_right(encoding, texts)
        assert api.seen.refused <= 20
        assert api.seen.requests <= 1.06 * len(MANY) / most + 25
        assert api.seen.most_under_way >= 2
        assert api.seen.tokens == tokens_of(MANY)  # nothing is paid twice
        assert ours.usage.requests == api.seen.requests == ours.budget.account().requests


def only_the_first(most: int) -> server.Act:
    return lambda request: request.answer(request.items(request.vectors())[:most])


FAILS = {
    "500": server.status(500),
    "502": server.status(502),
    "503": server.status(503, Retry_After="0.01"),
    "529": server.status(529),
    "closed": server.closed_mid_body,
    "too few vectors": only_the_first(32),
    "an error with 200": says(200, {"error": {"message": "out of memory"}}),
}


@pytest.mark.parametrize("fails", FAILS.values(), ids=FAILS.keys())
def test_a_limit_on_texts_is_found_however_it_is_told(fails):
    def act(request: Request) -> None:
        (fails if len(request.texts) > 32 else server.right)(request)

    texts = MANY[:600]
    with serving(act) as api, encoder(api, request_inputs=300) as ours:
        assert_right(ours.encode(texts), texts)
        assert api.seen.requests <= 70
        before = api.seen.requests
        assert_right(ours.encode(texts), texts)
        assert api.seen.requests - before <= 20  # the limit is remembered


@pytest.mark.parametrize("fails", [FAILS["500"], FAILS["closed"], FAILS["an error with 200"]])
def test_a_text_on_which_an_api_fails_for_good_fails_alone(fails):
    def act(request: Request) -> None:
        (fails if "some poison here" in request.texts else server.right)(request)

    texts = [*MANY[:100]]
    texts[30] = "some poison here"
    with serving(act) as api, encoder(api, request_inputs=25) as ours:
        found = ours.encode(texts)
        assert list(found.errors) == [30]
        good = np.arange(100) != 30
        np.testing.assert_array_equal(found.vectors[good], HashEncoder(DIM).encode(texts).vectors[good])
        with pytest.raises(ConfigError, match="gives no vector for this text"):
            ours.encode_query("some poison here")


@pytest.mark.parametrize("texts", [1, 300])
def test_an_api_that_is_down_ends_the_run_after_a_few_requests(texts):
    with serving(server.status(500)) as api, encoder(api, request_inputs=300) as ours:
        with pytest.raises(EncodeError, match="gave no vectors in 6 requests"):
            ours.encode(MANY[:texts])
        assert api.seen.requests == 6 + 3


@pytest.mark.parametrize(
    "exceeds",
    [lambda texts: tokens_of(texts) > 900, lambda texts: sum(map(len, texts)) > 5_000],
    ids=["tokens", "bytes"],
)
def test_a_limit_on_tokens_or_bytes_is_found_too(exceeds):
    texts = [f"{row} " + "word " * (row * 7919 % 60) for row in range(1_000)]
    with serving(limited(413, exceeds)) as api, encoder(api, request_inputs=2_048) as ours:
        assert_right(ours.encode(texts), texts)
        assert api.seen.refused <= 60
        assert api.seen.requests <= 2.5 * max(tokens_of(texts) / 900, sum(map(len, texts)) / 5_000)
        assert api.seen.tokens == tokens_of(texts)


@pytest.mark.parametrize("at", [0, 1, 777, 999])
def test_a_limit_and_a_bad_text_together(at):
    texts = [*MANY[:1_000]]
    texts[at] = "some poison here"
    act = limited(400, lambda texts: len(texts) > 25 or "some poison here" in texts)
    with serving(act) as api, encoder(api, request_inputs=500) as ours:
        found = ours.encode(texts)
        assert list(found.errors) == [at]
        good = np.arange(1_000) != at
        np.testing.assert_array_equal(found.vectors[good], HashEncoder(DIM).encode(texts).vectors[good])
        assert api.seen.requests <= 160  # 40 of 25 texts, and those that find the limit and the text


def test_bad_texts_do_not_make_later_requests_small():
    texts = [*MANY]
    texts[0] = texts[5] = texts[700] = "some poison here"
    with serving(bad("poison")) as api, encoder(api, request_inputs=200) as ours:
        assert sorted(ours.encode(texts).errors) == [0, 5, 700]
        before = api.seen.requests
        assert_right(ours.encode(MANY), MANY)
        assert api.seen.requests - before == 10


def test_a_server_with_a_limit_and_without_base64():
    def act(request: Request) -> None:
        if len(request.texts) > 10 or request.body["encoding_format"] == "base64":
            request.error(400)
        else:
            request.answer()

    with serving(act) as api, encoder(api, request_inputs=512) as ours:
        assert_right(ours.encode(MANY[:500]), MANY[:500])
        assert api.seen.requests <= 85


FIELDS = {
    "fields": ("input_type=search_document", "dimensions=8", "truncate=true", 'user="7"', "note=a=b"),
    "query_fields": ("input_type=search_query",),
}


def test_fields_of_the_user_go_with_rows_and_queries():
    with serving() as api, encoder(api, **FIELDS) as ours:
        ours.encode(TEXTS[:1])
        ours.encode_query("x")
        common = {"dimensions": 8, "truncate": True, "user": "7", "note": "a=b"}
        for body, kind in zip(api.seen.bodies, ["search_document", "search_query"], strict=True):
            assert body.items() >= (common | {"input_type": kind}).items()


def test_query_parameters_of_the_address_are_sent_and_the_key_as_azure_wants_it(monkeypatch):
    monkeypatch.setenv("VECFILL_API_KEY", server.KEY)
    with serving() as api:
        ours = load_model(model(f"{api.url}/?api-version=2024-10-21"), dim=DIM)
        assert_right(ours.encode(TEXTS[:7], 1), TEXTS[:7])
        assert api.seen.paths == ["/v1/embeddings?api-version=2024-10-21"]
        ours.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fields": ("input_type",)}, "--api-field 'input_type' assigns nothing: write NAME=VALUE"),
        ({"query_fields": ("=x",)}, "--api-query-field '=x' assigns nothing"),
        ({"fields": ("model=x",)}, "--api-field 'model=x' sets a field that vecfill sends itself: use --model"),
        ({"fields": ("encoding_format=float",)}, "use --encoding-format"),
        ({"base_url": "https://h/v1?api-key=secret"}, "--base-url holds a user, a password or a key"),
        ({"base_url": "https://h/v1?sig=secret"}, "--base-url holds"),
        ({"base_url": "https://h/v1?api-version=1&accessToken=secret"}, "--base-url holds"),
        ({"encoding_format": "int8"}, "--encoding-format 'int8': input should be 'auto', 'base64' or 'float'"),
    ],
)
def test_options_that_cannot_work(options, message):
    with pytest.raises(ConfigError, match=message) as raised:
        ApiOptions(**options)
    assert "secret" not in str(raised.value)


def test_two_ways_to_ask_for_dimensions_exclude_each_other():
    ApiOptions(base_url="https://h/v1?design=1&encode=2&api-version=3")  # harmless
    with pytest.raises(ConfigError, match="--truncate-dim 4 and --api-field dimensions=… exclude each other"):
        model("http://127.0.0.1:9/v1", truncate_dim=4, fields=("dimensions=4",))
