"""The texts of a benchmark: as many as asked for, the same each time, of the lengths that are promised."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tables import DOCS, make_docs

from vecfill.bench import corpus
from vecfill.encode.model.model_location import locate_model
from vecfill.errors import ConfigError
from vecfill.postgres.database import Database

some_texts = st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=40)


def test_listings_are_drawn_evenly_and_always_the_same():
    found = corpus.from_listings(50)
    assert (found.name, len(found.texts)) == ("listings", 50)
    assert found == corpus.from_listings(50)
    assert len(corpus.from_listings(10**6).texts) == 17_269
    assert all(" · " in text and "None" not in text for text in found.texts)


def test_mixed_texts_spread_their_logarithm_over_8_to_512_tokens():
    found = corpus.mixed(600)
    assert found == corpus.mixed(600)
    tokens = sorted(2 + corpus.TOKENS_PER_PIECE * len(corpus._PIECE.findall(text)) for text in found.texts)
    assert tokens[0] < 9.5
    assert tokens[-1] > 490
    middle = math.sqrt(corpus.SHORTEST * corpus.LONGEST)
    assert tokens[300] == pytest.approx(middle, rel=0.05)


@pytest.mark.slow
def test_mixed_texts_have_the_model_s_tokens_too():
    from tokenizers import Tokenizer

    from vecfill.demo.story import MODEL

    tokenizer = Tokenizer.from_file(f"{locate_model(MODEL)}/tokenizer.json")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokens = sorted(len(one.ids) for one in tokenizer.encode_batch(list(corpus.mixed(400).texts)))
    assert 5 <= tokens[0] <= 12
    assert 400 <= tokens[-1] <= 640
    assert tokens[200] == pytest.approx(64, rel=0.15)


def test_a_file_gives_its_first_lines_that_are_not_blank(tmp_path):
    file = tmp_path / "texts.txt"
    file.write_text("one\n\n  two \n\t\nthree\nfour", encoding="utf-8")
    assert corpus.from_file(file, 3).texts == ("one", "two", "three")
    assert corpus.from_file(file, 99).texts[-1] == "four"


@pytest.mark.parametrize("content", [None, b"", b"\n \n", b"\xff\xfe\xff"])
def test_a_file_without_texts_is_refused(tmp_path, content):
    file = tmp_path / "texts.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"texts\.txt"):
        corpus.from_file(file, 5)


def test_a_table_gives_the_texts_that_miss_a_vector(connect, database):
    make_docs(connect, 30)
    connect.execute("UPDATE docs SET embedding = array_fill(1, ARRAY[8])::vector WHERE id <= 10")
    before = connect.execute("SELECT md5(string_agg(d::text, '' ORDER BY id)) FROM docs d").fetchone()
    found = corpus.from_table(Database(database), DOCS, 15)
    assert (found.name, len(found.texts)) == ("public.docs", 15)
    assert set(found.texts) <= {f"title {number}" for number in range(11, 31)}
    assert connect.execute("SELECT md5(string_agg(d::text, '' ORDER BY id)) FROM docs d").fetchone() == before
    connect.execute("DELETE FROM docs WHERE id > 10")
    with pytest.raises(ConfigError, match=r"no row of public\.docs misses a vector"):
        corpus.from_table(Database(database), DOCS, 15)


@given(some_texts, st.integers(0, 200))
def test_repeated_texts_are_as_many_as_asked_for(texts, rows):
    found = corpus.repeated(texts, rows)
    assert len(found) == rows
    assert list(found[: len(texts)]) == texts[:rows]


@given(some_texts, st.sampled_from([0.0, 0.5, 0.9, 1.0]))
def test_duplicated_texts_are_as_many_and_none_is_new(texts, share):
    found = corpus.duplicated(texts, share)
    assert len(found) == len(texts)
    assert set(found) <= set(texts)


def test_nine_in_ten_occur_before():
    found = corpus.duplicated([f"text {number}" for number in range(1_000)], 0.9)
    assert len(set(found)) == 100
    assert 60 <= len(set(found[:100])) <= 100
