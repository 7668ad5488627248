"""A table whose reading or writing waits at one row, so that what is killed there is killed in the middle."""

from __future__ import annotations

import psycopg
from tests.faults.processes import OURS, filled
from tests.tables import DIM, assert_every_vector_is_its_texts, make_docs, rest, vectors

ROWS, THEIRS = 10_000, 500
"""Rows, of which so many have a vector already, of another's making."""

AT = 7_000
"""The row that waits, far enough from the first that others are written before it."""

CLOSED = """
CREATE TABLE gate (stage text);
CREATE FUNCTION held(wanted text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
  WHILE EXISTS (SELECT FROM gate WHERE stage = wanted) LOOP
    PERFORM pg_advisory_xact_lock_shared(hashtext(wanted)), pg_sleep(0.02);  -- the lock shows who waits, and where
  END LOOP;
  RETURN true;
END $$;
CREATE FUNCTION readable(id bigint) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
  RETURN id <> {at} OR current_query() NOT LIKE '%sha256%' OR held('read');  -- a survey hashes nothing
END $$;
CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM held('write'); RETURN NEW; END $$;
CREATE TRIGGER act BEFORE UPDATE ON docs FOR EACH ROW WHEN (OLD.id = {at}) EXECUTE FUNCTION act();
"""

WAITING = f"""
SELECT DISTINCT pid FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE {OURS} AND locktype = 'advisory'
AND objid::bigint = ANY (SELECT hashtext(stage) & 4294967295 FROM unnest(%s::text[]) stage)
"""
STAGES = ["read", "write"]


class Gate:
    """The table, and what it was like before anything was done to it."""

    where = "readable(id)"

    def __init__(self, connect: psycopg.Connection) -> None:
        self._connect = connect
        make_docs(connect, ROWS)
        theirs = str([0.5] * DIM)
        connect.execute("UPDATE docs SET embedding = %s WHERE id <= %s", [theirs, THEIRS])
        connect.execute(CLOSED.format(at=AT))
        self._rest, self._theirs = rest(connect), dict(vectors(connect, "id"))

    def close(self, stage: str) -> None:
        """From now on ``read`` or ``write`` waits at row ``AT``."""
        self._connect.execute("INSERT INTO gate VALUES (%s)", [stage])

    def open(self, *stages: str) -> None:
        """Lets those stages go on, or all."""
        self._connect.execute("DELETE FROM gate WHERE stage = ANY (%s)", [list(stages) or STAGES])

    def waiting(self, *stages: str) -> list[int]:
        """Backends of ours that wait there."""
        return [pid for (pid,) in self._connect.execute(WAITING, [list(stages) or STAGES])]

    def reached(self, *stages: str) -> bool:
        """Whether one waits, and some rows have been written but not all."""
        return bool(self.waiting(*stages)) and THEIRS < filled(self._connect) < ROWS

    def assert_whole(self) -> None:
        """Every vector is its text's, those that were there are as they were, and no other column has changed."""
        found = dict(vectors(self._connect, "id"))
        assert {key: found[key] for key in self._theirs} == self._theirs
        assert rest(self._connect) == self._rest
        self._connect.execute("UPDATE docs SET embedding = NULL WHERE id <= %s", [THEIRS])
        assert_every_vector_is_its_texts(self._connect, rows=ROWS - THEIRS)
