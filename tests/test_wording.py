"""A count and its noun, and the verb behind it, agree."""

from __future__ import annotations

import pytest

from vecfill.wording import count_of, plural


@pytest.mark.parametrize(
    ("count", "noun", "verb", "text"),
    [
        (0, "row", "", "0 rows"),
        (1, "row", "has", "1 row has"),
        (2, "entry", "was", "2 entries were"),
        (1, "index", "names", "1 index names"),
        (32_322, "index", "names", "32,322 indexes name"),
    ],
)
def test_counts(count, noun, verb, text):
    assert count_of(count, noun, verb) == text


@pytest.mark.parametrize(("noun", "text"), [("query", "queries"), ("key", "keys"), ("vector index", "vector indexes")])
def test_plurals(noun, text):
    assert plural(noun) == text
