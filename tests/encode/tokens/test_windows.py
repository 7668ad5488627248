"""Long texts by windows: how they are cut, weighted and put together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.encode.words import SENTENCES, tokenizer

from vecfill.config.api import ApiOptions
from vecfill.config.model import Model
from vecfill.encode.load import load_model
from vecfill.encode.model.fingerprint import fingerprint_of, same_space
from vecfill.encode.tokens.tokenization import Tokenization, TokenizerSpec, Tokens
from vecfill.encode.tokens.windowing import Windowing, tokenize_for, window_shape
from vecfill.encode.tokens.windows import Windows, WindowShape
from vecfill.errors import ConfigError

LEFT = {"ends": ("", "</s>"), "padding_side": "left", "model_input_names": ["input_ids", "attention_mask"]}


@st.composite
def shapes(draw):
    head, body, tail = draw(st.integers(0, 3)), draw(st.integers(1, 9)), draw(st.integers(0, 2))
    return WindowShape(head=head, body=body, tail=tail, overlap=draw(st.integers(0, body - 1)))


def numbered(counts):
    """Tokens of texts, each token another number, its type the number of its text."""
    lengths = np.array(counts, np.int32)
    types = np.repeat(np.arange(len(counts)), lengths)
    return Tokens(ids=np.arange(lengths.sum()), types=types, lengths=lengths, n_tokens=lengths)


@given(shapes(), st.lists(st.integers(0, 60), min_size=1, max_size=6), st.randoms())
def test_windows_hold_every_token_and_share_just_the_overlap(shape, counts, random):
    windows = Windows(numbered(counts), shape)
    order = list(range(len(windows.owners)))
    random.shuffle(order)  # a batch takes them in any order
    ids, types = windows.packed(np.array(order))
    assert types.tolist() == np.repeat(windows.owners[order], windows.lengths[order]).tolist()
    pieces = np.split(ids, np.cumsum(windows.lengths[order])[:-1])
    by_number = {number: piece.tolist() for number, piece in zip(order, pieces, strict=True)}
    starts = np.cumsum([0, *counts])
    for text, count in enumerate(counts):
        mine = [by_number[number] for number in np.flatnonzero(windows.owners == text)]
        whole = list(range(starts[text], starts[text] + count))
        assert len(mine) == windows.windows[text]
        if count <= shape.limit:
            assert mine == [whole]
            continue
        behind = len(whole) - shape.tail
        bodies = [one[shape.head : len(one) - shape.tail] for one in mine]
        assert all(one[: shape.head] == whole[: shape.head] for one in mine)
        assert all(one[len(one) - shape.tail :] == whole[behind:] for one in mine)
        assert all(len(one) == shape.body for one in bodies[:-1])
        assert all(0 < len(one) <= shape.body for one in bodies)
        joined = bodies[0] + [token for one in bodies[1:] for token in one[shape.overlap :]]
        assert joined == whole[shape.head : behind]
        shares = windows.shares[windows.owners == text]
        assert shares == pytest.approx(np.array([len(one) for one in bodies]) / sum(map(len, bodies)))
    assert windows.shares[windows.windows[windows.owners] == 1].tolist() == [1.0] * int((windows.windows == 1).sum())
    assert not windows.truncated.any()


@pytest.mark.slow  # loads transformers, as do the others that make a tokenizer
@pytest.mark.parametrize("values", [{}, LEFT], ids=["both ends", "left"])
@pytest.mark.parametrize("prompt", [None, "query: "])
def test_each_window_has_the_special_tokens_and_the_prompt(values, prompt):
    original = tokenizer(**values)
    text = "staff engineer, night shift " * 9
    spec = TokenizerSpec.of(original)
    windows = Windowing(Tokenization(spec, None, prompt), 20, 3, "m")([text, "a"])
    count = int(windows.windows[0])
    ids, _ = windows.packed(np.arange(count))
    pieces = np.split(ids, np.cumsum(windows.lengths[: count - 1]))
    plain = original((prompt or "") + text, add_special_tokens=False, verbose=False)["input_ids"]
    before, behind = ([] if values else [2]), [3]
    head = original(prompt.rstrip(), add_special_tokens=False)["input_ids"] if prompt else []
    step = 20 - len(before + head + behind) - 3
    body = plain[len(head) :]
    for number, piece in enumerate(pieces):
        part = body[number * step : number * step + step + 3]
        assert piece.tolist() == [*before, *head, *part, *behind]
    assert windows.n_tokens[0] == len(plain) + len(before + behind)
    padded = Tokenization(spec, None, prompt).padded(windows, np.array([0, count]))
    assert padded["attention_mask"].sum(axis=1).tolist() == windows.lengths[[0, count]].tolist()


@pytest.mark.slow
def test_texts_that_fit_have_the_tokens_of_truncation():
    spec = TokenizerSpec.of(tokenizer())
    cut = Tokenization(spec, 40, None)(SENTENCES)
    windows = Windowing(Tokenization(spec, None, None), 40, 5, "m")(SENTENCES)
    rows = np.arange(len(SENTENCES))
    for one, other in zip(cut.packed(rows), windows.packed(rows), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"overlap": 18}, r"--overlap is 18 but a window of model m holds 18 tokens of text: choose 0 to 17"),
        ({"prompt": "data engineer " * 9}, r"prompt and special tokens fill the 20 tokens that model m takes"),
    ],
)
def test_windows_that_do_not_fit_are_refused(values, message):
    model = Model(name="m", long="mean", **values)
    with pytest.raises(ConfigError, match=message):
        tokenize_for(model, TokenizerSpec.of(tokenizer()), 20, model.prompt)


@pytest.mark.slow
def test_a_model_without_a_limit_has_no_long_texts():
    with pytest.raises(ConfigError, match="--long is mean but model m has no length limit"):
        tokenize_for(Model(name="m", long="mean"), TokenizerSpec.of(tokenizer()), None, None)


def test_special_tokens_within_a_text_are_refused():
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    odd = Tokenizer(models.WordLevel({"a": 0, "engineer": 1, "|": 2}, unk_token="|"))
    odd.pre_tokenizer = pre_tokenizers.Whitespace()
    odd.post_processor = processors.TemplateProcessing(single="$A | $A", special_tokens=[("|", 2)])
    with pytest.raises(ConfigError, match="special tokens within its texts"):
        window_shape(odd, None, 9, 0, "m")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"overlap": 5}, "--overlap is 5 but --long is truncate, which has no windows: add --long mean"),
        ({"long": "middle"}, "--long 'middle'"),
        ({"long": "mean", "overlap": -1}, "--overlap -1"),
        ({"name": "openai:x", "long": "mean"}, "--long is 'mean' but API model openai:x has no such setting"),
    ],
)
def test_settings_that_do_not_go_together(values, message):
    with pytest.raises(ConfigError, match=message):
        Model(**{"name": "m", "api": ApiOptions()} | values)


def test_a_model_that_counts_no_tokens_refuses_windows():
    with pytest.raises(ConfigError, match="--long is mean but hash:8 counts no tokens: leave it out"):
        load_model(Model(name="hash:8", long="mean"))


def test_the_fingerprint_has_the_windows_and_is_what_it_was_without():
    plain = fingerprint_of(Model(name="hash:8"))
    assert plain.details == {"model": "hash:8"}
    assert plain.digest == fingerprint_of(Model(name="hash:8", long="truncate")).digest
    mean = fingerprint_of(Model(name="hash:8", long="mean"))
    assert mean.details == {"model": "hash:8", "long": "mean", "overlap": 0}
    other = fingerprint_of(Model(name="hash:8", long="mean", overlap=3))
    assert len({plain.digest, mean.digest, other.digest}) == 3
    assert same_space(plain.details, other.details)
    assert same_space(plain.details, plain.details | {"prompt": "query: "})
