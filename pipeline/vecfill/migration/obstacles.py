"""What goes with a column by its number: views, policies, generated columns, and other objects of the server."""

from __future__ import annotations

from dataclasses import dataclass

from vecfill.postgres.database import Connection
from vecfill.postgres.relation import Relation
from vecfill.postgres.session import transaction


@dataclass(frozen=True, kw_only=True)
class Obstacle:
    """An object that uses the old column, and goes on to use it whatever its name becomes.

    Attributes:
        kind: such as ``view`` or ``policy``.
        name: as the server writes it.
    """

    kind: str
    name: str


def obstacles_of(connection: Connection, relation: Relation) -> tuple[Obstacle, ...]:
    """Returns the objects that use the embedding column, but for its indexes and what tracking has made."""
    with transaction(connection, read_only=True) as cursor:
        rows = cursor.execute(_OBSTACLES, (list(relation.table.tree), relation.table.vector.name)).fetchall()
    return tuple(Obstacle(kind=kind, name=name) for kind, name in rows)


_OBSTACLES = """
SELECT DISTINCT CASE o.type
    WHEN 'rule' THEN (SELECT CASE v.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' ELSE 'rule' END
      FROM pg_catalog.pg_rewrite AS r JOIN pg_catalog.pg_class AS v ON v.oid = r.ev_class WHERE r.oid = d.objid)
    WHEN 'default value' THEN 'generated column' WHEN 'publication relation' THEN 'publication with a column list'
    ELSE o.type END,
  CASE WHEN o.type = 'rule' THEN (SELECT v.oid::pg_catalog.regclass::pg_catalog.text
      FROM pg_catalog.pg_rewrite AS r JOIN pg_catalog.pg_class AS v ON v.oid = r.ev_class WHERE r.oid = d.objid)
    ELSE o.identity END
FROM pg_catalog.pg_depend AS d
CROSS JOIN LATERAL pg_catalog.pg_identify_object(d.classid, d.objid, d.objsubid) AS o
JOIN pg_catalog.pg_attribute AS a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
WHERE d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = ANY ($1::pg_catalog.oid[])
  AND a.attname = $2::pg_catalog.text
  AND d.classid <> 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype = 'n' AND o.type <> 'table constraint'
  AND NOT (o.type = 'trigger' AND EXISTS (SELECT FROM pg_catalog.pg_trigger AS t WHERE t.oid = d.objid
    AND t.tgname::pg_catalog.text ~ '^vecfill_[0-9]+_(insert|edit|open|delete|truncate)$'))
  AND NOT (o.type = 'default value' AND EXISTS (
    SELECT FROM pg_catalog.pg_attrdef AS f WHERE f.oid = d.objid AND f.adrelid = a.attrelid AND f.adnum = a.attnum))
ORDER BY 1, 2
"""
"""Constraints and statistics are not among them: they go with the column when it is dropped."""
