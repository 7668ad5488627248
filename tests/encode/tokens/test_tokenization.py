"""Our clone of a tokenizer against transformers' own calls of it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.encode.words import SENTENCES, tokenizer

from vecfill.encode.tokens.tokenization import Tokenization, TokenizerSpec

pytestmark = pytest.mark.slow  # loads transformers

BOTH_ENDS = {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}
LEFT = {"ends": ("", "</s>"), "padding_side": "left", "model_input_names": ["input_ids", "attention_mask"]}
VARIANTS = {
    "both ends": BOTH_ENDS,
    "no types": {"model_input_names": ["input_ids", "attention_mask"]},
    "left": LEFT,
    "head cut": {"truncation_side": "left", "padding_side": "left", "pad_token_type_id": 3},
    "bare": {"ends": (), "split_special_tokens": True},
}


@pytest.fixture(scope="module", params=VARIANTS)
def original(request):
    return tokenizer(**VARIANTS[request.param])


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.one_of(st.text(max_size=60), st.sampled_from([*SENTENCES, "<s> a <mask>"])), min_size=1, max_size=6),
    st.one_of(st.none(), st.integers(3, 12)),
    st.sampled_from([None, "", "query: "]),
)
def test_inputs_are_those_of_transformers(original, texts, limit, prompt):
    tokenize = Tokenization(TokenizerSpec.of(original), limit, prompt)
    tokens = tokenize(texts)
    prompted = [(prompt or "") + text for text in texts]
    cut = {"truncation": "longest_first", "max_length": limit} if limit else {}
    theirs = original(prompted, padding=True, return_tensors="np", **cut)
    ours = tokenize.padded(tokens, np.arange(len(texts)))
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert ours[name].dtype == np.int64
        np.testing.assert_array_equal(ours[name], theirs[name])
    assert tokens.n_tokens.tolist() == [len(ids) for ids in original(prompted, verbose=False)["input_ids"]]
    assert tokens.lengths.tolist() == [min(count, limit or count) for count in tokens.n_tokens]


def test_any_rows_in_any_order():
    original = tokenizer(**LEFT)
    tokenize = Tokenization(TokenizerSpec.of(original), 8, None)
    rows = np.array([2, 0, 0])
    ours = tokenize.padded(tokenize(SENTENCES), rows)
    wanted = original(
        [SENTENCES[row] for row in rows], padding=True, truncation=True, max_length=8, return_tensors="np"
    )
    np.testing.assert_array_equal(ours["input_ids"], wanted["input_ids"])
    np.testing.assert_array_equal(ours["attention_mask"], wanted["attention_mask"])


def test_no_texts():
    tokens = Tokenization(TokenizerSpec.of(tokenizer(**BOTH_ENDS)), 8, None)([])
    assert len(tokens.ids) == len(tokens.lengths) == len(tokens.n_tokens) == 0


def test_the_original_is_left_alone():
    original = tokenizer()
    before = original.backend_tokenizer.to_str()
    Tokenization(TokenizerSpec.of(original), 4, "query: ")(SENTENCES)
    assert original.backend_tokenizer.to_str() == before
