"""Introspection: what the catalogue says of a target, and what is refused before a row is read."""

from __future__ import annotations

import pickle
from contextlib import closing
from dataclasses import replace

import pytest
from psycopg import sql
from tests.needs import needs
from tests.tables import DOCS, encoded, job_of, make_docs, read_all, relation_of, role, with_arrays, writer_of

from vecfill.config.target import Target
from vecfill.errors import ConfigError
from vecfill.postgres.database import Database
from vecfill.postgres.introspect import inspect
from vecfill.postgres.relation import Relation
from vecfill.postgres.transaction import transaction


def inspected(database: str, table: str = "docs", text: str = "{title}", **more) -> Relation:
    with closing(Database(database).connect()) as connection:
        return inspect(connection, Target(table=table, text=text, **more))


def refused(database: str, *says: str, **target) -> None:
    with pytest.raises(ConfigError) as error:
        inspected(database, **target)
    for words in says:
        assert words in str(error.value)


def fills(connect, database: str, target: Target, rows: int) -> None:
    """Reads, encodes and writes the whole target by what was introspected: half from a table, half from arrays."""
    job = job_of(database, target)
    block = encoded(job)
    assert block.num_rows == rows
    for part, arrays in ((block.slice(0, rows // 2), False), (block.slice(rows // 2), True)):
        possible = all(column.array for column in job.sink.relation.table.key)
        with closing(writer_of(job, with_arrays(job.sink.relation, arrays=arrays and possible))) as write:
            assert sum(write(part)["updated"].to_pylist()) == part.num_rows
    assert encoded(job).num_rows == 0


def test_a_plain_table(connect, database):
    connect.execute("CREATE TABLE docs (id bigint PRIMARY KEY, title text, embedding vector(8))")
    relation = inspected(database)
    assert (relation.table.label, relation.table.plain, relation.access.policies) == ("public.docs", True, False)
    assert [column.name for column in relation.table.key] == ["id"]
    assert (relation.table.vector.name, relation.table.vector.kind, relation.table.vector.dim) == (
        "embedding",
        "vector",
        8,
    )
    assert [leaf.only for leaf in relation.table.leaves] == [True]
    assert pickle.loads(pickle.dumps(relation)) == relation


ODD_NAMES = [
    'say "hi"',
    "100%",
    "%s",
    "{braces}",
    "two words",
    "it's",
    "ünï",
    "$1",
    "select",
    "UPPER",
    "back\\slash",
    ";--",
]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_legal_identifier(connect, database, name):
    """The same odd name for the schema, the table, the key, the text and (longer) the vector."""
    vector = f"{name} v"
    quoted = sql.Identifier(name, name).as_string(connect)
    create = "CREATE TABLE {0}.{0} ({0} text PRIMARY KEY, {1} vector(8))"
    connect.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
    connect.execute(sql.SQL(create).format(sql.Identifier(name), sql.Identifier(vector)))
    connect.execute(
        sql.SQL("INSERT INTO {0}.{0} SELECT 'row ' || n FROM generate_series(1, 20) n").format(sql.Identifier(name))
    )
    target = Target(
        table=quoted, text=name, column=vector, key=(name,), where=f"{sql.Identifier(name).as_string()} <> ''"
    )
    assert relation_of(database, target).table.label == f"{name}.{name}"
    fills(connect, database, target, 20)


def test_the_name_in_sql_notation(connect, database):
    connect.execute('CREATE SCHEMA "Odd Schema"')
    connect.execute('CREATE TABLE "Odd Schema"."order" (id int PRIMARY KEY, title text, embedding vector(8))')
    assert inspected(database, '"Odd Schema"."order"').table.label == "Odd Schema.order"
    refused(database, "Odd Schema.order", table="Odd Schema.order")  # no name, says PostgreSQL up to 15
    refused(database, "there is no such table", table="order")


def test_set_and_where_may_use_the_tables_own_name(connect, database):
    connect.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, seen int, embedding vector(8))")
    connect.execute("INSERT INTO docs VALUES (1, 'one', 5), (2, 'two', 6)")
    target = Target(table="docs", text="title", where="docs.seen > 5", set=("seen = docs.seen + 100",))
    fills(connect, database, target, 1)
    assert connect.execute("SELECT seen FROM docs ORDER BY id").fetchall() == [(5,), (106,)]


# -- keys


def test_a_composite_key_comes_in_the_order_of_its_index(connect, database):
    connect.execute("CREATE TABLE docs (a text, b uuid, c int, title text, embedding vector(8), PRIMARY KEY (c, a))")
    assert [column.name for column in inspected(database).table.key] == ["c", "a"]
    assert [column.name for column in inspected(database, key=("a", "c")).table.key] == ["c", "a"]


def test_a_unique_index_other_than_the_primary_key(connect, database):
    connect.execute(
        "CREATE TABLE docs (id int PRIMARY KEY, slug text NOT NULL, lang text NOT NULL, title text,"
        " embedding vector(8), UNIQUE (lang, slug))"
    )
    assert [column.name for column in inspected(database).table.key] == ["id"]
    assert [column.name for column in inspected(database, key=("slug", "lang")).table.key] == ["lang", "slug"]
    refused(database, "--key slug", "use --key id; --key lang --key slug", key=("slug",))


def test_an_included_column_is_no_part_of_the_key(connect, database):
    connect.execute("CREATE TABLE docs (id int, title text, embedding vector(8), PRIMARY KEY (id) INCLUDE (title))")
    assert [column.name for column in inspected(database).table.key] == ["id"]


KEYS = {
    "partial": ("slug text NOT NULL", "CREATE UNIQUE INDEX ON docs (slug) WHERE slug <> ''"),
    "deferrable": ("slug text NOT NULL", "ALTER TABLE docs ADD UNIQUE (slug) DEFERRABLE INITIALLY IMMEDIATE"),
    "deferred": ("slug text NOT NULL", "ALTER TABLE docs ADD UNIQUE (slug) DEFERRABLE INITIALLY DEFERRED"),
    "nullable": ("slug text", "CREATE UNIQUE INDEX ON docs (slug)"),
    "nulls not distinct": ("slug text", "CREATE UNIQUE INDEX ON docs (slug) NULLS NOT DISTINCT"),
    "over an expression": ("slug text NOT NULL", "CREATE UNIQUE INDEX ON docs (lower(slug))"),
    "column and expression": ("slug text NOT NULL", "CREATE UNIQUE INDEX ON docs (slug, lower(slug))"),
    "not unique": ("slug text NOT NULL", "CREATE INDEX ON docs (slug)"),
    "wider": ("slug text NOT NULL", "CREATE UNIQUE INDEX ON docs (slug, title)"),
}


@pytest.mark.parametrize("kind", KEYS)
def test_an_index_that_does_not_tell_rows_apart_is_no_key(connect, database, kind):
    column, index = KEYS[kind]
    if "NULLS NOT" in index and connect.info.server_version < 150_000:
        needs("PostgreSQL 15")
    connect.execute(f"CREATE TABLE docs ({column}, title text, embedding vector(8))")
    connect.execute(index)
    refused(database, "--key slug", "a unique index that is valid", "add a primary key", key=("slug",))
    refused(database, "no primary key, and --key is not given")


def test_an_invalid_index_is_no_key(connect, database):
    """As a failed CREATE INDEX CONCURRENTLY leaves it."""
    connect.execute("CREATE TABLE docs (slug text NOT NULL, title text, embedding vector(8))")
    connect.execute("INSERT INTO docs VALUES ('twice'), ('twice')")
    with pytest.raises(Exception, match="could not create unique index"):
        connect.execute("CREATE UNIQUE INDEX CONCURRENTLY ON docs (slug)")
    refused(database, "--key slug", "valid", key=("slug",))


def test_a_deferrable_primary_key_is_none(connect, database):
    connect.execute("CREATE TABLE docs (id int PRIMARY KEY DEFERRABLE, title text, embedding vector(8))")
    refused(database, "valid, not partial, not deferrable")


def test_identity_and_generated_columns_may_be_keys(connect, database):
    connect.execute(
        "CREATE TABLE docs (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title text NOT NULL,"
        " slug text GENERATED ALWAYS AS (lower(title)) STORED NOT NULL UNIQUE, embedding vector(8))"
    )
    connect.execute("INSERT INTO docs (title) SELECT 'Title ' || n FROM generate_series(1, 20) n")
    fills(connect, database, Target(table="docs", text="{title}", where="id <= 10"), 10)
    fills(connect, database, Target(table="docs", text="{title}", key=("slug",)), 10)


TYPED_KEYS = {
    "bigint": "n",
    "int": "n",
    "smallint": "n",
    "uuid": "gen_random_uuid()",
    "text": "'key ' || n",
    "varchar(20)": "'key ' || n",
    "char(12)": "'key ' || n",
    'text COLLATE "C"': "'key ' || n",
    "numeric": "n / 7.0",
    "numeric(12, 3)": "n / 7.0",
    "float8": "n / 7.0",
    "date": "date '2020-02-29' + n",
    "timestamptz": "timestamptz '2020-02-29 12:00 Europe/Berlin' + n * interval '1.000001 s'",
    "interval": "n * interval '1 month 1.5 s'",
    "bytea": "decode(lpad(to_hex(n), 8, '0'), 'hex')",
    "boolean": "n = 1",
    "colour": "enum_range(NULL::colour)",
    "short": "'key ' || n",
    "positive": "n",
    "inet": "inet '10.0.0.0' + n",
    "int[]": "ARRAY[n, n + 1]",
    "jsonb": "jsonb_build_object('n', n)",
    "int4range": "int4range(n, n + 1)",
}


@pytest.mark.parametrize("kind", TYPED_KEYS)
def test_keys_of_any_type(connect, database, kind):
    connect.execute("CREATE TYPE colour AS ENUM ('red', 'green blue')")
    connect.execute("CREATE DOMAIN short AS varchar(30) CHECK (value <> '')")
    connect.execute("CREATE DOMAIN positive AS bigint NOT NULL CHECK (value > 0)")
    rows = 2 if kind in ("boolean", "colour") else 20
    value = f"({TYPED_KEYS[kind]})[n]" if kind == "colour" else TYPED_KEYS[kind]
    connect.execute(f"CREATE TABLE docs (id {kind} PRIMARY KEY, title text, embedding vector(8))")
    connect.execute(f"INSERT INTO docs SELECT {value}, 'title ' || n FROM generate_series(1, {rows}) n")
    fills(connect, database, Target(table="docs", text="{title}"), rows)


# -- the embedding column


@pytest.mark.parametrize(
    ("declared", "kind", "dim"),
    [
        ("vector(8)", "vector", 8),
        ("vector", "vector", None),
        ("halfvec(8)", "halfvec", 8),
        ("halfvec", "halfvec", None),
        ("real[]", "real[]", None),
        ("real[8]", "real[]", None),
        ("float8[]", "double precision[]", None),
        ("float8_domain", "double precision[]", None),
        ("embedding_domain", "vector", 8),
        ("real_domain", "real[]", None),
    ],
)
def test_kinds_and_dimensions(connect, database, declared, kind, dim):
    connect.execute("CREATE DOMAIN embedding_domain AS vector(8)")
    connect.execute("CREATE DOMAIN float8_domain AS float8[] CHECK (cardinality(value) = 8)")
    connect.execute("CREATE DOMAIN real_domain AS real[] CHECK (cardinality(value) = 8)")
    connect.execute(f"CREATE TABLE docs (id int PRIMARY KEY, title text, embedding {declared})")
    connect.execute("INSERT INTO docs SELECT n, 'title ' || n FROM generate_series(1, 20) n")
    vector = inspected(database).table.vector
    assert (vector.kind, vector.dim) == (kind, dim)
    assert inspected(database, dim=8).table.vector.dim == 8
    fills(connect, database, Target(table="docs", text="{title}"), 20)
    assert inspected(database).table.vector.dim == 8


def test_dim_may_not_contradict_the_column(connect, database):
    connect.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, embedding halfvec(8))")
    refused(database, "--dim 9", "halfvec(8)", "leave --dim out", dim=9)


@pytest.mark.parametrize("kind", ["text", "numeric[]", "int[]", "sparsevec(8)", "bit(8)", "real", "jsonb"])
def test_a_column_of_another_type_is_refused(connect, database, kind):
    connect.execute(f"CREATE TABLE docs (id int PRIMARY KEY, title text, embedding {kind})")
    refused(
        database,
        "--column embedding of docs is of type",
        "must be a plain vector, halfvec, real[] or double precision[]",
    )


def test_a_generated_column_is_refused(connect, database):
    connect.execute(
        "CREATE TABLE docs (id int PRIMARY KEY, title text,"
        " embedding vector(2) GENERATED ALWAYS AS (ARRAY[1, length(title)]::real[]) STORED)"
    )
    refused(database, "is a generated column")


def test_missing_names_are_refused_with_what_there_is(connect, database):
    connect.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, embedding vector(8))")
    refused(database, "--column vec", "no such column", "ADD COLUMN vec vector", column="vec")
    refused(database, "--key nr", "no such column; its columns are embedding, id, title", key=("nr",))
    refused(database, "{company}, which is not a column", text="{company}")
    refused(database, "no column seen", set=("seen = now()",))
    refused(database, "--table nothing", "there is no such table", table="nothing")
    refused(database, "--table", "quotes", table='"docs')
    refused(database, "--table", table="docs; DROP TABLE docs")


