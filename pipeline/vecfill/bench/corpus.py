"""The texts of a benchmark: a table's, a file's lines, the built-in listings, or a mix of lengths made of them.

``bench api`` also takes labels: rows of equal labels belong together.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import chain, cycle, islice
from pathlib import Path

import psycopg
from psycopg import sql

from vecfill.backfill.checks import check_sql
from vecfill.bench.ours import missing_texts
from vecfill.config.target import Target
from vecfill.demo import listings
from vecfill.demo.listings import Listing
from vecfill.errors import ConfigError
from vecfill.postgres import target_sql
from vecfill.postgres.database import Connection, Database
from vecfill.postgres.driver_errors import server_message
from vecfill.postgres.introspect import inspect
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import MISSING
from vecfill.postgres.transaction import transaction

SHORTEST, LONGEST = 8, 512
"""Tokens of the mixed corpus's texts; the logarithm is spread evenly between them."""

_PIECE = re.compile(r"\w+|[^\w\s]")

TOKENS_PER_PIECE = 1.22
"""Word pieces that a word or sign of the listings makes (measured, BERT's vocabulary), beside two special tokens."""

_GOLDEN = 0.6180339887498949
"""Multiples of it, modulo one, fill the unit interval evenly, in the same order on every machine."""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Texts of a table, a file or the package's listings (``built_in``).

    Attributes:
        labels: as many as texts, None where a row has none; None without a label column.
        label: the label column's name.
    """

    name: str
    texts: tuple[str, ...]
    labels: tuple[str | None, ...] | None = None
    label: str | None = None
    built_in: bool = False

    def distinct(self) -> list[int]:
        """The first row of each distinct text: ties would decide between neighbours of equal texts."""
        return sorted({text: row for row, text in reversed([*enumerate(self.texts)])}.values())


def from_listings(rows: int) -> Corpus:
    """Takes ``rows`` of the listings, drawn evenly, as one text each; all where there are no more."""
    return _known("listings", (_text(one) for one in listings.load(rows)))


def labelled_listings(rows: int) -> Corpus:
    """Takes ``rows`` of the listings, drawn evenly: title and company, labelled by department, which no text holds."""
    found = listings.load(rows)
    return Corpus(
        name="listings",
        texts=tuple(f"{one.title} at {one.company}" for one in found),
        labels=tuple(one.department for one in found),
        label="department",
        built_in=True,
    )


def mixed(rows: int) -> Corpus:
    """Makes texts of 8 to 512 tokens, log-uniform, by joining listings until each is long enough."""
    pieces = cycle(_PIECE.findall(" ".join(_text(one) for one in listings.load())))
    lengths = (SHORTEST * (LONGEST / SHORTEST) ** (number * _GOLDEN % 1.0) for number in range(rows))
    counts = (max(1, round((length - 2) / TOKENS_PER_PIECE)) for length in lengths)
    return _known("mixed", (" ".join(islice(pieces, count)) for count in counts))


def _text(listing: Listing) -> str:
    known = (listing.company, listing.department, listing.location)
    return " · ".join([listing.title, *(part for part in known if part)])


def from_file(path: Path, rows: int) -> Corpus:
    """Takes the first ``rows`` lines that are not blank.

    Raises:
        ConfigError: the file cannot be read, or holds no text.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            found = list(islice((line.strip() for line in lines if line.strip()), rows))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--file {path} cannot be read: {error}: give a UTF-8 file with a text a line") from error
    return _known(str(path), (text.replace("\0", "") for text in found))


def from_table(database: Database, target: Target, rows: int) -> Corpus:
    """Takes the texts of the first ``rows`` rows that miss a vector; the table is only read.

    Raises:
        ConfigError: the target cannot be read, or no row misses a vector.
    """
    with _inspected(database, target) as (_, relation):
        found = missing_texts(database, relation, rows)
    if not found:
        raise ConfigError(
            f"no row of {relation.table.label} misses a vector and has a text: name another table, --file or --corpus"
        )
    return Corpus(name=relation.table.label, texts=tuple(found))


def labelled_table(database: Database, target: Target, rows: int, label: str | None) -> Corpus:
    """Takes the first ``rows`` rows that have a text, with a vector or without; the table is only read.

    Raises:
        ConfigError: the target or the label column cannot be read, or no row has a text.
    """
    with _inspected(database, target) as (connection, relation):
        try:
            with transaction(connection, read_only=True) as cursor:
                found = cursor.execute(_labelled(relation, label), (rows,)).fetchall()
        except psycopg.errors.UndefinedColumn as error:
            message = f"--label {label}: {relation.table.label} has no such column: {server_message(error)}"
            raise ConfigError(message) from error
    if not found:
        raise ConfigError(f"no row of {relation.table.label} has a text: name another table, or none for the listings")
    texts, labels = zip(*found, strict=True)
    return Corpus(name=relation.table.label, texts=texts, labels=labels if label else None, label=label)


@contextmanager
def _inspected(database: Database, target: Target) -> Iterator[tuple[Connection, Relation]]:
    """A connection, and the target as it is checked for reading."""
    with closing(database.connect()) as connection:
        relation = inspect(connection, target)
        check_sql(connection, relation, MISSING, writing=False)
        yield connection, relation


def _labelled(relation: Relation, label: str | None) -> sql.Composed:
    """Text and label of the rows that have a text and meet ``--where``; ``$1`` is the limit."""
    value = target_sql.as_text([target_sql.column(relation, label)]) if label else sql.NULL
    return sql.SQL("SELECT {}, {}\nFROM {}\nWHERE NOT {} AND {}\nLIMIT $1::pg_catalog.int8").format(
        relation.user_sql.text, value, target_sql.target(relation), relation.user_sql.blank, target_sql.where(relation)
    )


def _known(name: str, texts: Iterator[str]) -> Corpus:
    found = tuple(texts)
    if not found:
        raise ConfigError(f"{name} holds no text to measure with: give a file, a table or --corpus")
    return Corpus(name=name, texts=found)


def repeated(texts: Sequence[str], rows: int) -> tuple[str, ...]:
    """The texts, over and over, to ``rows`` of them; each time round with a number, so that they stay distinct."""
    rounds = (texts if turn == 0 else [f"{text} {turn}" for text in texts] for turn in range(-(-rows // len(texts))))
    return tuple(islice(chain.from_iterable(rounds), rows))


def duplicated(texts: Sequence[str], share: float) -> tuple[str, ...]:
    """As many texts, of which ``share`` occur before; the distinct ones come evenly from all."""
    distinct = list(dict.fromkeys(texts))
    count = max(1, min(len(distinct), round(len(texts) * (1.0 - share))))
    kept = [distinct[number * len(distinct) // count] for number in range(count)]
    return tuple(kept[int(number * _GOLDEN % 1.0 * count)] for number in range(len(texts)))
