r"""The text of a row: a template such as ``{title} at {company}\n{description}``, compiled to one SQL expression.

Pure: no I/O. The server renders the text both when a row is read and when it is compared before the write.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from psycopg import sql

from vecfill.blocks import HASH_BYTES
from vecfill.errors import ConfigError

WHITE_SPACE = (
    "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680"
    "\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u200b\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
)
"""Code points of a blank text: Unicode's White_Space, Python's ``str.isspace``, and three zero-width ones."""

_ESCAPES = {r"\n": "\n", r"\t": "\t", r"\\": "\\"}
_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


@dataclass(frozen=True)
class Field:
    """A placeholder for the value of a column."""

    name: str


@dataclass(frozen=True)
class Template:
    """A parsed template: literals and fields, in order."""

    parts: tuple[str | Field, ...]

    @property
    def fields(self) -> tuple[str, ...]:
        """The distinct column names, in order."""
        return tuple(dict.fromkeys(part.name for part in self.parts if isinstance(part, Field)))


def verbatim_sql(text: str) -> sql.SQL:
    """Wraps SQL from the user or the catalogue, unchanged."""
    return sql.SQL(text)


def parse_template(text: str, columns: Collection[str]) -> Template:
    r"""Parses ``--text``: the exact name of a column, or a template with ``{column}`` fields.

    ``{{`` and ``}}`` are braces; ``\n``, ``\t`` and ``\\`` are a line feed, a tab and a backslash.

    Raises:
        ConfigError: an unclosed brace, an empty or unknown field, or no field at all.
    """
    if text in columns:
        return Template((Field(text),))
    template = Template(tuple(_parts(text)))
    if not template.fields:
        raise ConfigError(
            f"--text {text!r} is neither a column nor a template with a {{column}} in it: {_available(columns)}"
        )
    for name in template.fields:
        if name not in columns:
            raise ConfigError(f"--text names {{{name}}}, which is not a column of the table: {_available(columns)}")
    return template


def _parts(text: str) -> list[str | Field]:
    parts: list[str | Field] = []
    literal, end = "", 0
    for match in _TOKEN.finditer(text):
        literal += _unescape(text[end : match.start()])
        end = match.end()
        if match[0] in ("{{", "}}"):
            literal += match[0][0]
        elif match[1]:
            parts += [*([literal] if literal else []), Field(match[1])]
            literal = ""
        else:
            raise ConfigError(
                f"--text has {match[0]!r} at position {match.start()} without its other half or a column name: "
                "write {column} for a field, {{ and }} for braces"
            )
    literal += _unescape(text[end:])
    return [*parts, *([literal] if literal else [])]


def _unescape(literal: str) -> str:
    return re.sub(r"\\[nt\\]", lambda match: _ESCAPES[match[0]], literal)


def _available(columns: Collection[str]) -> str:
    return "the columns are " + ", ".join(sorted(columns))


def text_expression(template: Template, alias: str) -> sql.Composed:
    """Returns SQL for the row's text: NULL fields count as empty, so the text is never NULL."""
    return sql.SQL("({})").format(
        sql.SQL(" OPERATOR(pg_catalog.||) ").join(
            _value(part.name, alias) if isinstance(part, Field) else sql.SQL("{}::pg_catalog.text").format(part)
            for part in template.parts
        )
    )


def size_expression(template: Template, alias: str) -> sql.Composed:
    """Returns SQL for the approximate bytes of the row's text, from column sizes: the server reads no long text."""
    literals = sum(len(part.encode()) for part in template.parts if isinstance(part, str))
    sizes = [
        sql.SQL("pg_catalog.octet_length({})").format(_value(part.name, alias))
        for part in template.parts
        if isinstance(part, Field)
    ]
    return sql.SQL("({})").format(
        sql.SQL(" OPERATOR(pg_catalog.+) ").join([*sizes, *([sql.Literal(literals)] if literals else [])])
    )


def blank_expression(template: Template, alias: str, encoding: str) -> sql.Composed:
    """Returns SQL that is true if every field is NULL or white space: there is nothing to embed.

    Args:
        template: the parsed template.
        alias: the table's alias in the statement.
        encoding: of the server; code points that it lacks can occur neither in a text nor in the statement.
    """
    values = sql.SQL(" OPERATOR(pg_catalog.||) ").join(_value(name, alias) for name in template.fields)
    return _is_blank(values, encoding)


def _is_blank(value: sql.Composable, encoding: str) -> sql.Composed:
    spaces = "".join(
        char for char in WHITE_SPACE if encoding == "UTF8" or ord(char) < (0x100 if encoding == "LATIN1" else 0x80)
    )
    return sql.SQL("(pg_catalog.btrim({}, {}::pg_catalog.text) OPERATOR(pg_catalog.=) '')").format(value, spaces)


def sql_expressions(text: str, encoding: str) -> tuple[sql.Composed, sql.Composed, sql.Composed]:
    """Returns SQL for the text, its bytes, and whether it is blank, from the user's expression over the row."""
    value = sql.SQL("COALESCE((\n{}\n)::pg_catalog.text, '')").format(verbatim_sql(text))
    size = sql.SQL("pg_catalog.octet_length({})").format(value)
    return value, size, _is_blank(value, encoding)


def hash_expression(text: sql.Composable) -> sql.Composed:
    """Returns SQL for a text's hash: the first 16 bytes of the SHA-256 of its UTF-8, as bytea."""
    return sql.SQL("pg_catalog.substr(pg_catalog.sha256(pg_catalog.convert_to({}, 'UTF8')), 1, {})").format(
        text, HASH_BYTES
    )


def _value(column: str, alias: str) -> sql.Composed:
    return sql.SQL("COALESCE({}::pg_catalog.text, '')").format(sql.Identifier(alias, column))
