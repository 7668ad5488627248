"""Templates: how they parse, and that the server makes of them what Python would."""

from __future__ import annotations

import hashlib

import psycopg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from psycopg import sql
from tests.tables import on_server

from vecfill.errors import ConfigError
from vecfill.postgres.template import (
    WHITE_SPACE,
    Field,
    Template,
    blank_expression,
    hash_expression,
    parse_template,
    text_expression,
)

COLUMNS = ("title", "company", 'odd "{name}" %s', "ünï\\cödé")
storable = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
blanks = st.text(st.sampled_from(WHITE_SPACE), max_size=5)
values = st.none() | blanks | storable
parts = st.lists(storable.filter(bool) | st.sampled_from(COLUMNS).map(Field), min_size=1, max_size=6)
templates = parts.filter(lambda found: any(isinstance(part, Field) for part in found)).map(
    lambda found: Template(tuple(found))
)


def fields(*parts: str | Field) -> Template:
    return Template(parts)


@pytest.mark.parametrize(
    ("text", "template"),
    [
        ("title", fields(Field("title"))),
        ("{title}", fields(Field("title"))),
        ("{title} at {company}", fields(Field("title"), " at ", Field("company"))),
        ("{title}{title}", fields(Field("title"), Field("title"))),
        (r"{title}\n{company}\t.", fields(Field("title"), "\n", Field("company"), "\t.")),
        ("{title}\n{company}\t.", fields(Field("title"), "\n", Field("company"), "\t.")),
        (r"{title}\\n", fields(Field("title"), "\\n")),
        (r"{title}\x", fields(Field("title"), r"\x")),
        ("{{{title}}}", fields("{", Field("title"), "}")),
        ("{{title}} {title}", fields("{title} ", Field("title"))),
        ("{title}%s 'x' $1 --", fields(Field("title"), "%s 'x' $1 --")),
        ('odd "{name}" %s', fields(Field('odd "{name}" %s'))),
    ],
)
def test_parses(text, template):
    assert parse_template(text, COLUMNS) == template


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{title", "'{' at position 0"),
        ("title}", "'}' at position 5"),
        ("{title}}", "'}' at position 7"),
        ("{ti{tle}", "'{' at position 0"),
        ("{}", "'{}' at position 0"),
        ("{title} {salary}", "{salary}, which is not a column of the table: the columns are company"),
        ("{ title }", "{ title }, which is not a column"),
        ("salary", "neither a column nor a template"),
        ("", "neither a column nor a template"),
        ("{{title}}", "neither a column nor a template"),
    ],
)
def test_refuses(text, says):
    with pytest.raises(ConfigError) as error:
        parse_template(text, COLUMNS)
    assert says in str(error.value)


def written(template: Template) -> str:
    """The template as a user would have to write it."""
    escaped = str.maketrans({"\\": r"\\", "{": "{{", "}": "}}"})
    return "".join(f"{{{one.name}}}" if isinstance(one, Field) else one.translate(escaped) for one in template.parts)


def joined(template: Template) -> Template:
    """Literal parts that meet are one."""
    found: list[str | Field] = []
    for part in template.parts:
        if found and isinstance(part, str) and isinstance(found[-1], str):
            found[-1] += part
        else:
            found.append(part)
    return Template(tuple(found))


@given(templates)
def test_what_is_written_by_the_rules_parses_to_what_was_meant(template):
    plain = Template(tuple(Field("title") if isinstance(part, Field) else part for part in template.parts))
    assert parse_template(written(plain), COLUMNS) == joined(plain)


def test_fields_come_once_and_in_order():
    assert parse_template("{company}{title}{company}", COLUMNS).fields == ("company", "title")


@on_server
@given(templates, st.fixed_dictionaries(dict.fromkeys(COLUMNS, values)))
@example(fields(Field("title"), "\x00"[1:], "é'\\"), dict.fromkeys(COLUMNS))
@example(fields("always ", Field("title")), dict.fromkeys(COLUMNS, WHITE_SPACE))
def test_the_server_makes_the_text_that_python_would(connect, template, row):
    text = "".join(part if isinstance(part, str) else row[part.name] or "" for part in template.parts)
    blank = not "".join(row[name] or "" for name in template.fields).strip(WHITE_SPACE)
    digest = hashlib.sha256(text.encode()).digest()[:16]
    assert on_the_server(connect, template, row) == (text, blank, digest)


def on_the_server(connect: psycopg.Connection, template: Template, row: dict[str, str | None]) -> tuple:
    """Text, blank and hash of one row; the alias is odd too, and each value a parameter."""
    text = text_expression(template, 'a "row"')
    query = sql.SQL("SELECT {}, {}, {} FROM (VALUES ({})) AS {}").format(
        text,
        blank_expression(template, 'a "row"', "UTF8"),
        hash_expression(text),
        sql.SQL(", ").join(sql.SQL(f"${n + 1}::text") for n in range(len(row))),
        sql.SQL("{}({})").format(sql.Identifier('a "row"'), sql.SQL(", ").join(map(sql.Identifier, row))),
    )
    with psycopg.RawCursor(connect) as cursor:
        return cursor.execute(query, list(row.values())).fetchone()


def test_each_white_space_alone_is_blank(connect):
    template = fields("Title: ", Field("title"))
    for space in WHITE_SPACE:
        assert on_the_server(connect, template, {"title": space})[1], hex(ord(space))
        assert not on_the_server(connect, template, {"title": space + "x" + space})[1]


def test_white_space_is_all_that_python_and_unicode_call_so():
    assert {chr(point) for point in range(0x110000) if chr(point).isspace()} <= set(WHITE_SPACE)
