"""The first half of a run: introspect, check, survey and forecast. Nothing is written, and no engine is started."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import psycopg

from vecfill.backfill import checks
from vecfill.backfill.forecast import Forecast, confirm, forecast
from vecfill.backfill.startup import StartupTimes
from vecfill.config.model import Model
from vecfill.config.run import RunOptions
from vecfill.config.target import Target
from vecfill.encode.model_location import is_local, portable
from vecfill.encode.prompts import prompt_line
from vecfill.encode.stage import EncodeSpec
from vecfill.job import Job
from vecfill.postgres.database import Connection
from vecfill.postgres.introspect import inspect
from vecfill.postgres.relation import Relation
from vecfill.postgres.row_security import check_visible
from vecfill.postgres.selection import Selection, selection_of
from vecfill.postgres.session import Session
from vecfill.postgres.update_effects import update_effects
from vecfill.read.source import TableSource
from vecfill.read.survey import Coverage, Survey
from vecfill.write.sink import TableSink

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A run that is ready to drain.

    Attributes:
        target: the user's settings.
        relation: the target as the catalogue describes it.
        model: the model that makes the vectors.
        source: the target as a source.
        found: the result of the survey.
        job: the job for the engine; None if no row is eligible.
        forecast: the cost for the server; None if no row is eligible.
        startup: the clock of the start-up.
    """

    target: Target
    relation: Relation
    model: Model
    source: TableSource
    found: Survey
    job: Job | None = None
    forecast: Forecast | None = None
    startup: StartupTimes = field(default_factory=StartupTimes)

    @property
    def before(self) -> Coverage:
        """The coverage before the run."""
        return self.found.coverage


def prepare(
    session: Session,
    target: Target,
    model: Model,
    options: RunOptions,
    *,
    selection: Selection | None = None,
    consent: Callable[[str], bool] = lambda _: False,
) -> Prepared:
    """Checks a run and counts its work.

    Args:
        session: to the target's database.
        target: the table, its text and its embedding column.
        model: the model that makes the vectors.
        options: limits of the run.
        selection: the rows to take; None lets the target decide.
        consent: called if the forecast exceeds a limit and ``options.yes`` is not set; True starts the run.

    Raises:
        ConfigError: something cannot work as given, or consent was refused.
        ServerGoneError: the server did not recover.
    """
    startup, selection = StartupTimes(), selection or selection_of(target)
    source, found = _surveyed(session, target, selection, options)
    relation, coverage = source.relation, found.coverage
    checks.suggest_index(relation, selection, coverage.missing + coverage.empty)
    if is_local(model) or coverage.missing:
        relation = session.interruptible(lambda: checks.settle_dimension(relation, model))  # may ask the hub
        source = TableSource(session=session, relation=relation, selection=selection)
    if not coverage.missing:
        return Prepared(target=target, relation=relation, model=model, source=source, found=found, startup=startup)
    if line := session.interruptible(lambda: prompt_line(model)):  # may ask the hub
        log.info("%s", line, extra={"model": model.name})
    effects = session.run(lambda connection: update_effects(connection, relation))
    ahead = forecast(relation, found, effects, options.limit)
    confirm(ahead, relation.table.label, consent, yes=options.yes)
    sample: checks.Sample = ()
    if coverage.filled:
        sample = session.run(
            lambda connection: checks.draw_sample(connection, relation, selection, scanned=not coverage.estimated)
        )
    startup.done("survey")
    return Prepared(
        target=target,
        relation=relation,
        model=model,
        source=source,
        found=found,
        job=_job(source, session, model, sample, options),
        forecast=ahead,
        startup=startup,
    )


def _surveyed(
    session: Session, target: Target, selection: Selection, options: RunOptions
) -> tuple[TableSource, Survey]:
    """Inspects and counts the target; once more if another session seems to have changed it in between."""

    def source() -> TableSource:
        relation = session.run(lambda connection: _inspected(connection, target, selection, options))
        return TableSource(session=session, relation=relation, selection=selection)

    first = source()
    try:
        return first, first.survey()
    except (psycopg.ProgrammingError, psycopg.InternalError, psycopg.NotSupportedError):
        second = source()
        return second, second.survey()


def _inspected(connection: Connection, target: Target, selection: Selection, options: RunOptions) -> Relation:
    relation = inspect(connection, target)
    checks.check_writable(relation)
    checks.check_sql(connection, relation, selection)
    check_visible(connection, relation)
    checks.warn_no_row_can_miss(relation, selection)
    checks.check_write(connection, relation, selection)
    checks.warn_known_problems(connection, relation, standbys=options.write_limits.watches_standbys)
    return relation


def _job(source: TableSource, session: Session, model: Model, sample: checks.Sample, options: RunOptions) -> Job:
    relation = source.relation
    encode = EncodeSpec(
        model=portable(model),
        dim=relation.table.vector.dim,
        arity=relation.table.arity,
        sample=sample,
        column=f"{relation.table.label}.{relation.table.vector.name}",
        allow_mixed=options.allow_mixed,
        dedupe=options.dedupe,
    )
    sink = TableSink(
        database=session.database, relation=relation, selection=source.selection, limits=options.write_limits
    )
    return Job(source=source, encode=encode, sink=sink)
