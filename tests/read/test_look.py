"""A look at a table whose rows only a scan can find."""

from __future__ import annotations

from contextlib import closing

from tests.tables import DOCS, make_docs, relation_of

from vecfill.postgres.database import Database
from vecfill.postgres.selection import selection_of
from vecfill.read.look import Lookout


def test_there_may_be_work_at_first_and_once_the_table_is_gone_also_if_nobody_ever_wrote_to_it(connect, database):
    make_docs(connect)
    relation, selection, lookout = relation_of(database), selection_of(DOCS, None), Lookout()
    with closing(Database(database).connect()) as connection:
        found = [lookout.look(connection, relation, selection).rows for _ in range(2)]
        connect.execute("DROP TABLE docs")
        found += [lookout.look(connection, relation, selection).rows for _ in range(2)]
    assert found == [1, 0, 1, 0]
