"""Where the rows come from, and the retrieval set that is made of the listings."""

from __future__ import annotations

import numpy as np
import pytest
from tests.tables import make_docs

from vecfill.bench.api import retrieval
from vecfill.bench.api.rows import Rows, from_listings, from_table
from vecfill.config.target import Target
from vecfill.demo import listings
from vecfill.errors import ConfigError
from vecfill.postgres.database import Database

DOCS = Target(table="docs", text="{title}", where="id <> 3")


def test_a_table_gives_texts_and_labels_with_and_without_vectors(connect, database):
    make_docs(connect, 5)
    connect.execute("UPDATE docs SET embedding = '[1,2,3,4,5,6,7,8]' WHERE id = 1")
    connect.execute("UPDATE docs SET title = ' ' WHERE id = 2")
    found = from_table(Database(database), DOCS, 10, "seen")
    assert sorted(found.texts) == ["title 1", "title 4", "title 5"]
    assert (found.labels, found.name) == (("0", "0", "0"), "public.docs")
    assert from_table(Database(database), DOCS, 2, None).labels is None
    assert len(from_table(Database(database), DOCS, 2, None).texts) == 2


def test_a_label_that_is_no_column_is_refused(connect, database):
    make_docs(connect, 1)
    with pytest.raises(ConfigError, match=r"--label colour: public\.docs has no such column"):
        from_table(Database(database), DOCS, 10, "colour")


def test_a_table_without_a_text_is_refused(connect, database):
    make_docs(connect)
    with pytest.raises(ConfigError, match=r"no row of public\.docs has a text"):
        from_table(Database(database), DOCS, 10, None)


def test_of_equal_texts_the_first_row_counts():
    assert Rows(name="x", texts=("a", "b", "a", "c", "b")).distinct() == [0, 1, 3]


def test_no_listing_s_text_was_made_of_its_label():
    rows = from_listings(200)
    assert len(rows.texts) == len(rows.labels) == 200
    by_hand = [f"{one.title} at {one.company}" for one in listings.load(200)]
    assert list(rows.texts) == by_hand


def test_the_retrieval_set_is_what_the_listings_say():
    made = retrieval.build(600)
    pairs = {(one.department, one.title) for one in listings.load(600)}
    assert len(set(made.documents)) == len(made.documents)
    assert made.queries
    for query, row in zip(made.queries, made.relevant, strict=True):
        titles = {made.documents[place] for place in np.flatnonzero(row)}
        assert titles == {title for department, title in pairs if department == query}
        assert len(titles) >= retrieval.LEAST
    again = retrieval.build(600)
    assert (again.queries, again.documents) == (made.queries, made.documents)
    assert 0 < retrieval.chance(made) < 0.2


def test_a_perfect_model_is_judged_perfect_and_its_opposite_worthless():
    made = retrieval.build(600)
    documents = np.where(made.relevant.T, 1.0, 0.0).astype(np.float32)
    queries = np.eye(len(made.queries), dtype=np.float32)
    best = retrieval.judge(made, queries, documents, retrieval.LEAST)
    worst = retrieval.judge(made, -queries, documents, retrieval.LEAST)
    assert best.precision.mean > 0.99
    assert best.ndcg.mean > 0.99
    assert worst.precision.mean < 0.05
