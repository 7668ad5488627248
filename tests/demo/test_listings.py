"""The listings: all of them, once each, in the same order every time."""

from __future__ import annotations

import pytest

from vecfill.demo import listings
from vecfill.errors import ConfigError

ALL = 17_269


@pytest.fixture(scope="module")
def everything():
    return listings.load()


def test_there_are_17269_distinct_listings(everything):
    assert len(everything) == len({one.id for one in everything}) == ALL


def test_what_the_table_needs_is_there(everything):
    assert all(one.title.strip() and one.company.strip() for one in everything)
    assert 0 < sum(one.department is None for one in everything) < ALL // 100


def test_they_come_the_same_every_time(everything):
    listings._everything.cache_clear()
    assert listings.load() == everything


def test_a_few_are_drawn_evenly(everything):
    few = listings.load(4)
    assert few == [everything[n * ALL // 4] for n in range(4)]


@pytest.mark.parametrize("rows", [1, 300, ALL - 1, ALL, ALL + 1])
def test_as_many_as_asked_for_and_none_twice(rows):
    few = listings.load(rows)
    assert len({one.id for one in few}) == len(few) == min(rows, ALL)


def test_without_the_extra_the_message_names_it(monkeypatch):
    monkeypatch.setattr(listings, "PACKAGE", "no_such_package_of_listings")
    with pytest.raises(ConfigError, match=r"pip install 'vecfill\[demo\]'"):
        listings.load()