@pytest.mark.parametrize("assignment", ["seen", "= now()", "seen = ", "  =  "])
def test_a_set_that_is_no_assignment(connect, database, assignment):
    connect.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, seen int, embedding vector(8))")
    refused(database, "is not an assignment", set=(assignment,))


def test_set_may_touch_neither_the_vector_nor_the_text(connect, database):
    connect.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, embedding vector(8))")
    refused(database, "assigns the embedding column itself", set=("embedding = NULL",))
    refused(database, "assigns title, which --text reads", set=("title = upper(title)",))
    refused(database, "assigns title, which --text reads", set=('"title" = upper(title)',))


# -- kinds of relations


@pytest.mark.parametrize(
    ("ddl", "says"),
    [
        ("CREATE VIEW docs AS SELECT * FROM base", "a view: name the table that it reads"),
        ("CREATE MATERIALIZED VIEW docs AS SELECT * FROM base", "a materialized view"),
        ("CREATE SEQUENCE docs", "a sequence"),
        ("CREATE INDEX docs ON base (title)", "an index: name its table"),
        ("CREATE TYPE docs AS (a int)", "a composite type"),
    ],
)
def test_what_is_not_a_table_is_refused(connect, database, ddl, says):
    connect.execute("CREATE TABLE base (id int PRIMARY KEY, title text, embedding vector(8))")
    connect.execute(ddl)
    refused(database, f"--table docs is {says}")


