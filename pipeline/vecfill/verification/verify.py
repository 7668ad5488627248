"""The verb: prepare, compare, look at the index, fix."""

from __future__ import annotations

import functools
import logging
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from vecfill.backfill.checks import check_dimension
from vecfill.backfill.result import RunResult
from vecfill.backfill.run import run
from vecfill.config.model import Model
from vecfill.config.run import RunOptions
from vecfill.config.target import Target
from vecfill.config.verify import VerifyOptions
from vecfill.encode.load import load_model
from vecfill.encode.row_encoder import RowEncoder
from vecfill.ledger import origins
from vecfill.postgres.database import Database
from vecfill.postgres.session import Session, open_session
from vecfill.verification.index_recall import IndexRecall, index_recall
from vecfill.verification.judgement import STATES, Judgements, StoredRow, VerifiedRow
from vecfill.verification.preparation import Prepared, prepare
from vecfill.verification.stored_rows import stored_rows
from vecfill.wording import count_of

log = logging.getLogger(__name__)

RECALL_ROWS = 100
"""Rows that are searched for through a vector index."""

HEALTHY_RECALL = 0.9

PROGRESS_S = 10.0

EXIT_OFF = 1


@dataclass(frozen=True, kw_only=True)
class VerifyResult:
    """What ``verify`` found. The keys of ``--json``.

    Attributes:
        table: ``schema.table``.
        model: the model that made the vectors again.
        tracked: the target is tracked, so that the origin of its vectors is known.
        compared: vectors read and compared.
        off: those that are not as they should be.
        counts: vectors by what they turned out to be.
        rows: the rows that are off or could not be compared; at most 10,000.
        recall: what a vector index finds; None without one.
        fixed: the run that embedded the rows again; None if none was asked for or needed.
        exit_code: 1 if any is off; after a fix, the run's.
    """

    table: str
    model: str
    tracked: bool
    compared: int
    off: int
    counts: dict[str, int]
    rows: tuple[VerifiedRow, ...]
    recall: IndexRecall | None
    fixed: RunResult | None
    exit_code: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(replace(self, fixed=None)), "fixed": self.fixed.as_dict() if self.fixed else None}


def verify(
    target: Target, model: Model, *, database: str | Database | None = None, options: VerifyOptions | None = None
) -> VerifyResult:
    """Embeds the texts of stored vectors again and compares; needs SELECT only, unless it is to fix.

    Args:
        target: the table, its text and its embedding column. ``where`` may select a part of a tracked target.
        model: the one that made the vectors.
        database: connection string; None takes libpq's environment.
        options: which vectors, and whether to fix; None takes the defaults.

    Raises:
        ConfigError: a setting cannot work; a fix needs a tracked target.
        MixedModelsError: a fix would mix this model's vectors with another's.
        LeaseError: another run works on the target to fix.
    """
    options = options or VerifyOptions()
    with open_session(database) as session:
        prepared = session.run(lambda connection: prepare(connection, target, model, fix=options.fix))
        found, sample = _compared(session, prepared, model, options)
        recall = session.run(lambda connection: index_recall(connection, prepared.relation, sample))
        _warn_of_index(recall)
        fixed = None
        if options.fix and found.off:
            again = RunOptions(select="changed", yes=True, offered=())
            fixed = run(prepared.whole, model, database=session.database, options=again)
    return VerifyResult(
        table=prepared.relation.table.label,
        model=model.name,
        tracked=found.tracked,
        compared=found.counts.total(),
        off=found.off,
        counts={state: found.counts[state] for state in STATES if found.counts[state]},
        rows=tuple(found.listed),
        recall=recall,
        fixed=fixed,
        exit_code=fixed.exit_code if fixed else EXIT_OFF if found.off else 0,
    )


def _warn_of_index(recall: IndexRecall | None) -> None:
    if recall and recall.found < HEALTHY_RECALL * recall.rows:
        log.warning(
            "index %s finds %d of %s by their own vectors: REINDEX it, or raise hnsw.ef_search or ivfflat.probes",
            *(recall.index, recall.found, count_of(recall.rows, "row")),
        )


def _compared(
    session: Session, prepared: Prepared, model: Model, options: VerifyOptions
) -> tuple[Judgements, list[StoredRow]]:
    """Compares the rows, queues those that are off to be fixed, and picks some to search for."""
    relation = prepared.relation
    found = Judgements(own=prepared.model, tracked=relation.tracking is not None)
    encoder, sample, said = None, _Sample(), time.monotonic()
    for rows in stored_rows(session, relation, prepared.selection, None if options.all else options.sample):
        if encoder is None:
            loaded = load_model(model, dim=relation.table.vector.dim)
            check_dimension(relation, model, loaded.dim)
            encoder = RowEncoder(loaded)
        recomputed = encoder.encode([row.text for row in rows])
        off = found.add(rows, recomputed)
        sample.add(rows)
        if options.fix and off:
            keys = [row.parts for row in off]
            mark = functools.partial(origins.distrust, relation=relation, selection=prepared.selection, keys=keys)
            session.run(mark)
        if recomputed.unasked.any():
            break  # the budget of the API is spent
        if time.monotonic() - said > PROGRESS_S:
            said = time.monotonic()
            rows_done = count_of(found.counts.total(), "row")
            log.info("%s: %s compared, %d off", relation.table.label, rows_done, found.off)
    return found, sample.rows


@dataclass
class _Sample:
    """Picks ``RECALL_ROWS`` of any number of rows, each with the same chance (Vitter's algorithm R)."""

    rows: list[StoredRow] = field(default_factory=list)
    seen: int = 0

    def add(self, rows: Sequence[StoredRow]) -> None:
        for row in rows:
            if not row.vector.any():
                continue
            self.seen += 1
            if len(self.rows) < RECALL_ROWS:
                self.rows.append(row)
            elif (place := random.randrange(self.seen)) < RECALL_ROWS:  # noqa: S311
                self.rows[place] = row
