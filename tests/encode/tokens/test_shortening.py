"""A text that is cut before it is tokenized gives the same inputs as the whole text."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.encode.words import SENTENCES, SPECIAL, tokenizer
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from vecfill.encode.tokens.shortening import BATCH_CHARS, MARGIN, parts_of
from vecfill.encode.tokens.text_pieces import TextPieces, merged
from vecfill.encode.tokens.tokenization import Tokenization, TokenizerSpec
from vecfill.encode.tokens.windowing import special_tokens

pytestmark = pytest.mark.slow  # loads transformers

LETTERS = [*"abcdefghijklmnopqrstuvwxyzö数据", "\u0301"]


def built(model, trainer, normalizer, pre, **values):
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(model)
    raw.normalizer, raw.pre_tokenizer = normalizer, pre
    raw.train_from_iterator(SENTENCES * 9, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=raw, **SPECIAL, **values)


def unigram(pre, **values):
    trainer = trainers.UnigramTrainer(
        vocab_size=80, special_tokens=list(SPECIAL.values()), unk_token="<unk>", show_progress=False
    )
    return built(models.Unigram(), trainer, normalizers.NFKC(), pre, **values)


def bpe(pre, **values):
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=list(SPECIAL.values()), show_progress=False)
    return built(models.BPE(unk_token="<unk>"), trainer, normalizers.NFC(), pre, **values)


def wordpiece(**values):
    trainer = trainers.WordPieceTrainer(vocab_size=120, special_tokens=list(SPECIAL.values()), show_progress=False)
    bert = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    return built(models.WordPiece(unk_token="<unk>", max_input_chars_per_word=100), trainer, *bert, **values)


LLAMA3 = Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")

CUT = {
    "WordPiece": wordpiece,
    "BPE of bytes": tokenizer,
    "BPE as Llama 3's": lambda: bpe(pre_tokenizers.Split(LLAMA3, "isolated")),
    "Unigram": lambda: unigram(pre_tokenizers.Metaspace()),
}
WHOLE = {
    "Unigram across words": lambda: unigram(pre_tokenizers.Metaspace(split=False)),
    "BPE across words": lambda: bpe(pre_tokenizers.Split(" ", "merged_with_previous")),
    "from the left": lambda: tokenizer(truncation_side="left"),
}


@pytest.fixture(scope="module", params=[*CUT, *WHOLE])
def name(request):
    return request.param


@pytest.fixture(scope="module")
def original(name):
    """The tokenizer of this name, made here: at the import of this file, every worker would load transformers."""
    return (CUT | WHOLE)[name]()


words = st.one_of(
    st.sampled_from(
        [*SENTENCES, "<mask>", "a", "aa", "engineer", "e\u0301\u0301", "!\n\n", "x" * 99, "ab" * 70, " ", "ﬁ"]
    ),
    st.text(st.sampled_from([*LETTERS, *" \n.-/+=1"]), max_size=12),
)
texts = st.lists(
    st.tuples(words, st.sampled_from(["", " ", "  ", "\n", "\u00a0"]), st.integers(1, 90)), max_size=9
).map(lambda pieces: "".join((word + separator) * times for word, separator, times in pieces))


@settings(deadline=None, max_examples=25)
@given(st.lists(texts, min_size=1, max_size=3), st.integers(3, 12), st.integers(1, 400), st.sampled_from([None, "q: "]))
def test_the_tokens_are_those_of_the_whole_text(original, texts, limit, cut_chars, prompt):
    cut = Tokenization(TokenizerSpec.of(original), limit, prompt, cut_chars=cut_chars)(texts)
    whole = Tokenization(TokenizerSpec.of(original), limit, prompt)(texts)
    np.testing.assert_array_equal(cut.ids, whole.ids)
    np.testing.assert_array_equal(cut.lengths, whole.lengths)
    assert (cut.n_tokens > limit).tolist() == (whole.n_tokens > limit).tolist()
    differs = cut.n_tokens != whole.n_tokens
    assert (cut.n_tokens[differs] >= limit + MARGIN).all()
    assert (cut.n_tokens <= whole.n_tokens).all()


@given(st.lists(st.integers(0, 700_000).map("x".__mul__), max_size=9), st.integers(1, 800_000))
@settings(deadline=None, max_examples=25)
def test_parts_cover_all_texts_and_bound_the_memory(texts, alone):
    parts = list(parts_of(texts, alone))
    assert [text for part in parts for text in texts[part]] == texts
    for part in parts:
        lengths = [len(text) for text in texts[part]]
        assert len(lengths) < 2 or (sum(lengths) <= BATCH_CHARS and max(lengths) <= alone)


def test_who_cuts_and_what_is_counted(name, original):
    long, short = "engineer of data " * 12_000, "engineer of data"
    tokens = Tokenization(TokenizerSpec.of(original), 8, None)([short, long, short])
    whole = len(original(long, verbose=False)["input_ids"])
    counts = [len(original(short)["input_ids"]), min(tokens.n_tokens[1], whole), len(original(short)["input_ids"])]
    assert tokens.n_tokens.tolist() == counts
    assert (8 + MARGIN <= counts[1] < whole) == (name in CUT)


@settings(deadline=None, max_examples=25)
@given(st.lists(texts, min_size=1, max_size=3), st.integers(2, 90))
def test_pieces_have_the_tokens_of_the_whole_text(name, original, texts, size):
    tokenize = Tokenization(TokenizerSpec.of(original), None, None)
    pieces = [list(TextPieces(tokenize.tokenizer, size)(text)) for text in texts]
    assert ["".join(some) for some in pieces] == texts
    flat, counts = [one for some in pieces for one in some], [len(some) for some in pieces]
    found, whole = merged(tokenize(flat), counts, *special_tokens(tokenize.tokenizer, "m")), tokenize(texts)
    for field in ("ids", "types", "lengths", "n_tokens"):
        np.testing.assert_array_equal(getattr(found, field), getattr(whole, field))


def test_who_tokenizes_in_pieces(name, original):
    pieces = list(
        TextPieces(Tokenization(TokenizerSpec.of(original), None, None).tokenizer, 50)("engineer of data " * 40)
    )
    assert (len(pieces) > 10, max(map(len, pieces)) <= 50) == ((True, True) if "across" not in name else (False, False))
