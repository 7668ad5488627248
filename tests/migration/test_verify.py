"""``migrate verify``: the new column is complete and right, or what is wrong is named."""

from __future__ import annotations

import json

import pytest
from tests.migration.moving import NEW, begin, move, searched_docs
from tests.tables import DOCS

from vecfill import verify_migration

pytestmark = pytest.mark.slow  # whole migrations


def test_a_complete_column_is_ready_and_an_incomplete_one_says_why(connect, database, vecfill, tmp_path):
    searched_docs(connect, database)
    command = ("migrate", "verify", "-d", database, "-t", "docs", "-m", "hash:16")
    assert "has been started" in vecfill(*command).err
    begin(database)
    early = vecfill(*command, "--json")
    assert (early.code, early.json["problems"]) == (1, ["20 rows have no vector: run `vecfill migrate run`"])
    move(database)
    ended = vecfill(*command, "--report", str(tmp_path / "out"))
    assert (ended.code, ended.err) == (0, "")
    assert "ready: the application can move" in ended.out
    assert "rows found by their own vectors through docs_near_next: 20 of 20" in ended.out
    written = json.loads((tmp_path / "out" / "migration.json").read_text())
    assert (written["problems"], written["overlap"]["rows"], written["verified"]["off"]) == ([], 20, 0)
    assert "| sampled vectors, embedded again | 20: 20 right |" in (tmp_path / "out" / "migration.md").read_text()
    assert "<td>20: 20 right</td>" in (tmp_path / "out" / "migration.html").read_text()
    zeros = "[" + ",".join(["0"] * 15 + ["1"]) + "]"
    connect.execute("UPDATE docs SET embedding_next = %s WHERE id < 4", [zeros])
    connect.execute("UPDATE docs SET title = 'edited' WHERE id = 9")
    found = vecfill(*command, "--json")
    assert found.code == 1
    assert found.json["problems"][0] == "1 change is queued: run `vecfill run` for the new column"
    assert found.json["verified"]["counts"]["overwritten"] == 3


def test_rows_find_themselves_through_each_index_of_the_new_column(connect, database):
    searched_docs(connect, database, partitioned=True)
    connect.execute(
        "CREATE INDEX docs_l2 ON docs USING hnsw (embedding vector_l2_ops) WHERE id > 5;"
        "CREATE INDEX docs_ip ON docs USING ivfflat (embedding vector_ip_ops) WITH (lists = 1);"
        "CREATE INDEX docs_half ON docs USING hnsw ((embedding::halfvec(8)) halfvec_cosine_ops);"
        "CREATE INDEX docs_bits ON docs USING hnsw ((binary_quantize(embedding)::bit(8)) bit_hamming_ops);"
        "CREATE INDEX docs_one ON docs_1 USING hnsw (embedding vector_l1_ops)"
    )
    begin(database)
    move(database)
    found = verify_migration(DOCS, NEW, database=database)
    assert found.problems == ()
    assert {(one.index, one.rows, one.found) for one in found.searches.found} == {
        ("docs_near_next", 20, 20),
        ("docs_l2_next", 15, 15),
        ("docs_ip_next", 20, 20),
        ("docs_half_next", 20, 20),
    }
    bits, one = found.searches.not_searched
    assert "docs_bits_next was not searched: a search by" in bits
    assert one == "index docs_one_next was not searched: it is on a partition alone"