FOREIGN = (
    "CREATE FOREIGN DATA WRAPPER nowhere",
    "CREATE SERVER far FOREIGN DATA WRAPPER nowhere",
)


def test_a_foreign_table_is_refused(connect, database):
    for ddl in FOREIGN:
        connect.execute(ddl)
    connect.execute("CREATE FOREIGN TABLE docs (id int, title text, embedding vector(8)) SERVER far")
    refused(database, "a foreign table: run on the server that holds it")


def test_a_foreign_partition_is_refused(connect, database):
    for ddl in FOREIGN:
        connect.execute(ddl)
    connect.execute("CREATE TABLE docs (id int NOT NULL, title text, embedding vector(8)) PARTITION BY RANGE (id)")
    connect.execute("CREATE FOREIGN TABLE far_docs PARTITION OF docs FOR VALUES FROM (0) TO (10) SERVER far")
    with pytest.raises(ConfigError):
        inspected(database)


def test_partitions_to_two_levels(connect, database):
    connect.execute(
        "CREATE TABLE docs (id int, lang text, title text, embedding vector(8), PRIMARY KEY (lang, id))"
        " PARTITION BY LIST (lang)"
    )
    connect.execute("CREATE TABLE docs_en PARTITION OF docs FOR VALUES IN ('en') PARTITION BY RANGE (id)")
    connect.execute("CREATE TABLE docs_en_1 PARTITION OF docs_en FOR VALUES FROM (0) TO (15)")
    connect.execute('CREATE SCHEMA "else where"')
    connect.execute('CREATE TABLE "else where".docs_en_2 PARTITION OF docs_en FOR VALUES FROM (15) TO (99)')
    connect.execute("CREATE TABLE docs_rest PARTITION OF docs DEFAULT")
    connect.execute("INSERT INTO docs SELECT n, l, l || n FROM generate_series(1, 20) n, unnest(ARRAY['en', 'de']) l")
    relation = inspected(database)
    assert not relation.table.plain
    assert [leaf.name.as_string() for leaf in relation.table.leaves] == [
        '"else where"."docs_en_2"',
        '"public"."docs_en_1"',
        '"public"."docs_rest"',
    ]
    fills(connect, database, Target(table="docs", text="{title}"), 40)


