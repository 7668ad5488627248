"""The column for the new vectors: its name, its type, and whether an index can take it."""

from __future__ import annotations

from vecfill.config.migrate import MigrateOptions
from vecfill.errors import ConfigError
from vecfill.postgres.database import Connection
from vecfill.postgres.migrate_sql import MAX_INDEXED, MAX_NAME, NewColumn, suffixed
from vecfill.postgres.relation import Relation
from vecfill.postgres.search_sql import EXTENSION_SCHEMA
from vecfill.postgres.session import transaction


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
