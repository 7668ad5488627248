"""The column for the new vectors: its name, its type, and whether an index can take it."""

from __future__ import annotations

from vecfill.config.migrate import MigrateOptions
from vecfill.errors import ConfigError
from vecfill.postgres.database import Connection, Cursor
from vecfill.postgres.migrate_sql import MAX_INDEXED, MAX_NAME, NewColumn, suffixed
from vecfill.postgres.relation import Relation
from vecfill.postgres.search_sql import EXTENSION_SCHEMA
from vecfill.postgres.transaction import transaction


def new_column(connection: Connection, relation: Relation, dim: int, options: MigrateOptions) -> NewColumn:
    """Checks that the column can be added and indexed.

    Raises:
        ConfigError: it cannot.
    """
    old = relation.table.vector
    name, kind = options.to_column or suffixed(old.name, "_next"), options.to_type or old.kind
    if name in relation.table.columns:
        raise ConfigError(
            f"--to-column {name}: {relation.table.label} has a column of this name: choose another, or drop that one"
        )
    if len(name.encode()) > MAX_NAME:
        raise ConfigError(f"--to-column {name}: a name has at most {MAX_NAME} bytes: choose a shorter one")
    with transaction(connection, read_only=True) as cursor:
        _check_own(cursor, relation)
        schema = cursor.execute(EXTENSION_SCHEMA, ()).fetchone()
    if schema is None and not kind.endswith("[]"):
        raise ConfigError("this database has no pgvector: CREATE EXTENSION vector")
    if relation.table.vector_indexes and dim > MAX_INDEXED["halfvec"]:
        raise ConfigError(
            f"the new model gives {dim} dimensions, and a vector index takes at most {MAX_INDEXED['halfvec']} (as "
            f"halfvec), so {', '.join(relation.table.vector_indexes)} cannot have a twin: set --truncate-dim, or drop "
            "the index first"
        )
    return NewColumn(name=name, kind=kind, dim=dim, schema=None if kind.endswith("[]") or not schema else schema[0])


def _check_own(cursor: Cursor, relation: Relation) -> None:
    """Refuses a column that belongs to a parent, which alone can rename and drop it."""
    label, name = relation.table.label, relation.table.vector.name
    row = cursor.execute(_PARENT, (relation.table.oid, name)).fetchone()
    if row and row[1]:
        raise ConfigError(f"{label} is a partition of {row[0]}: name the partitioned table in --table")
    if row:
        raise ConfigError(
            f"{label} inherits column {name} from {row[0]}, so it can be neither renamed nor dropped here: run ALTER "
            f"TABLE {relation.table.name.as_string()} NO INHERIT {row[0]} first"
        )


_PARENT = """
SELECT h.inhparent::pg_catalog.regclass::pg_catalog.text, c.relispartition
FROM pg_catalog.pg_inherits AS h JOIN pg_catalog.pg_class AS c ON c.oid = h.inhrelid
JOIN pg_catalog.pg_attribute AS a ON a.attrelid = h.inhparent AND NOT a.attisdropped
WHERE h.inhrelid = $1::pg_catalog.oid AND a.attname = $2::pg_catalog.text LIMIT 1
"""
