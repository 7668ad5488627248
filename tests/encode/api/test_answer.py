"""Answers, read and checked without a server."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from vecfill.encode.api.answer import WrongAnswerError, parse


def body(vectors, order=None, **more) -> bytes:
    items = [
        {"index": index, "embedding": base64.b64encode(vector.astype("<f4").tobytes()).decode()}
        for index, vector in enumerate(vectors)
    ]
    return json.dumps({"data": [items[at] for at in (order or range(len(items)))], **more}).encode()


def test_an_index_may_be_a_string():
    data = b'{"data": [{"index": "1", "embedding": [2]}, {"index": "0", "embedding": [1]}]}'
    assert parse(data, 2).vectors.tolist() == [[1.0], [2.0]]


@given(st.data())
def test_vectors_come_by_index_whatever_the_order(data):
    n, dim = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 9))
    vectors = data.draw(arrays.arrays(np.float32, (n, dim)))
    found = parse(body(vectors, data.draw(st.permutations(range(n)))), n)
    assert found.vectors.dtype == np.float32
    assert found.vectors.flags.c_contiguous
    np.testing.assert_array_equal(found.vectors, vectors)


def test_lists_give_the_same_vectors_as_base64():
    vectors = np.random.default_rng(7).standard_normal((5, 4)).astype(np.float32)
    items = [{"index": at, "embedding": vector.tolist()} for at, vector in enumerate(vectors)]
    found = parse(json.dumps({"data": items, "usage": {"total_tokens": 9}}).encode(), 5)
    np.testing.assert_array_equal(found.vectors, vectors)
    assert found.tokens == 9


def test_numbers_that_pass_float32_are_infinite_and_so_are_found():
    assert np.isinf(parse(b'{"data": [{"index": 0, "embedding": [1e300, 1]}]}', 1).vectors[0, 0])


@pytest.mark.parametrize(
    "usage",
    [
        None,
        3,
        {},
        {"total_tokens": "9"},
        {"total_tokens": -1},
        {"total_tokens": 0},
        {"total_tokens": 10**30},
        {"total_tokens": True},
    ],
)
def test_an_answer_may_not_say_its_tokens(usage):
    assert parse(body(np.ones((1, 2)), usage=usage), 1).tokens is None


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"", "it is not JSON but begins with ''"),
        (b"<html>", "it is not JSON but begins with '<html>'"),
        (b"[]", "it is no JSON object but a list"),
        (b"{}", "it has no list of vectors"),
        (b'{"data": []}', "it has 0 vectors for 2 texts"),
        (b'{"data": [{"index": 0, "embedding": [1]}]}', "it has 1 vector for 2 texts"),
        (b'{"data": [1, 2]}', "index None, outside of 0 to 1"),
        (b'{"data": [{"index": true, "embedding": [1]}, {"index": 0, "embedding": [1]}]}', "index True"),
        (b'{"data": [{"index": 0, "embedding": [1]}, {"index": 0, "embedding": [1]}]}', "two vectors of index 0"),
        (b'{"data": [{"index": 0, "embedding": [1]}, {"index": -1, "embedding": [1]}]}', "index -1"),
        (b'{"data": [{"index": 0, "embedding": [1]}, {"index": 1, "embedding": [1, 2]}]}', "have 1 and 2 dimensions"),
        (b'{"data": [{"index": 0, "embedding": []}, {"index": 1, "embedding": []}]}', "have 0 dimensions"),
        (b'{"data": [{"index": 0, "embedding": ["1"]}, {"index": 1, "embedding": [1]}]}', "index 0 is no list"),
        (b'{"data": [{"index": 0, "embedding": null}, {"index": 1, "embedding": [1]}]}', "index 0 is no list"),
        (b'{"data": [{"index": 0, "embedding": [[1]]}, {"index": 1, "embedding": [1]}]}', "index 0 is no list"),
        (b'{"data": [{"index": 0, "embedding": [1, [1]]}, {"index": 1, "embedding": [1]}]}', "index 0 is no list"),
        (b'{"data": [{"index": 0, "embedding": [true]}, {"index": 1, "embedding": [1]}]}', "index 0 is no list"),
        (b'{"data": [{"index": 0, "embedding": "?"}, {"index": 1, "embedding": [1]}]}', "index 0 is not base64"),
        (b'{"data": [{"index": 0, "embedding": "MTI="}, {"index": 1, "embedding": [1]}]}', "index 0 is not base64"),
    ],
)
def test_answers_that_cannot_be_right(answer, says):
    with pytest.raises(WrongAnswerError, match=says.replace("[", r"\[")):
        parse(answer, 2)
