"""Databases that do not speak UTF-8: texts are hashed as UTF-8 by the server, and travel as UTF-8."""

from __future__ import annotations

import secrets

import psycopg
import pytest
from psycopg import conninfo
from tests.tables import DOCS, MODEL, assert_every_vector_is_its_texts, make_docs

from vecfill.backfill.run import run


@pytest.fixture
def latin1(connect, database):
    """URI of a database in LATIN1 with pgvector."""
    name = f"vecfill_latin1_{secrets.token_hex(4)}"
    provider = "LOCALE_PROVIDER libc" if connect.info.server_version >= 150_000 else ""
    connect.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' {provider} LOCALE 'C'")
    uri = conninfo.make_conninfo(database, dbname=name)
    with psycopg.connect(uri, autocommit=True) as there:
        there.execute("CREATE EXTENSION vector")
    yield uri
    connect.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_a_database_in_latin1(latin1):
    texts = ["Müller", "café au lait", "£ 5 ± ½", "plain", "\xa0\xad"]
    with psycopg.connect(latin1, autocommit=True, client_encoding="UTF8") as there:
        make_docs(there, 0)
        with there.cursor() as cursor:
            rows = [(number, text) for number, text in enumerate(texts * 20, start=1)]
            cursor.executemany("INSERT INTO docs (id, title, note) VALUES (%s, %s, '')", rows)
        result = run(DOCS, MODEL, database=latin1)
        assert (result.exit_code, result.updated, result.stale) == (0, 100, 0)
        assert there.execute("SHOW server_encoding").fetchone() == ("LATIN1",)
        assert_every_vector_is_its_texts(there, rows=100)
