"""The target: the user's settings, resolved once against the catalogue and checked before the first row is read."""

from __future__ import annotations

import re
from typing import Any

from psycopg import sql

from vecfill.config.target import Target
from vecfill.errors import ConfigError
from vecfill.postgres.catalogue import Column, columns_of, find_table, leaves_of, tree_of, type_name
from vecfill.postgres.database import Connection
from vecfill.postgres.indexes import indexes_of
from vecfill.postgres.key import key_of, usable_indexes
from vecfill.postgres.relation import (
    VECTOR_KINDS,
    Access,
    Relation,
    TargetTable,
    UserSql,
    VectorColumn,
    with_dimension,
)
from vecfill.postgres.server import check_versions, server_of, write_settings
from vecfill.postgres.stored_dimension import stored_dimension
from vecfill.postgres.template import (
    Template,
    blank_expression,
    parse_template,
    size_expression,
    sql_expressions,
    text_expression,
    verbatim_sql,
)
from vecfill.postgres.transaction import transaction
from vecfill.postgres.types import Type, type_of


def inspect(connection: Connection, target: Target, *, text_needed: bool = True, key_needed: bool = True) -> Relation:
    """Reads the catalogue and returns the whole target.

    Args:
        connection: to the target's database.
        target: the user's settings.
        text_needed: reject a target without a text; otherwise the text counts as empty but not blank.
        key_needed: reject a table without a key; otherwise the rows have no key, unless ``target.key`` gives one.

    Raises:
        ConfigError: no text although one is needed; no such table, key, column or field; a view or foreign table; a
            key that is not unique; a column without vectors; user SQL that does not parse; a server or pgvector that
            is too old.
    """
    encoding = connection.info.parameter_status("server_encoding") or "UTF8"
    with transaction(connection, read_only=True) as cursor:
        server = server_of(cursor)
        check_versions(connection.info.server_version, server.pgvector)
        table = find_table(cursor, target.table, server.block_bytes)
        columns = columns_of(cursor, table.oid)
        template = _template(target, columns, text_needed)
        tree = tree_of(cursor, table, columns.get(target.column), server.block_bytes)
        indexes = indexes_of(cursor, {one.oid: one.column for one in tree})
        name = sql.Identifier(table.schema, table.name)
        alias = f"target_{table.name}" if table.name.startswith("vecfill_") else table.name
        usable = usable_indexes(indexes, table, columns)
        key = key_of(cursor, usable, target.key, target.table, columns, needed=key_needed)
        own = TargetTable(
            label=f"{table.schema}.{table.name}",
            oid=table.oid,
            name=name,
            alias=alias,
            plain=table.kind == "r",
            columns=tuple(columns),
            key=key,
            vector=_vector(cursor, target, columns),
            leaves=leaves_of(table, tree, indexes),
            tree=tuple(one.oid for one in tree),
            indexes=tuple(indexes),
            triggers=any(one.triggers for one in tree),
            children=table.children,
        )
        relation = Relation(
            table=own,
            user_sql=_user_sql(target, template, columns, own, encoding),
            access=Access(
                server=server,
                policies=table.policies,
                arrays=not server.temporary,
                settings=write_settings(cursor, server),
            ),
        )
        return relation if own.vector.declared else _with_dimension(cursor, relation, target)


def _user_sql(
    target: Target, template: Template, columns: dict[str, Column], table: TargetTable, encoding: str
) -> UserSql:
    keys = {column.name for column in table.key}
    if target.text_sql is not None:
        text, size, blank = sql_expressions(target.text_sql, encoding)
    elif template.parts:
        text, size = text_expression(template, table.alias), size_expression(template, table.alias)
        blank = blank_expression(template, table.alias, encoding)
    else:
        text, size, blank = (verbatim_sql(one).format() for one in ("''::pg_catalog.text", "0", "false"))
    return UserSql(
        text=text,
        size=size,
        blank=blank,
        text_sql=verbatim_sql(target.text_sql) if target.text_sql is not None else None,
        where=verbatim_sql(target.where) if target.where and target.where.strip() else None,
        assignments=tuple(_assignment(text, columns, template, target, keys) for text in target.set),
        generated=target.text_sql is not None or any(columns[name].generated for name in template.fields),
    )


def _template(target: Target, columns: dict[str, Column], needed: bool) -> Template:
    if target.text is not None:
        return parse_template(target.text, columns)
    if needed and target.text_sql is None:
        raise ConfigError(f"target {target.table} has no text: give a template such as '{{title}}', or a column name")
    return Template(())


def _vector(cursor: Any, target: Target, columns: dict[str, Column]) -> VectorColumn:
    column = columns.get(target.column)
    if column is None:
        raise ConfigError(
            f"--column {target.column}: {target.table} has no such column: name an existing one, or add it: "
            f"ALTER TABLE {target.table} ADD COLUMN {target.column} vector(384)"
        )
    found = type_of(cursor, column.oid)
    kind = VECTOR_KINDS.get(found.base)
    if kind is None or column.generated:
        what = "a generated column" if column.generated else f"of type {type_name(cursor, column)}"
        raise ConfigError(
            f"--column {target.column} of {target.table} is {what}: it must be a plain vector, halfvec, real[] or "
            "double precision[] column"
        )
    declared = _declared_dimension(column, found, kind)
    if declared and target.dim and declared != target.dim:
        raise ConfigError(
            f"--dim {target.dim}: {target.column} of {target.table} is {kind}({declared}): leave --dim out"
        )
    return VectorColumn(
        name=column.name,
        kind=kind,
        dim=declared,
        declared=bool(declared),
        not_null=column.not_null,
        oid=column.oid,
        array=found.array,
    )


def _with_dimension(cursor: Any, relation: Relation, target: Target) -> Relation:
    """Takes the dimension from the vectors that ``where`` selects, else from ``--dim``."""
    stored = stored_dimension(cursor, relation)
    if stored and target.dim and stored != target.dim:
        which = "rows that --where selects" if target.where else "its rows"
        raise ConfigError(
            f"--dim {target.dim}: {target.column} of {target.table} holds vectors of {stored} dimensions in {which}: "
            "leave --dim out, or select the rows of one model with --where"
        )
    dim = stored or target.dim
    return with_dimension(relation, dim) if dim else relation


def _declared_dimension(column: Column, found: Type, kind: str) -> int | None:
    if kind.endswith("[]"):
        return None
    typmod = max(column.typmod, found.typmod)
    return typmod if typmod > 0 else None


def _assignment(
    text: str, columns: dict[str, Column], template: Template, target: Target, keys: set[str]
) -> tuple[str, sql.Composable]:
    left, equals, right = text.partition("=")
    name = left.strip()
    if re.fullmatch(r'".+"', name):
        name = name[1:-1].replace('""', '"')
    if not equals or not right.strip() or not name:
        raise ConfigError(f"--set {text!r} is not an assignment: write column = expression, such as updated_at = now()")
    if name not in columns:
        raise ConfigError(
            f"--set {text!r}: {target.table} has no column {name}; its columns are {', '.join(sorted(columns))}"
        )
    if name == target.column:
        raise ConfigError(f"--set {text!r} assigns the embedding column itself: leave it out")
    if name in keys:
        raise ConfigError(f"--set {text!r} assigns the key column {name}: rows could not be found again: leave it out")
    if name in template.fields:
        raise ConfigError(
            f"--set {text!r} assigns {name}, which --text reads: the vector would not match the new text: "
            f"remove {{{name}}} from --text"
        )
    return name, verbatim_sql(right.strip())
