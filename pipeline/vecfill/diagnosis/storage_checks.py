"""How the table is stored: HOT updates, dead rows, autovacuum and statistics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from vecfill.backfill.forecast import TOAST_BYTES, vector_bytes
from vecfill.diagnosis import queries
from vecfill.diagnosis.finding import Finding, advice, ok, problem
from vecfill.diagnosis.look import Examined, statement
from vecfill.postgres.update_effects import written_columns

MANY_UPDATES, HOT_SHARE = 1_000, 0.5
DEAD_ROWS, DEAD_SHARE = 1_000, 0.2
"""Autovacuum begins at a fifth of the rows by default: above that it is late."""

FILLFACTOR = "fillfactor = 85, toast_tuple_target = 128"
"""Measured: 83% of the updates from NULL to a vector were HOT with it, none without (768 dimensions)."""


def storage(look: Examined) -> Iterator[Finding]:
    """All of it, from one row of statistics a table or partition."""
    rows = look.ask(queries.STORAGE, look.tree)
    vector = look.relation.table.vector
    toasted = vector_bytes(vector) > TOAST_BYTES
    indexed = look.ask(queries.INDEXED_COLUMNS, look.tree, written_columns(look.relation))
    names = {row.name for row in indexed} | ({vector.name} if look.relation.table.vector_indexes else set())
    yield from hot_updates(rows, indexed=sorted(names), toasted=toasted)
    yield from dead_rows(rows)
    yield from autovacuum(rows)
    yield from statistics(rows)


def hot_updates(rows: Sequence[Any], *, indexed: Sequence[str], toasted: bool) -> Iterator[Finding]:
    """Judges the share of updates that wrote no index entry."""
    updated, hot = sum(row.updated for row in rows), sum(row.hot for row in rows)
    if updated < MANY_UPDATES:
        yield ok("hot-updates", f"only {updated:,} updates since the statistics began")
        return
    share = f"{hot / updated:.0%} of {updated:,} updates were HOT"
    if indexed:
        yield ok("hot-updates", f"{share}: an update of {', '.join(indexed)}, which is indexed, cannot be")
    elif hot / updated >= HOT_SHARE or any("fillfactor" in option for row in rows for option in row.options):
        yield ok("hot-updates", share)
    else:
        rest = "toast_tuple_target moves the vectors out of the row" if toasted else "both leave room in the page"
        yield advice(
            "hot-updates",
            f"{share}; with these settings 83% were, in a measurement with 768 dimensions ({rest}); they hold for rows "
            "written from then on, and VACUUM FULL, which locks the table, applies them to all",
            *(statement(f"ALTER TABLE {{}} SET ({FILLFACTOR})", row.name) for row in rows),
        )


def dead_rows(rows: Sequence[Any]) -> Iterator[Finding]:
    """Judges the row versions that wait for vacuum."""
    late = [row for row in rows if row.dead > DEAD_ROWS and row.dead > DEAD_SHARE * max(row.live, 1)]
    for row in late:
        when = f"last vacuumed {row.vacuumed:%Y-%m-%d %H:%M} UTC" if row.vacuumed else "never vacuumed"
        yield advice(
            "dead-rows",
            f"{row.name}: {row.dead:,} dead and {row.live:,} live rows, {when}",
            statement("VACUUM (ANALYZE) {}", row.name),
        )
    if not late:
        yield ok("dead-rows", f"{sum(row.dead for row in rows):,} dead and {sum(row.live for row in rows):,} live rows")


def autovacuum(rows: Sequence[Any]) -> Iterator[Finding]:
    """Judges tables for which autovacuum is turned off."""
    off = [row for row in rows if {"autovacuum_enabled=false", "autovacuum_enabled=off"} & set(row.options)]
    for row in off:
        reset = statement("ALTER TABLE {} RESET (autovacuum_enabled)", row.name)
        yield problem("autovacuum", f"autovacuum is turned off for {row.name}", reset)
    if not off:
        yield ok("autovacuum", "on for this table")


def statistics(rows: Sequence[Any]) -> Iterator[Finding]:
    """Judges tables that were never analyzed."""
    never = [row for row in rows if row.analyzed is None and row.live > DEAD_ROWS]
    for row in never:
        analyze = statement("ANALYZE {}", row.name)
        yield advice("statistics", f"{row.name} was not analyzed since the server's statistics began", analyze)
    if not never:
        yield ok("statistics", "analyzed, or too small to matter")


CHECKS = {"dead-rows": storage}
