"""Takes vectors of unknown origin over as a model's, once a sample of them was made again and agrees."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from vecfill.backfill.checks import check_dimension
from vecfill.config.model import Model
from vecfill.config.run import RunOptions
from vecfill.config.target import Target
from vecfill.encode.load import load_model
from vecfill.encode.model.fingerprint import Fingerprint, fingerprint_of
from vecfill.encode.row_encoder import RowEncoder
from vecfill.encode.sample import SAME_MODEL_COSINE, Agreement, Verdict, agreement
from vecfill.errors import ConfigError, MixedModelsError
from vecfill.job import Stop
from vecfill.ledger import origins, origins_sql
from vecfill.ledger.lease import Lease
from vecfill.ledger.models import model_number, note_model, other_models
from vecfill.ledger.registry import Tracked, find_tracked
from vecfill.postgres.database import Connection
from vecfill.postgres.introspect import inspect
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import Selection, selection_of
from vecfill.postgres.session import Session
from vecfill.read.pieces import Pieces, page_ranges
from vecfill.read.units import PageRange, RowUnit
from vecfill.read.unreadable_rows import Rows
from vecfill.verification.judgement import StoredRow
from vecfill.verification.stored_rows import random_rows
from vecfill.wording import count_of

SAMPLE_ROWS = 100
"""Vectors to make again before the others are believed to be this model's."""

PIECE_PAGES = 1_000
"""Heap pages (8 MB) of one statement: some ten thousand rows at most."""


@dataclass(frozen=True, kw_only=True)
class Adoption:
    """Vectors of unknown origin that a model took over.

    Attributes:
        rows: their number.
        compared: vectors of the sample.
        agreeing: those of them that this model makes too.
    """

    rows: int
    compared: int
    agreeing: int


def adopt(session: Session, target: Target, model: Model) -> Adoption:
    """Takes over the vectors of unknown origin of a tracked target, except of rows edited since tracking began.

    Rows that move meanwhile, because of an update, may stay unknown; another call finds them.

    Raises:
        MixedModelsError: the sample shows that this model did not make them; all stay unknown.
        LeaseError: a run works on this target.
    """
    own = session.interruptible(lambda: fingerprint_of(model))  # may ask the hub
    stop, selection = Stop(), selection_of(target, "changed")
    with Lease(session, RunOptions().lease, stop=stop.set) as lease:
        tracked = session.run(lambda connection: _held(connection, target, own, lease))
        relation = tracked.relation
        sample = session.run(lambda connection: _sample(connection, relation, selection))
        if not sample:
            return Adoption(rows=0, compared=0, agreeing=0)
        found = _recomputed(session, relation, model, sample)
        _check(relation, model, found)
        session.run(lambda connection: _note(connection, tracked, selection))
        rows, pieces = 0, Pieces()
        for unit in page_ranges(relation, PIECE_PAGES):
            if not stop.is_set():
                rows += session.run(
                    functools.partial(_adopted, relation=relation, selection=selection, unit=unit, pieces=pieces)
                )
        lease.check(stop.reason)
        return Adoption(rows=rows, compared=found.n, agreeing=found.agreeing)


def _held(connection: Connection, target: Target, own: Fingerprint, lease: Lease) -> Tracked:
    """Finds the tracked target, with this model's number, and takes its lease."""
    tracked = find_tracked(connection, inspect(connection, target), target)
    if tracked is None:
        raise ConfigError(f"{target.table} is not tracked: run `vecfill track` with the same options first")
    number = model_number(connection, target.state_schema, own.digest, own.name, own.recorded)
    return lease.take(connection, tracked.with_model(number))


def _sample(connection: Connection, relation: Relation, selection: Selection) -> list[StoredRow]:
    only = origins_sql.adoptable(selection, relation)
    return random_rows(connection, relation, selection, SAMPLE_ROWS, only)


def _recomputed(session: Session, relation: Relation, model: Model, sample: list[StoredRow]) -> Agreement:
    """Compares the sample with the model's vectors of the same texts."""
    encoder = session.interruptible(lambda: load_model(model, dim=relation.table.vector.dim))
    check_dimension(relation, model, encoder.dim)
    encoding = RowEncoder(encoder).encode([row.text for row in sample])
    rows = [row for row in range(len(sample)) if encoding.vectors[row].any()]
    return agreement([sample[row].vector.tolist() for row in rows], encoding.vectors[rows])


def _check(relation: Relation, model: Model, found: Agreement) -> None:
    if found.n and found.verdict is Verdict.SAME:
        return
    raise MixedModelsError(
        f"{found.agreeing} of {count_of(found.n, 'sampled vector')} of "
        f"{relation.table.label}.{relation.table.vector.name} agree with model {model.name} (cosine of "
        f"{SAME_MODEL_COSINE} or more; median cosine {found.median_cosine:.2f}), so "
        "they are not adopted: the target is tracked, and they stay unknown; adopt them with the model that made "
        "them, or replace them by `vecfill run --select all`"
    )


def _note(connection: Connection, tracked: Tracked, selection: Selection) -> None:
    note_model(connection, tracked, other_models(connection, tracked, selection))
    origins.forget_scans(connection, tracked.relation)


def _adopted(
    connection: Connection, *, relation: Relation, selection: Selection, unit: PageRange, pieces: Pieces
) -> int:
    def adopt_piece(piece: RowUnit, some: Relation) -> Rows:
        return [(origins.adopt(connection, some, selection, some.table.leaves[piece.leaf], piece.bounds()),)]

    found = pieces.read(connection, relation, unit, adopt_piece)
    return sum(rows[0][0] for rows, error in found if not error)
