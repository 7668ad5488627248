"""Changes settings of a run in progress: it reads them from its row in the ledger every second."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from psycopg import sql

from vecfill.errors import ConfigError
from vecfill.postgres.database import Connection
from vecfill.postgres.relation import Relation
from vecfill.postgres.transaction import transaction


def adjust_run(connection: Connection, relation: Relation, changes: Mapping[str, Any]) -> None:
    """Changes settings of the run that holds the lease of a tracked target; None removes one.

    Raises:
        ConfigError: no run is in progress, or it could not record itself.
    """
    tracking = relation.ledger
    runs = sql.Identifier(tracking.schema, "run")
    added = json.dumps({name: value for name, value in changes.items() if value is not None})
    query = sql.SQL(_ADJUST).format(runs=runs, targets=tracking.targets)
    with transaction(connection, first=query, parameters=(tracking.id, list(changes), added)) as cursor:
        if cursor.fetchone() is None:
            raise ConfigError(
                f"no run of {relation.table.label} is in progress, and --set changes only that one: pass the settings "
                "to the next run"
            )


_ADJUST = """
UPDATE {runs} AS r SET settings =
  r.settings OPERATOR(pg_catalog.-) $2::pg_catalog.text[] OPERATOR(pg_catalog.||) $3::pg_catalog.jsonb
FROM {targets} AS t WHERE t.id OPERATOR(pg_catalog.=) $1::pg_catalog.int4
  AND t.held_until OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp()
  AND r.id::pg_catalog.text OPERATOR(pg_catalog.=) t.holder AND r.target OPERATOR(pg_catalog.=) t.id
RETURNING r.id
"""
