"""Connection strings of libpq, Prisma, SQLAlchemy, JDBC, and as a file of variables leaves them."""

from __future__ import annotations

import logging

import pytest
from psycopg import conninfo

from vecfill.errors import ConfigError
from vecfill.postgres.connection_string import parse


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (
            "postgresql://u:p@h:5/x?pgbouncer=true&schema=public&connection_limit=1&sslmode=require",
            "u:p@h:5/x?sslmode=require",
        ),
        ("postgresql+psycopg://u@h/x", "u@h/x"),
        ("postgres+asyncpg://u:p%40@h/x", "u:p%40@h/x"),
        ("jdbc:postgresql://h:5432/x?user=u&password=sek", "u:sek@h:5432/x"),
        (" 'postgresql://u@h/x' ", "u@h/x"),
        ('"postgresql://u@h/x"\r\n', "u@h/x"),
        ("\ufeffpostgresql://u@h/x\r\n", "u@h/x"),
        ("postgresql:///?host=/tmp&dbname=x", "/x?host=/tmp"),
        ("postgresql://[::1]:5/x", "[::1]:5/x"),
        ("postgresql://h1:1,h2:2/x?target_session_attrs=read-write", "h1:1,h2:2/x?target_session_attrs=read-write"),
        ("postgresql://u:p#x@h/x?user=me@tenant", "me%40tenant:p#x@h/x"),
        ("host=h dbname=x", "h/x"),
    ],
)
def test_what_is_clear_is_understood(given, meant):
    assert parse(given) == conninfo.conninfo_to_dict(f"postgresql://{meant}")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("postgresql://u:sekret%zz@h/x", "the password of the database URL has a % without two"),
        ("postgresql://u:sekret@h/x%", "the database name of the database URL has a %"),
        ("postgresql://u@h/x?password=sekret%z", "the parameter password of the database URL has a %"),
        ("mysql://u:sekret@h/x", "the database URL begins with mysql://"),
        ("postgresql://u:sekret@h/x?foo=sekret", "the database URL has the parameter foo, which libpq does not know"),
        *((f"postgresql://u:se{one}kret@h/x", "unescaped @, / or ? in its password") for one in "@/?"),
        ("sekret", "is not a connection string"),
        ("host=h password=sekret sekret", "is not a connection string"),
    ],
)
def test_what_is_wrong_is_named_and_no_secret_shown(given, said):
    with pytest.raises(ConfigError) as refused:
        parse(given)
    assert said in str(refused.value)
    assert "kret" not in str(refused.value)


def test_what_is_ignored_is_said(caplog):
    with caplog.at_level(logging.INFO, "vecfill"):
        parse("postgresql://u:sekret@h/x?schema=app&pgbouncer=true")
    assert caplog.messages == [
        "ignoring schema of the database URL: write the schema before the table: --table schema.table",
        "ignoring pgbouncer of the database URL: vecfill prepares no statements, so a pooler needs no setting",
    ]