def test_a_partitioned_table_without_partitions(connect, database):
    connect.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, embedding vector(8)) PARTITION BY RANGE (id)")
    relation = inspected(database)
    assert relation.table.leaves == ()
    assert read_all(database, relation, []).num_rows == 0


def test_children_by_inheritance_are_left_alone(connect, database):
    connect.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, embedding vector(8))")
    connect.execute("CREATE TABLE child (PRIMARY KEY (id)) INHERITS (docs)")
    connect.execute("INSERT INTO docs VALUES (1, 'parent')")
    connect.execute("INSERT INTO child VALUES (1, 'child')")
    fills(connect, database, Target(table="docs", text="{title}"), 1)
    assert connect.execute("SELECT count(embedding) FROM child").fetchone() == (0,)


def test_an_unlogged_and_a_temporary_name(connect, database):
    connect.execute("CREATE UNLOGGED TABLE docs (id int PRIMARY KEY, title text, embedding vector(8))")
    connect.execute("INSERT INTO docs VALUES (1, 'one')")
    fills(connect, database, Target(table="docs", text="{title}"), 1)


# -- the server


def test_vector_in_a_schema_off_the_search_path(connect, database):
    """As hosted servers have it."""
    connect.execute("CREATE SCHEMA extensions")
    connect.execute("ALTER EXTENSION vector SET SCHEMA extensions")
    connect.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, embedding extensions.vector(8))")
    connect.execute("CREATE TABLE halves (id int PRIMARY KEY, title text, embedding extensions.halfvec(8))")
    for table in ("docs", "halves"):
        connect.execute(f"INSERT INTO {table} SELECT n, 'title ' || n FROM generate_series(1, 20) n")
        assert inspected(database, table).table.vector.dim == 8
        fills(connect, database, Target(table=f"public.{table}", text="{title}"), 20)


