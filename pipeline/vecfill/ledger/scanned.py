"""Which tables and partitions a run has read as a whole, so that the queue names all that changed in them since.

A leaf is known by the oid of a trigger: one that was detached and attached again has new triggers, and edits meanwhile
fired none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from vecfill.ledger.trigger_sql import TRIGGERS
from vecfill.postgres.database import Connection, Cursor
from vecfill.postgres.relation import Relation
from vecfill.postgres.tracking import Tracking
from vecfill.postgres.transaction import transaction

Triggers = Sequence[tuple[int, int, str, bool]]
"""Table, oid, name and whether it is enabled, of each trigger of tracking on a target and its partitions."""

_TRIGGERS = """
SELECT t.tgrelid, t.oid, t.tgname::pg_catalog.text, t.tgenabled IN ('O', 'A') FROM pg_catalog.pg_trigger AS t
WHERE t.tgrelid = ANY ($1::pg_catalog.oid[]) AND pg_catalog.starts_with(t.tgname::pg_catalog.text, $2)
  AND (SELECT p.pronamespace FROM pg_catalog.pg_proc AS p WHERE p.oid = t.tgfoid)
    = (SELECT n.oid FROM pg_catalog.pg_namespace AS n WHERE n.nspname = $3::pg_catalog.name)
"""


def triggers_of(cursor: Cursor, relation: Relation, tracking: Tracking) -> Triggers:
    """Returns the triggers of tracking on a target; not those that another ledger has on the same table."""
    parameters = list(relation.table.tree), f"vecfill_{tracking.id}_", tracking.schema
    return cursor.execute(_TRIGGERS, parameters).fetchall()


def complete(relation: Relation, found: Triggers) -> bool:
    """Whether all triggers are there and enabled; a partition has none for TRUNCATE."""
    on_table = Counter(table for table, *_ in found)
    rest = set(relation.table.tree) - {relation.table.oid}
    whole = on_table[relation.table.oid] == len(TRIGGERS) and all(on_table[one] >= len(TRIGGERS) - 1 for one in rest)
    return whole and all(enabled for *_, enabled in found)


def marks_of(relation: Relation, found: Triggers) -> dict[int, set[int]]:
    """The oids of a trigger that tell whether a leaf is the one that was read, of it and its partitions, by leaf."""
    marks = {table: oid for table, oid, name, _ in found if name.endswith("_insert")}
    own = {leaf.oid: {marks.get(leaf.oid, 0)} - {0} for leaf in relation.table.leaves}
    return {
        leaf.oid: own[leaf.oid] if leaf.only else {marks.get(one, 0) for one in relation.table.tree}
        for leaf in relation.table.leaves
    }


def marks_now(connection: Connection, relation: Relation) -> dict[int, set[int]]:
    """Returns what tells the leaves as they are now, for ``mark_scanned`` after they were read."""
    with transaction(connection, read_only=True) as cursor:
        return marks_of(relation, triggers_of(cursor, relation, relation.ledger))
