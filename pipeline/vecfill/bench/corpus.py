"""The texts of a benchmark: a table's, a file's lines, the built-in listings, or a mix of lengths made of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, cycle, islice
from pathlib import Path

from vecfill.backfill.checks import check_sql
from vecfill.config.target import Target
from vecfill.demo import listings
from vecfill.demo.listings import Listing
from vecfill.errors import ConfigError
from vecfill.postgres.database import Database
from vecfill.postgres.target import inspect
from vecfill.read.units import PageRange

SHORTEST, LONGEST = 8, 512
"""Tokens of the mixed corpus's texts; the logarithm is spread evenly between them."""

_PIECE = re.compile(r"\w+|[^\w\s]")

TOKENS_PER_PIECE = 1.22
"""Word pieces that a word or sign of the listings makes (measured, BERT's vocabulary), beside two special tokens."""

_GOLDEN = 0.6180339887498949
"""Multiples of it, modulo one, fill the unit interval evenly, in the same order on every machine."""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Texts, and what to call them."""

    name: str
    texts: tuple[str, ...]


def from_listings(rows: int) -> Corpus:
    """Takes ``rows`` of the listings, drawn evenly, as one text each; all where there are no more."""
    return _known("listings", (_text(one) for one in listings.load(rows)))


def mixed(rows: int) -> Corpus:
    """Makes texts of 8 to 512 tokens, log-uniform, by joining listings until each is long enough."""
    pieces = cycle(_PIECE.findall(" ".join(_text(one) for one in listings.load())))
    lengths = (SHORTEST * (LONGEST / SHORTEST) ** (number * _GOLDEN % 1.0) for number in range(rows))
    return _known("mixed", (" ".join(islice(pieces, _pieces(length))) for length in lengths))


def _pieces(tokens: float) -> int:
    return max(1, round((tokens - 2) / TOKENS_PER_PIECE))


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
    """Takes the texts of the first ``rows`` rows of the target that miss a vector; the table is only read.

    Raises:
        ConfigError: the target cannot be had, or no row misses a vector.
    """
    with closing(database.connect()) as connection:
        relation = inspect(connection, target)
        check_sql(connection, relation, writing=False)
    found: list[str] = []
    with closing(Read(database, relation)) as read:
        for leaf in range(len(relation.table.leaves)):
            pages = PageRange(leaf=leaf, first_page=0, end_page=None, rows=rows, limit=rows - len(found))
            found += read(pages)["text"].to_pylist() if len(found) < rows else []
    if not found:
        raise ConfigError(
            f"no row of {relation.table.label} misses a vector and has a text: name another table, --file or --corpus"
        )
    return Corpus(name=relation.table.label, texts=tuple(found))


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
