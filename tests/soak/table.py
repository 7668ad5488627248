"""The table of the soak, the edits that an application makes to it, and the truth: an encode of our own."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import psycopg

from vecfill.encode.hash_encoder import HashEncoder

ROWS, PARTS = 600, 3
COLUMNS = "id bigint NOT NULL, part int NOT NULL, title text, note text NOT NULL DEFAULT '', embedding vector(8)"
MAKE = {
    "plain": f"CREATE TABLE docs ({COLUMNS}, PRIMARY KEY (id, part))",
    "partitioned": f"CREATE TABLE docs ({COLUMNS}, PRIMARY KEY (id, part)) PARTITION BY LIST (part);"
    + "".join(f"CREATE TABLE docs_{n} PARTITION OF docs FOR VALUES IN ({n});" for n in range(PARTS)),
}


def fill(rows: int) -> str:
    """The statement that inserts rows."""
    return f"INSERT INTO docs (id, part, title) SELECT n, n % 3, 'title ' || n FROM generate_series(1, {rows}) n"


ROWS_NOW = "SELECT id, part, xmin::text, title, note, embedding::real[] FROM docs"

Key = tuple[int, int]


@dataclass(frozen=True)
class Row:
    """A row as the server shows it; ``version`` is its xmin."""

    key: Key
    version: str
    text: str
    vector: tuple[float, ...] | None


def rows_of(connection: psycopg.Connection, template: str) -> list[Row]:
    """All rows of the table, with the text that the template makes of them."""
    found = connection.execute(ROWS_NOW, binary=True).fetchall()
    return [
        Row((key, part), version, text_of(template, title, note), tuple(vector) if vector is not None else None)
        for key, part, version, title, note, vector in found
    ]


def text_of(template: str, title: str | None, note: str) -> str:
    """What the program makes of the template."""
    return template.replace("{title}", title or "").replace("{note}", note)


def open_rows(rows: list[Row]) -> list[Row]:
    """Rows with another vector than their text's, by an encode that knows nothing of the program's."""
    truth = HashEncoder(8).encode([row.text for row in rows]).vectors if rows else []
    return [
        row
        for row, vector in zip(rows, truth, strict=True)
        if (row.vector is not None if not row.text.strip() else row.vector is None or not _same(row.vector, vector))
    ]


def _same(one: tuple[float, ...], other: np.ndarray) -> bool:
    return bool(np.array_equal(np.array(one, np.float32), other))


def edits(chance: random.Random, kind: str) -> list[tuple[str, str]]:
    """A few statements of an application, as name and SQL."""
    return [_edit(chance, kind) for _ in range(chance.choice((1, 1, 2, 5)))]


def _edit(chance: random.Random, kind: str) -> tuple[str, str]:
    names = [name for name in _EDITS if name != "move" or kind == "partitioned"]
    name = chance.choices(names, [_EDITS[one][0] for one in names])[0]
    return name, _EDITS[name][1](chance)


def _some(chance: random.Random) -> str:
    first = chance.randrange(ROWS)
    return f"id BETWEEN {first} AND {first + chance.choice((0, 3, 40))}"


def _word(chance: random.Random) -> str:
    return f"word {chance.randrange(10**6)}"


def _key(chance: random.Random) -> str:
    return f"{chance.randrange(1, 2 * ROWS)}, {chance.randrange(PARTS)}"


_EDITS: dict[str, tuple[int, Callable[[random.Random], str]]] = {
    "insert": (
        5,
        lambda c: (
            "INSERT INTO docs (id, part, title) SELECT n, n % 3, 'new ' || n FROM generate_series("
            f"{(first := c.randrange(1, 2 * ROWS))}, {first + c.choice((1, 20))}) n ON CONFLICT DO NOTHING"
        ),
    ),
    "text": (9, lambda c: f"UPDATE docs SET title = '{_word(c)} ' || id WHERE {_some(c)}"),
    "text and back": (2, lambda c: f"UPDATE docs SET title = 'title ' || id WHERE {_some(c)}"),
    "other column": (4, lambda c: f"UPDATE docs SET note = '{_word(c)}' WHERE {_some(c)}"),
    "key": (2, lambda c: f"UPDATE docs SET id = {c.randrange(3 * ROWS, 10**9)} WHERE (id, part) = ({_key(c)})"),
    "key and back": (1, lambda c: f"UPDATE docs SET id = -id WHERE {_some(c)}; UPDATE docs SET id = -id WHERE id < 0"),
    "delete": (3, lambda c: f"DELETE FROM docs WHERE {_some(c)}"),
    "truncate": (0.15, lambda c: f"TRUNCATE docs; {fill(c.choice((0, ROWS)))}"),
    "upsert": (
        4,
        lambda c: (
            f"INSERT INTO docs (id, part, title) VALUES ({_key(c)}, '{_word(c)}') ON CONFLICT (id, part) DO"
            " UPDATE SET title = EXCLUDED.title"
        ),
    ),
    "deleted and back": (
        2,
        lambda c: (
            f"DELETE FROM docs WHERE (id, part) = ({(key := _key(c))});"
            f"INSERT INTO docs (id, part, title) VALUES ({key}, '{_word(c)}')"
        ),
    ),
    "text emptied": (2, lambda c: f"UPDATE docs SET title = '  ', note = '' WHERE {_some(c)}"),
    "vector nulled": (3, lambda c: f"UPDATE docs SET embedding = NULL WHERE {_some(c)}"),
    "move": (
        3,
        lambda c: (
            f"UPDATE docs SET part = {(part := c.randrange(PARTS))} WHERE {_some(c)} AND NOT EXISTS"
            f" (SELECT FROM docs o WHERE o.id = docs.id AND o.part = {part})"
        ),
    ),
    "subtransaction": (
        2,
        lambda c: (
            f"BEGIN; SAVEPOINT s; UPDATE docs SET title = 'no' WHERE {_some(c)}; ROLLBACK TO s;"
            f"UPDATE docs SET title = '{_word(c)}' WHERE {_some(c)}; COMMIT"
        ),
    ),
    "rolled back": (1, lambda c: f"BEGIN; UPDATE docs SET title = 'no' WHERE {_some(c)}; ROLLBACK"),
}
