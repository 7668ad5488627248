"""Short transactions: their settings and their first statement, in one round trip."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from psycopg import errors
from psycopg.pq import TransactionStatus
from tests.tables import wait_until

from vecfill.postgres.database import Database
from vecfill.postgres.transaction import set_local, transaction


def test_the_first_statement_brings_its_rows_and_knows_the_settings(connect, database):
    query = b"SELECT current_setting('TimeZone'), current_setting('lock_timeout'), $1::int"
    with closing(Database(database).connect()) as connection:
        with transaction(connection, {"lock_timeout": "7s"}, first=query, parameters=[5]) as cursor:
            assert cursor.fetchall() == [("UTC", "7s", 5)]
            assert cursor.execute("SELECT current_setting('transaction_isolation')").fetchone() == ("read committed",)
        assert connection.execute("SELECT current_setting('lock_timeout')").fetchone() == ("0",)


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"first": b"SELECT 1/0"}, errors.DivisionByZero),
        ({"settings": {"lock_timeout": "soon"}, "first": b"SELECT 1"}, errors.InvalidParameterValue),
        ({"first": b"UPDATE one SET n = 2", "read_only": True}, errors.ReadOnlySqlTransaction),
    ],
    ids=["the first statement", "a setting", "a change"],
)
def test_a_start_that_fails_leaves_no_transaction(connect, database, given, kind):
    connect.execute("CREATE TABLE one AS SELECT 1 AS n")
    with closing(Database(database).connect()) as connection:
        with pytest.raises(kind), transaction(connection, **given):
            pass
        assert connection.info.transaction_status == TransactionStatus.IDLE
        with transaction(connection, first=b"SELECT n FROM one") as cursor:
            assert cursor.fetchall() == [(1,)]


def test_what_fails_inside_is_rolled_back(connect, database):
    connect.execute("CREATE TABLE one AS SELECT 1 AS n")
    with closing(Database(database).connect()) as connection:
        with pytest.raises(ZeroDivisionError), transaction(connection, first=b"UPDATE one SET n = 2"):
            raise ZeroDivisionError
        assert connection.info.transaction_status == TransactionStatus.IDLE
    assert connect.execute("SELECT n FROM one").fetchone() == (1,)


def test_a_role_that_may_not_call_set_config_does_without(connect, database, monkeypatch):
    monkeypatch.setattr("vecfill.postgres.transaction._REFUSED", threading.Event())
    connect.execute("REVOKE EXECUTE ON FUNCTION pg_catalog.set_config(text, text, boolean) FROM PUBLIC")
    query = b"SELECT current_setting('TimeZone'), current_setting('lock_timeout'), $1::int"
    with closing(Database(database).connect()) as connection:
        connection.execute("SET ROLE pg_monitor")  # no superuser
        for number in (1, 2):
            with transaction(connection, {"lock_timeout": "7s"}, first=query, parameters=[number]) as cursor:
                assert cursor.fetchall() == [("UTC", "7s", number)]
                set_local(connection, {"lock_timeout": "8s"})
                assert cursor.execute("SELECT current_setting('lock_timeout')").fetchone() == ("8s",)
        connect.execute("CREATE TABLE hidden ()")
        with pytest.raises(errors.InsufficientPrivilege), transaction(connection, first=b"SELECT FROM hidden"):
            pass
        assert connection.info.transaction_status == TransactionStatus.IDLE


def test_connections_that_are_refused_at_once_all_do_without(connect, database, monkeypatch):
    monkeypatch.setattr("vecfill.postgres.transaction._REFUSED", threading.Event())
    connect.execute("REVOKE EXECUTE ON FUNCTION pg_catalog.set_config(text, text, boolean) FROM PUBLIC")
    waiting = "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted AND relation = 'pg_proc'::regclass"

    def ask() -> str:
        with closing(Database(database).connect()) as connection:
            connection.execute("SET ROLE pg_monitor")
            with transaction(connection, {"lock_timeout": "60s"}, first=b"SHOW TimeZone") as cursor:
                return cursor.fetchone()[0]

    with ThreadPoolExecutor(2) as threads:
        with connect.transaction():
            connect.execute("LOCK TABLE pg_catalog.pg_proc IN ACCESS EXCLUSIVE MODE")
            asked = [threads.submit(ask) for _ in range(2)]
            wait_until(lambda: connect.execute(waiting).fetchone() == (2,), 30)
        assert [one.result() for one in asked] == ["UTC", "UTC"]


def test_a_catalogue_that_is_locked_is_not_waited_for_without_end(connect, database, monkeypatch):
    """``set_config`` is looked up in it."""
    monkeypatch.setattr("vecfill.postgres.transaction.LOCK_TIMEOUT", "50ms")
    with closing(Database(database).connect()) as connection, connect.transaction():
        connect.execute("LOCK TABLE pg_catalog.pg_proc IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(errors.LockNotAvailable), transaction(connection, first=b"SELECT upper('a')"):
            pass
