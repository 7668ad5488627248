"""Databases that do not speak UTF-8: texts are hashed as UTF-8 by the server, and travel as UTF-8."""

from __future__ import annotations

import secrets

import psycopg
import pytest
from psycopg import conninfo
from tests.tables import DOCS, INLINE, MODEL, assert_every_vector_is_its_texts, make_docs

from vecfill.backfill.run import run
from vecfill.errors import DatabaseError


@pytest.fixture
def other_encoding(request, connect, database):
    """URI of a database in another encoding with pgvector."""
    name = f"vecfill_encoding_{secrets.token_hex(4)}"
    provider = "LOCALE_PROVIDER libc" if connect.info.server_version >= 150_000 else ""
    connect.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{request.param}' {provider} LOCALE 'C'")
    uri = conninfo.make_conninfo(database, dbname=name)
    with psycopg.connect(uri, autocommit=True) as there:
        there.execute("CREATE EXTENSION vector")
    yield uri
    connect.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.parametrize("other_encoding", ["LATIN1"], indirect=True)
def test_a_database_in_latin1(other_encoding):
    texts = ["Müller", "café au lait", "£ 5 ± ½", "plain", "\xa0\xad"]
    with psycopg.connect(other_encoding, autocommit=True, client_encoding="UTF8") as there:
        make_docs(there, 0)
        with there.cursor() as cursor:
            rows = [(number, text) for number, text in enumerate(texts * 20, start=1)]
            cursor.executemany("INSERT INTO docs (id, title, note) VALUES (%s, %s, '')", rows)
        result = run(DOCS, MODEL, database=other_encoding)
        assert (result.exit_code, result.updated, result.stale) == (0, 100, 0)
        assert there.execute("SHOW server_encoding").fetchone() == ("LATIN1",)
        assert_every_vector_is_its_texts(there, rows=100)


def test_the_encoding_of_the_user_s_other_programs_does_not_matter(connect, database):
    make_docs(connect, 10)
    connect.execute("UPDATE docs SET title = '漢字' WHERE id = 3")
    result = run(DOCS, MODEL, database=conninfo.make_conninfo(database, client_encoding="LATIN1"), options=INLINE)
    assert (result.exit_code, result.updated) == (0, 10)
    assert_every_vector_is_its_texts(connect, rows=10)


@pytest.mark.parametrize("other_encoding", ["SQL_ASCII"], indirect=True)
def test_a_key_that_is_not_utf8_is_an_error_that_names_its_row(other_encoding):
    with psycopg.connect(other_encoding, autocommit=True) as there:
        make_docs(there, 10)
        there.execute(
            "UPDATE docs SET note = CASE id WHEN 3 THEN convert_from('\\xe9'::bytea, 'SQL_ASCII') ELSE title END"
        )
        there.execute("ALTER TABLE docs DROP CONSTRAINT docs_pkey, ADD PRIMARY KEY (note)")
        with pytest.raises(
            DatabaseError, match=r"not even the key of the row at ctid \(0,13\) of public\.docs can be read"
        ):
            run(DOCS, MODEL, database=other_encoding, options=INLINE)


@pytest.mark.parametrize("other_encoding", ["SQL_ASCII"], indirect=True)
def test_texts_that_are_not_utf8_are_set_aside_by_key(other_encoding):
    with psycopg.connect(other_encoding, autocommit=True) as there:
        make_docs(there, 100)
        there.execute("UPDATE docs SET title = convert_from('\\xe9'::bytea, 'SQL_ASCII') WHERE id IN (3, 77)")
        result = run(DOCS, MODEL, database=other_encoding, options=INLINE)
        assert (result.exit_code, result.updated, result.failed) == (3, 98, 2)
        assert sorted((row.key, row.error) for row in result.quarantine) == [
            (key, 'cannot be read: invalid byte sequence for encoding "UTF8": 0xe9 (SQLSTATE 22021)')
            for key in ("3", "77")
        ]