def test_a_search_path_that_shadows_the_catalogue(connect, database):
    """Somebody's own ``=``, ``||`` and functions of the same names come first on the path."""
    connect.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, embedding vector(8))")
    connect.execute("INSERT INTO docs SELECT n, 'title ' || n FROM generate_series(1, 20) n")
    connect.execute("CREATE SCHEMA evil")
    for name, result in (("sha256(bytea)", "bytea"), ("btrim(text, text)", "text"), ("octet_length(text)", "int")):
        connect.execute(f"CREATE FUNCTION evil.{name} RETURNS {result} LANGUAGE sql AS $$ SELECT NULL::{result} $$")
    connect.execute("CREATE FUNCTION evil.no(int, int) RETURNS bool LANGUAGE sql AS 'SELECT false'")
    connect.execute("CREATE OPERATOR evil.= (LEFTARG = int, RIGHTARG = int, FUNCTION = evil.no)")
    name = connect.execute("SELECT current_database()").fetchone()[0]
    connect.execute(
        sql.SQL("ALTER DATABASE {} SET search_path = evil, pg_catalog, public").format(sql.Identifier(name))
    )
    fills(connect, database, Target(table="docs", text="{title}"), 20)


def test_timeouts_are_never_looser_than_the_databases(connect, database):
    connect.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, embedding vector(8))")
    assert inspected(database).access.settings["statement_timeout"] == "60000"
    name = sql.Identifier(connect.execute("SELECT current_database()").fetchone()[0])
    connect.execute(sql.SQL("ALTER DATABASE {} SET statement_timeout = '7s'").format(name))
    connect.execute(sql.SQL("ALTER DATABASE {} SET lock_timeout = '9min'").format(name))
    settings = inspected(database).access.settings
    assert settings["statement_timeout"] == "7000"
    with closing(Database(database).connect()) as connection, transaction(connection, settings) as cursor:
        assert cursor.execute("SHOW lock_timeout").fetchone() == ("5s",)
    connect.execute(sql.SQL("ALTER DATABASE {} SET statement_timeout = '2s'").format(name))
    assert inspected(database).access.reading["lock_timeout"] == "1500"  # else it would look like too large a batch
    connect.execute(sql.SQL("ALTER DATABASE {} SET lock_timeout = '1s'").format(name))
    assert inspected(database).access.settings["lock_timeout"] == "1000"


def test_a_schema_that_the_role_may_not_use_is_named(connect, database):
    make_docs(connect, 3)
    connect.execute("CREATE SCHEMA hidden; ALTER TABLE docs SET SCHEMA hidden; CREATE VIEW docs AS SELECT 1")
    with role(connect, database) as theirs:
        refused(theirs, "permission denied for schema hidden: GRANT USAGE", table="hidden.docs")


@pytest.mark.parametrize(
    ("domain", "dim"),
    [("vector(8)", 8), ("vector CHECK (vector_dims(value) = 8)", None), ("real[]", None), ("float8[]", None)],
)
def test_domains_over_domains(connect, database, domain, dim):
    connect.execute(f"CREATE DOMAIN inner_one AS {domain}; CREATE DOMAIN outer_one AS inner_one CHECK (true)")
    connect.execute("CREATE DOMAIN name_one AS text; CREATE DOMAIN name_two AS name_one")
    connect.execute("CREATE TABLE docs (id name_two PRIMARY KEY, title name_two, embedding outer_one)")
    connect.execute("INSERT INTO docs SELECT n, 'title ' || n FROM generate_series(1, 20) n")
    assert inspected(database).table.vector.dim == dim
    fills(connect, database, DOCS, 20)


@pytest.mark.parametrize("name", ["vecfill_s", "vecfill_l", "vecfill_w", "vecfill_staging", "vecfill_" + "x" * 55])
def test_a_table_may_have_a_name_of_ours(connect, database, name):
    make_docs(connect, 20, table=name)
    fills(connect, database, replace(DOCS, table=name), 20)
